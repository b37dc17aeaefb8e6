"""From a search log to training arrays."""
