"""Training: one loop, its loss, its checkpoints, and how batch size and rate are picked."""
