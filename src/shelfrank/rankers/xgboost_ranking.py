"""XGBoost that learns to rank: the library's LambdaMART, beside LightGBM's."""

from typing import Any, ClassVar

import numpy as np
import xgboost as xgb

from shelfrank.config import XGBoostRankingConfig
from shelfrank.core.progress import progress
from shelfrank.rankers.ranking_trees import CUTOFF, Boosted, GradedRows, RankingTrees
from shelfrank.rankers.trees import LibraryTrees, XGBoostTrees
from shelfrank.rankers.xgboost import Advance, cover_by_rows, feature_types

ANY_CODES = 2**31 - 1
"""Codes of a feature up to which a split separates one from the others: any number."""


class XGBoostRanking(RankingTrees):
    """XGBoost's `rank:ndcg`; see `RankingTrees`."""

    label: ClassVar[str] = "XGBoost"
    section: ClassVar[str] = "xgboost_ranking"
    library: ClassVar[type[LibraryTrees]] = XGBoostTrees

    @property
    def settings(self) -> XGBoostRankingConfig:
        """Its part of the config."""
        return self.problem.config.xgboost_ranking

    def boost(self, name: str, learn: GradedRows, check: GradedRows) -> Boosted:
        """Boosts one model, whose nodes then count the training rows that reach them."""
        rows = self._matrix(learn)
        curves: dict[str, dict[str, list[float]]] = {}
        with progress(f"Boosting ({self.label}, {name})", total=self.settings.n_rounds, unit="trees") as advance:
            booster = xgb.train(
                self._parameters(),
                rows,
                num_boost_round=self.settings.n_rounds,
                evals=[(self._matrix(check, like=rows), "valid")],
                early_stopping_rounds=self.settings.early_stopping_rounds,
                evals_result=curves,
                callbacks=[Advance(advance)],
                verbose_eval=False,
            )
        losses = [1.0 - float(value) for value in curves["valid"][f"ndcg@{CUTOFF}"]]
        kept = int(booster.best_iteration) + 1
        trees = XGBoostTrees(cover_by_rows(booster[:kept], learn.split, learn.chosen))
        return Boosted(trees, losses, kept, len(check.search_sizes))

    def _parameters(self) -> dict[str, Any]:
        threads, codes = self.problem.config.train.threads, self.settings.max_split_codes
        return {
            "objective": "rank:ndcg",
            "eval_metric": f"ndcg@{CUTOFF}",
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "learning_rate": self.settings.learning_rate,
            "max_leaves": self.settings.n_leaves,
            "max_depth": 0,
            "colsample_bytree": self.settings.feature_share,
            "subsample": self.settings.row_share,
            "lambda": self.settings.l2,
            "max_bin": self.settings.n_bins,
            "max_cat_to_onehot": ANY_CODES if codes == 1 else 1,
            "max_cat_threshold": codes,
            "seed": self.problem.config.seed,
            **({} if threads is None else {"nthread": threads}),
        }

    def _matrix(self, rows: GradedRows, like: xgb.DMatrix | None = None) -> xgb.DMatrix:
        return xgb.QuantileDMatrix(
            rows.features,
            rows.grades.astype(np.float32),
            ref=like,
            group=rows.search_sizes,
            max_bin=self.settings.n_bins,
            feature_names=[f"f{i}" for i in range(len(self.problem.columns))],
            feature_types=feature_types(self.problem.n_numerical, len(self.problem.category_sizes)),
            enable_categorical=True,
        )
