"""Settings of the relevance labels."""

import math
from typing import Literal

from pydantic import Field, model_validator

from shelfrank.config.base import Count, Resamples, Seed, Share, Strict, Weight

PositionWeight = Literal["decay", "as_printed", "none"]

OWN_VOTERS = ("ctr", "semantic", "understanding")
"""The paper's two voters and the one of query understanding; custom voters need other names."""
PAPER_WEIGHTS: dict[str, float] = {"ctr": 0.5, "semantic": 0.5}
"""Weights of the paper's two voters (Paper: Sec. 3.5)."""


class RelevanceConfig(Strict):
    """Graded relevance labels from clicks and text (Paper: Sec. 3.5).

    Attributes:
        position_weight: Weight of a click by its position. `as_printed` grows with the position, as in the paper's
            formula; `decay` falls with it, as in the paper's prose; `none` is 1 everywhere. See `docs/relevance.md`.
        weights: Weight of each voter in the score; the paper's alpha is the share of `ctr`. Voters of weight 0 are
            not called; of `semantic` and `understanding`, one that the preparation lacks leaves its weight to the
            others.
        semantic_scale: `as_is` takes the cosine as the semantic vote, as the paper does; `min_max` scales it to 0 to 1
            within each query.
        voters: Custom voters, name to `package.module:callable`.
        quantiles: Within-query quantiles of the score between the classes, ascending.
        min_products: Products that a query needs for its own quantiles; queries with fewer use those of all pairs.
    """

    position_weight: PositionWeight = "as_printed"
    weights: dict[str, Weight] = {**PAPER_WEIGHTS, "understanding": 1.0}
    semantic_scale: Literal["as_is", "min_max"] = "as_is"
    voters: dict[str, str] = {}
    quantiles: tuple[Share, ...] = Field(default=(0.25, 0.5, 0.75), min_length=1, max_length=126)
    min_products: Count = 4

    @model_validator(mode="after")
    def _check(self) -> "RelevanceConfig":
        weights = list(self.weights.values())
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"weights must be 0 or more with at least one above 0, but they are {self.weights}")
        taken = sorted(self.voters.keys() & OWN_VOTERS)
        if taken:
            raise ValueError(f"a custom voter must not be called {' or '.join(taken)}; give it another name")
        unweighed = sorted(self.voters.keys() - self.weights.keys())
        if unweighed:
            raise ValueError(f"every voter must have a weight, but {', '.join(unweighed)} has none; add it to weights")
        ascending = all(low < high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False))
        if not ascending or not 0 < self.quantiles[0] <= self.quantiles[-1] < 1:
            raise ValueError(f"quantiles must ascend strictly between 0 and 1, but they are {self.quantiles}")
        return self

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.quantiles) + 1


class AgreementConfig(Strict):
    """How relevance labels are compared with true grades.

    Attributes:
        alphas: Shares of the `ctr` voter in the combination with the semantic one.
        head_clicks: Clicks that a query needs to count as a head query; those are also compared separately.
        confidence: Confidence level of every interval.
        n_resamples: Bootstrap resamples of queries.
        seed: Seed of the resamples.
    """

    alphas: tuple[Share, ...] = Field(default=tuple(step / 10 for step in range(11)), min_length=2)
    head_clicks: Count = 30
    confidence: float = Field(default=0.95, gt=0, lt=1)
    n_resamples: Resamples = 200
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> "AgreementConfig":
        if list(self.alphas) != sorted(set(self.alphas)) or not 0 <= self.alphas[0] <= self.alphas[-1] <= 1:
            raise ValueError(f"alphas must ascend within 0 to 1, but they are {self.alphas}")
        return self
