"""Searches for settings on the validation split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from shelfrank.api.arguments import AtLeastOne, Location, Preset, checked, optional_path
from shelfrank.api.artifacts import Tuning
from shelfrank.config import TuneConfig, merge, resolve


def _task_weights(given: Any) -> Any:
    if given is not None and not isinstance(given, str | Mapping):
        raise ValueError("a task, or weights by task")
    return given


Objective = Annotated[str | Mapping[str, float] | None, PlainValidator(_task_weights)]


@checked
def tune(
    data: Location,
    *,
    ranker: str,
    out: Location,
    search: Literal["weights", "sizes"] = "weights",
    method: Literal["cheap", "full"] = "cheap",
    objective: Objective = None,
    trials: AtLeastOne | None = None,
    workers: AtLeastOne = 1,
    join: bool = False,
    seed: int | None = None,
    preset: Preset = "default",
    tuning: Mapping[str, Any] | None = None,
    config: Location | None = None,
    **settings: Any,
) -> Tuning:
    """Searches for the best loss weights or sizes of a network, or settings of trees, on the validation split.

    Args:
        data: Prepared data; its test split is not opened.
        ranker: Name of a network that learns several tasks, such as `mmoe_dcn_v2`, or `lambdamart`.
        out: The folder of the result.
        search: Loss weights, or dropout, layers, embeddings and experts; of trees `sizes` are their rate, leaves and
            regularisation.
        method: Trains the promising weightings only, or every one.
        objective: Task whose MRR is maximised, or weights such as `{"click": 1, "purchase": 3}`; None weighs all tasks
            equally.
        trials: Networks, or settings of trees, that the search over sizes tries.
        workers: Processes that train at the same time.
        join: Only works on the trials of a call of the same arguments that runs elsewhere and writes the result.
        seed: Seed of every draw; None leaves it to the settings.
        preset: Sizes that the search starts from: the ranker's own, or near to the paper's parameter counts.
        tuning: Keys of `TuneConfig`, the search's own settings, such as `{"step": 0.05}`; they win over the arguments.
        config: YAML with any keys of `ExperimentConfig`.
        **settings: The same keys, for every training, such as `train={"epochs": 3}`; they win over `config`.

    Returns:
        The search: `.best` is the `config` of the next training. With `join`, its folder is there only when the call
        that writes it has ended.

    Raises:
        UserError: Where the ranker is neither or has nothing to weigh, a setting is not as it must be, the data
            cannot be read, or a training fails.
    """
    from shelfrank.rankers.run import resolve_experiment
    from shelfrank.tune.tuning import join as work
    from shelfrank.tune.tuning import tune as run

    given: dict[str, Any] = {"search": search, "method": method, **_objective(objective)}
    given |= {} if trials is None else {"sizes": {"n_trials": trials}}
    given |= {} if seed is None else {"seed": seed}
    searched = resolve(TuneConfig, settings=merge(given, tuning or {}))
    experiment = resolve_experiment(ranker, optional_path(config), [], seed, preset, settings)
    if join:
        work(Path(data), ranker, experiment, searched, Path(out))
        return Tuning(Path(out))
    return Tuning(Path(out), run(Path(data), ranker, experiment, Path(out), searched, workers))


@checked
def tune_fusion(
    run: Location, *, out: Location, objective: Objective = None, tuning: Mapping[str, Any] | None = None
) -> Tuning:
    """Searches for the weights that fuse a run's scores best, without training it again.

    Args:
        run: A finished run that scores several tasks.
        out: The folder of the result; its `run` is the run with the best weights.
        objective: Task whose MRR is maximised, or weights such as `{"click": 1, "purchase": 3}`; None weighs all tasks
            equally.
        tuning: Keys of `TuneConfig`, such as `{"step": 0.05}`; they win over `objective`.

    Returns:
        The search: `.best` has the weights.

    Raises:
        UserError: Where the run scores one task only, or it or its data cannot be read.
    """
    from shelfrank.tune.fusion import tune_fusion as run_search

    settings = resolve(TuneConfig, settings=merge(_objective(objective), tuning or {}))
    return Tuning(Path(out), run_search(Path(run), Path(out), settings))


def _objective(objective: str | Mapping[str, float] | None) -> dict[str, Any]:
    if objective is None:
        return {}
    return {"objective": {"weights": {objective: 1} if isinstance(objective, str) else dict(objective)}}
