"""A seeded generator of a shop whose truth is known."""

from shelfrank.logs.storefront.config import StorefrontConfig
from shelfrank.logs.storefront.simulate import TRUTH_COLUMNS, Storefront, simulate

__all__ = ["TRUTH_COLUMNS", "Storefront", "StorefrontConfig", "simulate"]
