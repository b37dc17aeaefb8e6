"""Settings of the stratified sampling of training rows."""

from typing import Literal

from pydantic import Field

from shelfrank.config.base import Count, Seed, Strict


class SamplingConfig(Strict):
    """Which training rows are kept (Paper: Sec. 3.4); validation and test rows always are.

    Attributes:
        alpha: Requested share of positive rows in each bin.
        beta: Requested share of each bin's rows.
        n_bins: Bins within a category, of equally many products each, by how often a product was shown.
        category: Product feature whose values are the categories.
        unit: `impression` samples rows, as the paper does; `search` keeps whole result pages.
        seed: Decides which rows of a stratum are taken.
    """

    alpha: float = Field(default=0.5, gt=0, lt=1)
    beta: float = Field(default=0.5, gt=0, le=1)
    n_bins: Count = 10
    category: str = "category"
    unit: Literal["impression", "search"] = "impression"
    seed: Seed = 0
