"""Settings of the stratified sampling of training rows."""

from typing import Literal

from pydantic import Field

from shelfrank.config.base import Count, Seed, Strict


class SamplingConfig(Strict):
    """Sampling of training rows (Paper: Sec. 3.4); validation and test rows are never sampled.

    Attributes:
        alpha: Target share of positive rows in each bin.
        beta: Target share of each bin's rows.
        n_bins: Bins within a category by the products' impressions, with equally many products each.
        category: Product feature whose values are the categories.
        unit: `impression` samples rows, as the paper does; `search` keeps whole results pages.
        seed: Seed of the sample.
    """

    alpha: float = Field(default=0.5, gt=0, lt=1)
    beta: float = Field(default=0.5, gt=0, le=1)
    n_bins: Count = 10
    category: str = "category"
    unit: Literal["impression", "search"] = "impression"
    seed: Seed = 0
