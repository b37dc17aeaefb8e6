"""A seeded generator of a shop whose truth is known."""

from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import TRUTH_COLUMNS, Storefront, simulate

__all__ = ["TRUTH_COLUMNS", "Storefront", "StorefrontConfig", "simulate"]
