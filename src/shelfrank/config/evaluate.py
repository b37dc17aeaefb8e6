"""Settings of the measurement."""

from typing import Literal

from pydantic import Field

from shelfrank.config.base import Count, Cutoff, Resamples, Seed, Strict


class EvaluateConfig(Strict):
    """How rankers are measured (Paper: Sec. 4.3).

    Attributes:
        ks: Cutoffs of MRR and NDCG.
        pd_k: Cutoff of Personalization Degree.
        pd_searches: Maximum number of searches in its random subset S.
        neutral: The neutral customer: an `anonymous` visitor; raw `zero`, as printed in the paper; or the training
            `mean`.
        confidence: Confidence level of every interval.
        n_resamples: Bootstrap resamples of searches.
        n_resamples_auc: Bootstrap resamples of searches for AUC, which costs more.
        seed: Decides the resamples and the subset.
    """

    ks: tuple[Cutoff, ...] = Field(default=(1, 5, 10), min_length=1)
    pd_k: Cutoff = 10
    pd_searches: Count = 20_000
    neutral: Literal["anonymous", "zero", "mean"] = "anonymous"
    confidence: float = Field(default=0.95, gt=0, lt=1)
    n_resamples: Resamples = 1000
    n_resamples_auc: Resamples = 200
    seed: Seed = 0
