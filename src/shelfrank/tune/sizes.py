"""The random search over dropout, layers, embeddings and experts, with hopeless trials ended early."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shelfrank.config import ExperimentConfig, NeuralConfig
from shelfrank.config.tune import SizesConfig
from shelfrank.core.errors import UserError
from shelfrank.tune.queue import Job, Outcome, Queue, Tools, import_optuna
from shelfrank.tune.trainer import Trainer, overlaid, read_ranks
from shelfrank.tune.weights import Stage, Tell

SIZES = "sizes"


@dataclass(frozen=True)
class Tried:
    """A network that was tried.

    Attributes:
        id: The trial.
        params: What was drawn; empty for the config as it was given.
        settings: The keys of the config that they stand for.
        state: `done`, `pruned` or `failed`.
        about: What the storage keeps of it.
        ranks: Its order's ranks; None where it did not end.
    """

    id: str
    params: Mapping[str, Any]
    settings: Mapping[str, Any]
    state: str
    about: Mapping[str, Any]
    ranks: np.ndarray | None


@dataclass(frozen=True)
class SizeSearch:
    """The search over one kind of network's sizes.

    Attributes:
        trainer: Trains and judges.
        owner: Fingerprint of the search's inputs.
    """

    trainer: Trainer
    owner: str

    def stages(self) -> list[Stage]:
        """Its one step."""
        rows = self.trainer.train_rows.n_rows * self.trainer.config.train.epochs
        return [Stage(SIZES, self.trainer.settings.sizes.n_trials, rows)]

    def run(self, queue: Queue, tell: Tell) -> list[Tried]:
        """Tries all draws beside whoever else does.

        Args:
            queue: The trials.
            tell: Called with the stage's name and its outcomes so far.

        Returns:
            Every trial, in the order of the draws.

        Raises:
            UserError: Where none ended well.
        """
        sizes, [stage] = self.trainer.settings.sizes, self.stages()
        limits = space(self.trainer.config.neural, sizes)
        drawn = draws(limits, sizes.n_trials, self.trainer.settings.seed)
        jobs = [
            Job(f"{i:03d}", params, {name: limits[name] for name in params}, stage.rows)
            for i, params in enumerate(drawn)
        ]
        pruner = import_optuna().pruners.PercentilePruner(sizes.kept_percent, n_startup_trials=sizes.n_unpruned)

        def do(job: Job, tools: Tools) -> Mapping[str, Any]:
            folder = queue.folder(SIZES, job.id)

            def report(record: dict[str, Any]) -> None:
                # After the last epoch there is nothing left to save.
                if record["epoch"] < self.trainer.config.train.epochs:
                    rows = record["epoch"] * self.trainer.train_rows.n_rows
                    tools.report(record["epoch"], -record["valid_task_loss"], rows)

            config = self.config_of(job.params)
            return self.trainer.whole(config, folder, f"{self.owner}/{SIZES}/{job.id}", report)

        pruner = pruner if sizes.kept_percent < 100 else None
        found = [self._tried(queue, each) for each in queue.work_off(SIZES, jobs, do, tell, pruner, tolerant=True)]
        if all(each.ranks is None for each in found):
            raise UserError(f"a trial must end well, but all {len(found)} failed: {found[0].about.get('error')}")
        return found

    def config_of(self, params: Mapping[str, Any]) -> ExperimentConfig:
        """The experiment with drawn sizes."""
        return overlaid(self.trainer.config, {"neural": settings_of(self.trainer.config.neural, params)})

    def _tried(self, queue: Queue, outcome: Outcome) -> Tried:
        job = outcome.job
        ranks = read_ranks(queue.folder(SIZES, job.id)) if outcome.state == "done" else None
        settings = {"neural": settings_of(self.trainer.config.neural, job.params)}
        return Tried(job.id, job.params, settings, outcome.state, outcome.about, ranks)


def space(network: NeuralConfig, sizes: SizesConfig) -> dict[str, Any]:
    """What is drawn for a network, by its bottom and head, as Optuna's distributions."""
    found = import_optuna().distributions
    heads = network.ft_transformer.n_heads if network.bottom == "ft_transformer" else 1
    widths = [width for width in sizes.d_embedding if width % heads == 0]
    if not widths:
        raise UserError(
            f"sizes.d_embedding must have a multiple of the {heads} heads of ft_transformer, but it has "
            f"{', '.join(map(str, sizes.d_embedding))}"
        )
    limits: dict[str, Any] = {
        "dropout": found.FloatDistribution(*sizes.dropout),
        "d_embedding": found.CategoricalDistribution(widths),
    }
    if network.bottom != "none":
        limits["n_layers"] = found.IntDistribution(*sizes.n_layers)
    if network.bottom in ("mlp", "dcn_v2", "tabnet"):
        limits["layer_width"] = found.CategoricalDistribution(sizes.layer_width)
    if network.head == "mmoe":
        limits["n_experts"] = found.CategoricalDistribution(sizes.n_experts)
        limits["expert_width"] = found.CategoricalDistribution(sizes.expert_width)
    if network.tower_layers:
        limits["tower_width"] = found.CategoricalDistribution(sizes.tower_width)
    return limits


def draws(limits: Mapping[str, Any], n: int, seed: int) -> list[dict[str, Any]]:
    """The settings to try: the config as it is, then random ones; the same whoever draws them."""
    optuna = import_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return [{}, *(dict(study.ask(dict(limits)).params) for _ in range(n - 1))]


def settings_of(network: NeuralConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the network's config that drawn sizes stand for.

    Args:
        network: The network as it was given.
        params: What was drawn.

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
