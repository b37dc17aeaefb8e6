"""Settings of the evaluation."""

from typing import Literal

from pydantic import Field

from shelfrank.config.base import Count, Cutoff, Resamples, Seed, Strict


class EvaluateConfig(Strict):
    """How rankers are evaluated (Paper: Sec. 4.3).

    Attributes:
        ks: Cutoffs of MRR and NDCG.
        pd_k: Cutoff of Personalization Degree.
        pd_searches: Maximum number of searches in its random subset S.
        neutral: The neutral customer: an `anonymous` visitor, whose features are missing; raw `zero`, as the paper
            prints; or the training `mean`.
        confidence: Confidence level of every interval.
        n_resamples: Bootstrap resamples of searches.
        n_resamples_auc: Bootstrap resamples of searches for AUC, which is slower.
        seed: Seed of the resamples and the subset.
        only: Searches to evaluate: the `last_of_session`, as the RecSys Challenge 2019 did, or those whose page the log
            marks as `randomised`; None evaluates all.
    """

    ks: tuple[Cutoff, ...] = Field(default=(1, 5, 10), min_length=1)
    pd_k: Cutoff = 10
    pd_searches: Count = 20_000
    neutral: Literal["anonymous", "zero", "mean"] = "anonymous"
    confidence: float = Field(default=0.95, gt=0, lt=1)
    n_resamples: Resamples = 1000
    n_resamples_auc: Resamples = 200
    seed: Seed = 0
    only: Literal["last_of_session", "randomised"] | None = None
