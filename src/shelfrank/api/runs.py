"""Runs: trained, explained, described, carded, tracked."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shelfrank.api.arguments import AtLeastOne, Location, Locations, Preset, SearchId, checked, optional_path
from shelfrank.api.artifacts import ModelCard, Run
from shelfrank.config.rankers import DEFAULT_RANKER

if TYPE_CHECKING:
    from shelfrank.explain.search import ExplainedSearch
    from shelfrank.rankers.describe import Description


@checked
def train(
    data: Location,
    *,
    ranker: str = DEFAULT_RANKER,
    out: Location,
    seed: int | None = None,
    preset: Preset = "default",
    resume: bool = False,
    config: Location | None = None,
    **settings: Any,
) -> Run:
    """Trains one ranker, in this process.

    Args:
        data: Prepared data.
        ranker: Name of the ranker, such as `mmoe_dcn_v2`; `shelfrank.api.rankers()` has all. The default blends boosted
            trees and a network.
        out: The folder of the run.
        seed: Seed of every draw; None leaves it to the settings.
        preset: Sizes: the ranker's own, or near to the paper's parameter counts.
        resume: Continues from the last complete checkpoint.
        config: YAML with any keys of `ExperimentConfig`.
        **settings: The same keys, such as `train={"epochs": 3}`; they win over `config`.

    Returns:
        The run.

    Raises:
        UserError: Where the ranker is unknown, a setting is not as it must be or does not fit the data, or the data
            cannot be read.
    """
    from shelfrank.rankers.run import resolve_experiment
    from shelfrank.rankers.run import train as run

    experiment = resolve_experiment(ranker, optional_path(config), [], seed, preset, settings)
    return Run(Path(out), run(Path(data), ranker, experiment, Path(out), resume))


def rankers() -> Mapping[str, str]:
    """The rankers that `train` takes: by name, how tables name them."""
    from shelfrank.rankers import RANKERS

    return {name: spec.label for name, spec in RANKERS.items()}


@checked
def describe(
    ranker: str,
    *,
    data: Location | None = None,
    preset: Preset = "default",
    config: Location | None = None,
    **settings: Any,
) -> "Description":
    """Counts a network's trainable and frozen parameters, box by box, beside the paper's figure; it writes nothing.

    Args:
        ranker: Name of a network, such as `mmoe_dcn_v2`.
        data: Prepared data that it is sized for; None takes a schema of the paper's kind.
        preset: Sizes: the ranker's own, or near to the paper's parameter counts.
        config: YAML with any keys of `ExperimentConfig`.
        **settings: The same keys, such as `neural={"mmoe": {"n_experts": 4}}`; they win over `config`.

    Returns:
        The counts; `as_dict()` gives plain data, `lines()` text.

    Raises:
        UserError: Where the ranker is no network, a setting is not as it must be, or the data cannot be read.
    """
    from shelfrank.data.prepared import PreparedData
    from shelfrank.rankers.describe import describe as count
    from shelfrank.rankers.run import resolve_experiment

    prepared = None if data is None else PreparedData.open(Path(data))
    return count(ranker, resolve_experiment(ranker, optional_path(config), [], None, preset, settings), prepared)


@checked
def explain(
    run: Location,
    *,
    search: SearchId,
    split: str = "test",
    top: AtLeastOne = 8,
    baseline: Literal["mean", "neutral"] = "mean",
) -> "ExplainedSearch":
    """Explains why a run puts a page's first products first; it writes nothing.

    Args:
        run: A finished run.
        search: Id of the search.
        split: Split that has the search: train, valid or test.
        top: Max products.
        baseline: What contributions are measured from: the training mean, or the same page for a neutral customer.

    Returns:
        The products, each with its features' contributions; `as_dict()` gives plain data, `lines(task)` text.

    Raises:
        UserError: Where the split has no such search, a value is not as it must be, or the ranker scores by no
            features.
    """
    from shelfrank.explain.search import explain_search

    return explain_search(Path(run), str(search), split, top, baseline)


@checked
def model_card(run: Location, evaluation: Location, *, out: Location, license: str = "unknown") -> ModelCard:
    """Writes the model card of a run: data, use, figures by segment, limits.

    Args:
        run: A finished run.
        evaluation: A finished evaluation of it.
        out: The folder of the card.
        license: Licence of the weights, as the card shall name it.

    Returns:
        The card.

    Raises:
        UserError: Where the evaluation is of another run, or the data is no longer what was evaluated.
    """
    from shelfrank.report.model_card import write_model_card

    return ModelCard(Path(out), write_model_card(Path(run), Path(evaluation), Path(out), license))


@checked
def track(run: Location, evaluations: Locations = (), *, uri: str | None = None, experiment: str | None = None) -> str:
    """Logs a run and its evaluations to MLflow: parameters, metrics by epoch, figures, files.

    Args:
        run: A finished run.
        evaluations: Finished evaluations of it, each of another split.
        uri: Address of MLflow, or a folder; None takes the variable MLFLOW_TRACKING_URI.
        experiment: Experiment in MLflow; None takes the variable MLFLOW_EXPERIMENT_NAME, else `shelfrank`.

    Returns:
        The id of the run in MLflow.

    Raises:
        UserError: Where MLflow is not installed or cannot be reached, or an evaluation is not of this run.
    """
    from shelfrank.tracking import track as log

    return log(Path(run), [Path(each) for each in evaluations], uri, experiment)
