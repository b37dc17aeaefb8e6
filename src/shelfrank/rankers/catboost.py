"""CatBoost that learns to rank, where the library is installed."""

from typing import Any, ClassVar

import numpy as np

from shelfrank.config import CatBoostConfig
from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.rankers.base import Problem
from shelfrank.rankers.ranking_trees import CUTOFF, Boosted, GradedRows, RankingTrees
from shelfrank.rankers.trees import CatBoostTrees, LibraryTrees, catboost_library, catboost_pool

METRIC = f"NDCG:top={CUTOFF};type=Exp"
MAX_ONE_HOT = 65_535
"""Codes of a feature up to which the library splits one from the others; more become numbers by their labels."""


class CatBoost(RankingTrees):
    """CatBoost's `YetiRank` on symmetric trees; see `RankingTrees`.

    A split separates one code of a categorical feature from the others, as LambdaMART's does, so that a contribution
    is measured from the mean of the training rows.
    """

    label: ClassVar[str] = "CatBoost"
    section: ClassVar[str] = "catboost"
    library: ClassVar[type[LibraryTrees]] = CatBoostTrees

    def __init__(self, problem: Problem) -> None:
        catboost_library()
        super().__init__(problem)

    @property
    def settings(self) -> CatBoostConfig:
        """Its part of the config."""
        return self.problem.config.catboost

    def boost(self, name: str, learn: GradedRows, check: GradedRows) -> Boosted:
        """Boosts one model; rows that the library cannot learn from are a `UserError`."""
        library = catboost_library()
        model = library.CatBoost(self._parameters())
        with progress(f"Boosting ({self.label}, {name})", total=self.settings.n_rounds, unit="trees") as advance:
            try:
                model.fit(
                    self._pool(learn),
                    eval_set=self._pool(check),
                    early_stopping_rounds=self.settings.early_stopping_rounds,
                    use_best_model=True,
                    callbacks=[_Advance(advance)],
                )
            except library.CatBoostError as error:
                reason = " ".join(str(error).split())
                raise UserError(
                    f"CatBoost must be able to learn from the {learn.split.name} split, but it fails: {reason}; "
                    "train another ranker, such as lambdamart"
                ) from error
        losses = [1.0 - float(value) for value in model.get_evals_result()["validation"][METRIC]]
        trees = CatBoostTrees(model)
        return Boosted(trees, losses, int(model.tree_count_), len(check.search_sizes))

    def _parameters(self) -> dict[str, Any]:
        share, threads = self.settings.row_share, self.problem.config.train.threads
        return {
            "loss_function": "YetiRank",
            "eval_metric": METRIC,
            "iterations": self.settings.n_rounds,
            "learning_rate": self.settings.learning_rate,
            "depth": self.settings.depth,
            "rsm": self.settings.feature_share,
            **({"bootstrap_type": "Bernoulli", "subsample": share} if share < 1 else {"bootstrap_type": "No"}),
            "l2_leaf_reg": self.settings.l2,
            "border_count": self.settings.n_bins - 1,
            "one_hot_max_size": MAX_ONE_HOT,
            "random_seed": self.problem.config.seed,
            "allow_writing_files": False,
            "logging_level": "Silent",
            **({} if threads is None else {"thread_count": threads}),
        }

    def _pool(self, rows: GradedRows) -> Any:
        searches = np.repeat(np.arange(len(rows.search_sizes)), rows.search_sizes)
        return catboost_pool(rows.features, self.problem.n_numerical, label=rows.grades, group_id=searches)


class _Advance:
    def __init__(self, advance: Any) -> None:
        self.advance = advance

    def after_iteration(self, info: object) -> bool:
        """Moves the bar by one tree."""
        self.advance(1)
        return True
