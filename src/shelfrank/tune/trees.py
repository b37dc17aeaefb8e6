"""The random search over LambdaMART's settings, with as many trials as a network gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shelfrank.config import ExperimentConfig
from shelfrank.config.tune import TreesConfig
from shelfrank.core.jobs import Job, JobRunner
from shelfrank.tune.sizes import SIZES, Draw, Tried, draws, try_all
from shelfrank.tune.trials import TrialTrainer, overlaid
from shelfrank.tune.weights import OnResults, Stage


@dataclass(frozen=True)
class TreeSearch:
    """The search over the settings of LambdaMART.

    Attributes:
        trainer: Trains and judges.
        owner: Fingerprint of the search's inputs.
    """

    trainer: TrialTrainer
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
        drawn = draws(space(settings.trees), settings.sizes.n_trials, settings.seed)

        def do(job: Job) -> Mapping[str, Any]:
            return self.trainer.trees(self.config_of(job.params), runner.folder_of(SIZES, job.id))

        [stage] = self.stages()
        return try_all(runner, stage, drawn, do, on_results, lambda params: {"lambdamart": dict(params)})

    def config_of(self, params: Mapping[str, Any]) -> ExperimentConfig:
        """The experiment with drawn settings."""
        return overlaid(self.trainer.config, {"lambdamart": dict(params)})


def space(trees: TreesConfig) -> dict[str, Draw]:
    """The settings that are drawn, by their keys in `lambdamart`."""
    low, high = (math.log(rate) for rate in trees.learning_rate)
    # Rounded, so that `--set` prints it whole.
    found: dict[str, Draw] = {"learning_rate": lambda random: round(float(np.exp(random.uniform(low, high))), 4)}
    for name in ("n_leaves", "min_rows_per_leaf", "feature_share", "row_share", "l2"):
        found[name] = _choice(getattr(trees, name))
    return found


def _choice(options: Sequence[float]) -> Draw:
    return lambda random: options[int(random.integers(len(options)))]
