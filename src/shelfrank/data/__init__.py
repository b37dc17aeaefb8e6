"""The columnar store between preparation and training."""
