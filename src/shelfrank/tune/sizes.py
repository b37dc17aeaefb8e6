"""The random search over dropout, layers, embeddings and experts, with hopeless trials ended early."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shelfrank.config import ExperimentConfig, NeuralConfig
from shelfrank.config.tune import SizesConfig
from shelfrank.core.errors import UserError
from shelfrank.core.jobs import Job, JobRunner, Pruned
from shelfrank.tune.trials import TrialTrainer, overlaid, read_ranks
from shelfrank.tune.weights import OnResults, Stage

SIZES = "sizes"


@dataclass(frozen=True)
class Tried:
    """A network, or trees, that were tried.

    Attributes:
        id: The trial.
        params: The drawn values; empty for the config as it was given.
        settings: The keys of the config that they stand for.
        state: `done`, `pruned` or `failed`.
        facts: Its rows, seconds and parameters; of a failed one the error.
        ranks: Its order's ranks; None where it did not end.
    """

    id: str
    params: Mapping[str, Any]
    settings: Mapping[str, Any]
    state: str
    facts: Mapping[str, Any]
    ranks: np.ndarray | None


@dataclass(frozen=True)
class SizeSearch:
    """The search over one kind of network's sizes.

    Attributes:
        trainer: Trains and judges.
        owner: Fingerprint of the search's inputs.
    """

    trainer: TrialTrainer
    owner: str

    def stages(self) -> list[Stage]:
        """Its one step."""
        rows = self.trainer.train_rows.n_rows * self.trainer.config.train.epochs
        return [Stage(SIZES, self.trainer.settings.sizes.n_trials, rows)]

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
        settings, neural = self.trainer.settings, self.trainer.config.neural
        drawn = draws(space(neural, settings.sizes), settings.sizes.n_trials, settings.seed)

        def do(job: Job) -> Mapping[str, Any]:
            losses: list[float] = []

            def prune(record: dict[str, Any]) -> None:
                losses.append(record["valid_task_loss"])
                # After the last epoch there is nothing left to save.
                if record["epoch"] < self.trainer.config.train.epochs and self._is_hopeless(runner, record, losses):
                    raise Pruned({"rows": record["epoch"] * self.trainer.train_rows.n_rows})

            owner = f"{self.owner}/{SIZES}/{job.id}"
            return self.trainer.whole(self.config_of(job.params), runner.folder_of(SIZES, job.id), owner, prune)

        [stage] = self.stages()
        return try_all(runner, stage, drawn, do, on_results, lambda params: {"neural": settings_of(neural, params)})

    def _is_hopeless(self, runner: JobRunner, record: Mapping[str, Any], losses: Sequence[float]) -> bool:
        sizes = self.trainer.settings.sizes
        ended = [each["facts"]["valid_task_losses"] for each in runner.results(SIZES) if each["state"] == "done"]
        return len(ended) >= sizes.n_unpruned and is_hopeless(losses, ended, record["epoch"], sizes.kept_percent)

    def config_of(self, params: Mapping[str, Any]) -> ExperimentConfig:
        """The experiment with drawn sizes."""
        return overlaid(self.trainer.config, {"neural": settings_of(self.trainer.config.neural, params)})


def try_all(
    runner: JobRunner,
    stage: Stage,
    drawn: Iterable[Mapping[str, Any]],
    do: Callable[[Job], Mapping[str, Any]],
    on_results: OnResults,
    settings_for: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> list[Tried]:
    """Runs a trial for each draw beside whoever else does.

    Args:
        runner: The trials.
        stage: The step, for the rows of a trial.
        drawn: The draws.
        do: Runs one trial and returns its facts.
        on_results: Called with the stage's name and its results so far.
        settings_for: The settings that a draw stands for.

    Returns:
        Every trial, in the order of the draws.

    Raises:
        UserError: Where none ended well.
    """
    jobs = [Job(f"{i:03d}", stage.rows, params) for i, params in enumerate(drawn)]
    found = []
    for result in runner.run(stage.name, jobs, do, on_results, tolerant=True):
        job, is_done = result.job, result.state == "done"
        ranks = read_ranks(runner.folder_of(stage.name, job.id)) if is_done else None
        found.append(Tried(job.id, job.params, settings_for(job.params), result.state, result.facts, ranks))
    if all(each.ranks is None for each in found):
        raise UserError(f"a trial must end well, but all {len(found)} failed: {found[0].facts.get('error')}")
    return found


def is_hopeless(losses: Sequence[float], ended: Sequence[Sequence[float]], epoch: int, kept_percent: float) -> bool:
    """Whether a trial's lowest loss so far is above the best share of the finished trials' losses after an epoch.

    Args:
        losses: The trial's validation losses.
        ended: Those of each finished trial, by epoch.
        epoch: The epoch, from 1; finished trials that stopped before it do not count.
        kept_percent: The best share, in percent; 100 ends no trial.

    Returns:
        Whether the trial should end.

    Example:
        >>> is_hopeless([0.7, 0.5], [[0.6, 0.4], [0.6, 0.3], [0.9, 0.6]], 2, 50)
        True
    """
    reached = [each[epoch - 1] for each in ended if len(each) >= epoch]
    return kept_percent < 100 and bool(reached) and min(losses) > float(np.percentile(reached, kept_percent))


Draw = Callable[[np.random.Generator], Any]
"""Draws one value."""


def space(network: NeuralConfig, sizes: SizesConfig) -> dict[str, Draw]:
    """The sizes that are drawn for a network, by its bottom and head."""
    heads = network.ft_transformer.n_heads if network.bottom == "ft_transformer" else 1
    widths = [width for width in sizes.d_embedding if width % heads == 0]
    if not widths:
        raise UserError(
            f"sizes.d_embedding must have a multiple of the {heads} heads of ft_transformer, but it has "
            f"{', '.join(map(str, sizes.d_embedding))}"
        )
    found: dict[str, Draw] = {
        "dropout": lambda random: float(random.uniform(*sizes.dropout)),
        "d_embedding": _choice(widths),
    }
    if network.bottom != "none":
        found["n_layers"] = lambda random: int(random.integers(*sizes.n_layers, endpoint=True))
    if network.bottom in ("mlp", "dcn_v2", "tabnet"):
        found["layer_width"] = _choice(sizes.layer_width)
    if network.head == "mmoe":
        found |= {"n_experts": _choice(sizes.n_experts), "expert_width": _choice(sizes.expert_width)}
    if network.tower_layers:
        found["tower_width"] = _choice(sizes.tower_width)
    return found


def _choice(options: Sequence[int]) -> Draw:
    return lambda random: int(random.choice(options))


def draws(space: Mapping[str, Draw], n: int, seed: int) -> list[dict[str, Any]]:
    """The settings to try: the config as it is, then random ones; the same in every process (Paper: Sec. 4.2)."""
    random = np.random.default_rng(seed)
    return [{}, *({name: draw(random) for name, draw in space.items()} for _ in range(n - 1))]


def settings_of(network: NeuralConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the network's config that drawn sizes stand for.

    Args:
        network: The network as it was given.
        params: The drawn sizes.

    Returns:
        The keys.

    Example:
        >>> settings_of(NeuralConfig(bottom="mlp"), {"n_layers": 2, "layer_width": 128})
        {'mlp': {'layers': [128, 64]}}
    """
    found: dict[str, Any] = {name: params[name] for name in ("dropout", "d_embedding") if name in params}
    if "n_layers" in params:
        found |= _bottom(network.bottom, params)
    if "n_experts" in params:
        layers = falling(params["expert_width"], len(network.mmoe.expert_layers))
        found["mmoe"] = {"n_experts": params["n_experts"], "expert_layers": layers}
    if "tower_width" in params:
        found["tower_layers"] = falling(params["tower_width"], len(network.tower_layers))
    return found


def falling(width: int, n_layers: int) -> list[int]:
    """Widths that halve from layer to layer."""
    return [max(1, width >> i) for i in range(n_layers)]


def _bottom(bottom: str, params: Mapping[str, Any]) -> dict[str, Any]:
    n_layers: int = params["n_layers"]
    if bottom == "ft_transformer":
        return {bottom: {"n_blocks": n_layers}}
    if bottom == "mlp":
        return {bottom: {"layers": falling(params["layer_width"], n_layers)}}
    if bottom == "dcn_v2":
        return {bottom: {"n_cross_layers": n_layers, "deep_layers": falling(params["layer_width"], 2)}}
    # TabNet's decision and attention are far narrower than dense layers.
    width = max(1, params["layer_width"] // 4)
    return {bottom: {"n_steps": n_layers, "d_decision": width, "d_attention": width}}
