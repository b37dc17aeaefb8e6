"""The search for settings: loss weights on the simplex, fusion weights after training, sizes at random."""
