"""Personalized, multi-task product-search ranking from search logs."""

__version__ = "0.1.0"
