"""The random search over the settings of boosted trees that learn to rank, with as many trials as a network gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shelfrank.config import ExperimentConfig
from shelfrank.config.rankers import RankingTreesConfig
from shelfrank.config.tune import TreesConfig
from shelfrank.core.jobs import Job, JobRunner
from shelfrank.tune.sizes import SIZES, Draw, Tried, draws, try_all
from shelfrank.tune.trials import TrialTrainer, overlaid
from shelfrank.tune.weights import OnResults, Stage


@dataclass(frozen=True)
class TreeSearch:
    """The search over the settings of boosted trees that learn to rank.

    Attributes:
        trainer: Trains and judges.
        ranker: Their name in `RANKERS`, which is also the name of their settings.
        owner: Fingerprint of the search's inputs.
    """

    trainer: TrialTrainer
    ranker: str
    owner: str

    def stages(self) -> list[Stage]:
        """Its one step."""
        return [Stage(SIZES, self.trainer.settings.sizes.n_trials, self.trainer.train_rows.n_rows)]

    def run(self, runner: JobRunner, on_results: OnResults) -> list[Tried]:
        """Tries all draws beside whoever else does.

        Args:
            runner: The trials.
            on_results: Called with the stage's name and its results so far.

        Returns:
            Every trial, in the order of the draws.

        Raises:
            UserError: Where none ended well.
        """
        settings = self.trainer.settings
        own: RankingTreesConfig = getattr(self.trainer.config, self.ranker)
        drawn = draws(space(settings.trees, type(own)), settings.sizes.n_trials, settings.seed)

        def do(job: Job) -> Mapping[str, Any]:
            return self.trainer.trees(self.ranker, self.config_of(job.params), runner.folder_of(SIZES, job.id))

        [stage] = self.stages()
        return try_all(runner, stage, drawn, do, on_results, lambda params: {self.ranker: dict(params)})

    def config_of(self, params: Mapping[str, Any]) -> ExperimentConfig:
        """The experiment with drawn settings."""
        return overlaid(self.trainer.config, {self.ranker: dict(params)})


def space(trees: TreesConfig, own: type[RankingTreesConfig]) -> dict[str, Draw]:
    """The settings that are drawn, by their keys: those of the space that the ranker has.

    Args:
        trees: The space.
        own: The ranker's settings.

    Returns:
        How each setting is drawn.
    """
    low, high = (math.log(rate) for rate in trees.learning_rate)
    # Rounded, so that `--set` prints it whole.
    found: dict[str, Draw] = {"learning_rate": lambda random: round(float(np.exp(random.uniform(low, high))), 4)}
    for name in ("n_leaves", "depth", "min_rows_per_leaf", "feature_share", "row_share", "l2"):
        if name in own.model_fields:
            found[name] = _choice(getattr(trees, name))
    return found


def _choice(options: Sequence[float]) -> Draw:
    return lambda random: options[int(random.integers(len(options)))]
