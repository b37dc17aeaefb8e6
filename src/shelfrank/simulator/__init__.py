"""A seeded simulator of a shop with known ground truth."""

from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import TRUTH_COLUMNS, Storefront, simulate

__all__ = ["TRUTH_COLUMNS", "Storefront", "StorefrontConfig", "simulate"]
