"""LightGBM's LambdaMART, a practitioner's usual choice instead of a network."""

from typing import Any, ClassVar

import lightgbm as lgb

from shelfrank.config import LambdaMARTConfig
from shelfrank.core.progress import progress
from shelfrank.metrics.ranking import MAX_GRADE
from shelfrank.rankers.ranking_trees import CUTOFF, Boosted, GradedRows, RankingTrees
from shelfrank.rankers.trees import LibraryTrees, LightGBMTrees

MORE_TREES = 1.5
"""Trees that learn beside the effect of positions, for each that is kept without it.

Logged NDCG cannot stop them, since it pays for the shown order that they are to forget. 1.5 was better than 1 on a
simulated shop's validation split (unbiased MRR@10, 24,000 training searches).
"""


class LambdaMART(RankingTrees):
    """LightGBM's `lambdarank`; see `RankingTrees`."""

    label: ClassVar[str] = "LambdaMART"
    section: ClassVar[str] = "lambdamart"
    library: ClassVar[type[LibraryTrees]] = LightGBMTrees
    max_rows: ClassVar[int | None] = 10_000

    @property
    def settings(self) -> LambdaMARTConfig:
        """Its part of the config."""
        return self.problem.config.lambdamart

    def boost(self, name: str, learn: GradedRows, check: GradedRows) -> Boosted:
        """Boosts one model, and with `position_bias` once more beside the effect of each position."""
        parameters, notes = self._parameters(), ()
        rows = self._dataset(learn, parameters)
        curves: dict[str, dict[str, list[float]]] = {}
        booster = self._train(
            name,
            parameters,
            rows,
            self.settings.n_rounds,
            valid_sets=[self._dataset(check, parameters, reference=rows)],
            valid_names=["valid"],
            callbacks=[
                lgb.early_stopping(self.settings.early_stopping_rounds, verbose=False),
                lgb.record_evaluation(curves),
            ],
        )
        losses = [1.0 - float(value) for value in next(iter(curves["valid"].values()))]
        kept = booster.best_iteration or len(losses)
        if self.settings.position_bias:
            rows = self._dataset(learn, parameters, with_positions=True)
            booster = self._train(f"{name} without positions", parameters, rows, round(MORE_TREES * kept))
            notes = (
                f"{MORE_TREES:g} times as many trees were then grown beside the effect of each position, which scores "
                "leave out",
            )
        return Boosted(LightGBMTrees(booster), losses, kept, len(check.search_sizes), notes)

    def _train(
        self, name: str, parameters: dict[str, Any], learn: lgb.Dataset, n_rounds: int, **options: Any
    ) -> lgb.Booster:
        with progress(f"Boosting ({self.label}, {name})", total=n_rounds, unit="trees") as advance:

            def tick(_env: lgb.callback.CallbackEnv) -> None:
                advance(1)

            options["callbacks"] = [*options.get("callbacks", ()), tick]
            return lgb.train(parameters, learn, num_boost_round=n_rounds, **options)

    def _parameters(self) -> dict[str, Any]:
        threads = self.problem.config.train.threads
        return {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [CUTOFF],
            # The library's own list ends at grade 30.
            "label_gain": [float(2**grade - 1) for grade in range(MAX_GRADE + 1)],
            "learning_rate": self.settings.learning_rate,
            "num_leaves": self.settings.n_leaves,
            "min_data_in_leaf": self.settings.min_rows_per_leaf,
            "feature_fraction": self.settings.feature_share,
            "bagging_fraction": self.settings.row_share,
            "bagging_freq": int(self.settings.row_share < 1),
            "lambda_l2": self.settings.l2,
            "max_bin": self.settings.n_bins,
            "max_cat_threshold": self.settings.max_split_codes,
            "seed": self.problem.config.seed,
            "deterministic": True,
            # A third faster where trees see a share of the features, and the same bits whatever the threads.
            "force_col_wise": True,
            "verbosity": -1,
            **({} if threads is None else {"num_threads": threads}),
        }

    def _dataset(
        self,
        rows: GradedRows,
        parameters: dict[str, Any],
        reference: lgb.Dataset | None = None,
        with_positions: bool = False,
    ) -> lgb.Dataset:
        return lgb.Dataset(
            rows.features,
            rows.grades,
            position=rows.split.position[rows.chosen] if with_positions else None,
            group=rows.search_sizes,
            reference=reference,
            params=parameters,
            feature_name=[f"f{i}" for i in range(len(self.problem.columns))],
            categorical_feature=list(range(self.problem.n_numerical, len(self.problem.columns))),
        )
