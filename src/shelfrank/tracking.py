"""A finished run and its evaluations logged to MLflow: settings, metrics by epoch, figures, files; nothing pickled."""

# pyright: reportMissingImports=false
# MLflow is an extra.

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from shelfrank.core.artifact import MANIFEST
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.rankers.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

Item = TypeVar("Item")

EXPERIMENT = "shelfrank"
RUN_TAG, DATA_TAG, RANKER_TAG = "shelfrank.run", "shelfrank.data", "shelfrank.ranker"
LOGGED_TAG, EVALUATION_TAG = "shelfrank.logged", "shelfrank.evaluation"
FILES = frozenset({".yaml", ".json", ".jsonl", ".safetensors", ".ubj", ".txt"})
"""Files of a run that are logged: settings, records, and weights in formats that run no code when they are read."""

MAX_IN_BATCH = 100
MAX_KEY, MAX_VALUE = 250, 500
"""MLflow's limits; servers before 2.8 take no longer values. What is cut here is whole in `config.yaml`."""


class Value(NamedTuple):
    """A metric: its name, its value, the epoch it belongs to, and when that was."""

    key: str
    value: float
    step: int
    timestamp_ms: int


def track(
    run_path: Path, evaluation_paths: Sequence[Path] = (), uri: str | None = None, experiment: str | None = None
) -> str:
    """Logs a run and evaluations of it to MLflow; what is logged already is not logged again.

    Args:
        run_path: A finished run.
        evaluation_paths: Finished evaluations of it, each of another split: their figures are named by it.
        uri: Address of the server, or a folder; None takes what MLflow's own settings say.
        experiment: Name of the experiment; None takes MLflow's setting, else `shelfrank`.

    Returns:
        The id of the run in MLflow.

    Raises:
        UserError: Where MLflow is not installed or cannot be reached, an evaluation is not of this run, or two are of
            one split. Nothing on disk changes.
    """
    run = Run.open(run_path)
    evaluations = [Evaluation.open(path) for path in evaluation_paths]
    for evaluation in evaluations:
        if evaluation.manifest.inputs["run"] != run.manifest.fingerprint:
            raise UserError(
                f"{evaluation.path} must be an evaluation of {run_path}, but it is of another run; evaluate this one"
            )
    splits = [str(evaluation.manifest.inputs["split"]) for evaluation in evaluations]
    repeated = next((split for split in splits if splits.count(split) > 1), None)
    if repeated is not None:
        raise UserError(
            f"tracked evaluations must be of one split each, since their figures are named by it, but {repeated} is "
            "given twice; track one of them"
        )
    with _told(run_path), _client(uri) as client:
        run_id, tags = _find_or_create(client, run, _experiment(client, experiment))
        try:
            if tags.get(LOGGED_TAG) != run.manifest.fingerprint:
                _log_run(client, run_id, run)
            for evaluation in evaluations:
                tag = f"{EVALUATION_TAG}.{evaluation.manifest.inputs['split']}"
                if tags.get(tag) != evaluation.manifest.fingerprint:
                    _log_evaluation(client, run_id, evaluation, tag)
        except BaseException:
            with contextlib.suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED", end_time=_finished_ms(run.path))
    return run_id


def flattened(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and short texts, within MLflow's limits.

    Args:
        settings: The settings.
        before: What each key begins with.

    Returns:
        By key the value as JSON, a text as it is; a longer one is cut and ends with an ellipsis.

    Example:
        >>> flattened({"seed": 0, "train": {"epochs": 3, "protocol": "auto"}, "layers": [8, 4]})
        {'seed': '0', 'train.epochs': '3', 'train.protocol': 'auto', 'layers': '[8, 4]'}
    """
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{before}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[_cut(f"{before}{name}", MAX_KEY)] = _cut(text, MAX_VALUE)
    return flat


def curve_values(curve: Sequence[Mapping[str, Any]], tasks: Sequence[str], start_ms: int) -> list[Value]:
    """Every number of a learning curve as a metric whose step is the epoch, or the tree.

    Args:
        curve: The records of `metrics.jsonl`.
        tasks: The tasks that lists of numbers are by; a list of another length is left out.
        start_ms: When training began.

    Returns:
        The metrics; `valid_losses` becomes `valid_loss.click` and so on.
    """
    values = []
    for number, record in enumerate(curve, start=1):
        step = int(record.get("epoch", number))
        moment = start_ms + round(1000 * float(record.get("seconds", 0)))
        for key, value in record.items():
            if key == "epoch" or isinstance(value, bool | str) or value is None:
                continue
            if isinstance(value, list):
                if len(value) == len(tasks):
                    one = "valid_loss" if key == "valid_losses" else key
                    named = zip(tasks, value, strict=True)
                    values += [Value(f"{one}.{task}", float(each), step, moment) for task, each in named]
            else:
                values.append(Value(key, float(value), step, moment))
    return values


def evaluation_values(report: Mapping[str, Any], split: str, timestamp_ms: int) -> list[Value]:
    """Every figure of an evaluation with the ends of its interval and its number of searches.

    Args:
        report: The evaluation's report.
        split: What the names begin with.
        timestamp_ms: When it was measured.

    Returns:
        Metrics such as `test.mrr_10.click`, `test.mrr_10.click.low`, `.high` and `.n`; unknown figures are left out.
    """
    figures: dict[str, Mapping[str, Any] | None] = {f"auc.{task}": figure for task, figure in report["auc"].items()}
    for metric in ("mrr", "ndcg"):
        for k, by_task in report[metric].items():
            figures |= {f"{metric}_{k}.{task}": figure for task, figure in by_task.items()}
    figures |= {f"pd_{k}": figure for k, figure in (report["pd"] or {}).items()}
    return [
        Value(f"{split}.{name}{end}", float(figure[key]), 0, timestamp_ms)
        for name, figure in figures.items()
        if figure is not None
        for key, end in (("value", ""), ("low", ".low"), ("high", ".high"), ("n", ".n"))
        if figure[key] is not None
    ]


def _find_or_create(client: "MlflowClient", run: Run, experiment_id: str) -> tuple[str, dict[str, str]]:
    """The run of this fingerprint and its tags as they are."""
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.manifest.fingerprint}'", max_results=1)
    if found:
        return found[0].info.run_id, dict(found[0].data.tags)
    tags = {
        RUN_TAG: run.manifest.fingerprint,
        DATA_TAG: run.manifest.inputs["prepared"],
        RANKER_TAG: run.name,
        "shelfrank.label": run.label,
        "mlflow.source.name": "shelfrank",
    }
    started = client.create_run(experiment_id, start_time=_started_ms(run), tags=tags, run_name=run.path.name)
    return started.info.run_id, {}


def _log_run(client: "MlflowClient", run_id: str, run: Run) -> None:
    from mlflow.entities import Param

    params = {"ranker": run.name, **flattened(run.manifest.inputs["config"])}
    for some in _batches(params.items()):
        client.log_batch(run_id, params=[Param(key, value) for key, value in some])
    info = run.manifest.info
    fitted, started, finished = info["fitted"], _started_ms(run), _finished_ms(run.path)
    values = curve_values(fitted["curve"], _tasks(run), started)
    facts = {"train.rows": info["rows"], **{f"train.{name}": value for name, value in info["cost"].items()}}
    if fitted["parameters"] is not None:
        facts["parameters.trainable"] = sum(fitted["parameters"].values())
        facts["parameters.frozen"] = fitted["frozen_parameters"]
    values += [Value(key, float(value), 0, finished) for key, value in facts.items()]
    _log_values(client, run_id, values)
    for name in (MANIFEST, *run.manifest.files):
        if Path(name).suffix in FILES:
            folder = Path(name).parent.as_posix()
            client.log_artifact(run_id, str(run.path / name), None if folder == "." else folder)
    client.set_tag(run_id, LOGGED_TAG, run.manifest.fingerprint)


def _log_evaluation(client: "MlflowClient", run_id: str, evaluation: Evaluation, tag: str) -> None:
    split = str(evaluation.manifest.inputs["split"])
    _log_values(client, run_id, evaluation_values(evaluation.report, split, _finished_ms(evaluation.path)))
    client.log_artifact(run_id, str(evaluation.path / "report.json"), f"evaluation_{split}")
    client.set_tag(run_id, tag, evaluation.manifest.fingerprint)


def _log_values(client: "MlflowClient", run_id: str, values: Sequence[Value]) -> None:
    """Logs what is not there yet: a logging that was cut off may have left a part."""
    from mlflow.entities import Metric

    there = {
        (key, metric.value, metric.step)
        for key in {value.key for value in values} & set(client.get_run(run_id).data.metrics)
        for metric in client.get_metric_history(run_id, key)
    }
    missing = [value for value in values if (value.key, value.value, value.step) not in there]
    for some in _batches(missing):
        client.log_batch(run_id, metrics=[Metric(v.key, v.value, v.timestamp_ms, v.step) for v in some])


def _tasks(run: Run) -> tuple[str, ...]:
    """The log's tasks; none where the data is no longer at hand, which costs the losses by task and nothing else."""
    try:
        return PreparedData.open(Path(run.manifest.info["prepared"])).tasks
    except UserError:
        return ()


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    every = list(items)
    for start in range(0, len(every), MAX_IN_BATCH):
        yield every[start : start + MAX_IN_BATCH]


def _experiment(client: "MlflowClient", name: str | None) -> str:
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


@contextlib.contextmanager
def _client(uri: str | None) -> Iterator["MlflowClient"]:
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError(
            "the address of MLflow must be known, but none is given; name it as `uri`, or set MLFLOW_TRACKING_URI"
        )
    # Before MLflow is imported: it would otherwise report its use to its makers, over the network.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # A server that is away is told in seconds; by itself MLflow tries for some minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    if "://" not in uri or uri.startswith("file:"):
        # MLflow discourages folders for many writers; whoever names one wants it.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UserError("MLflow must be installed to track runs: pip install 'shelfrank[mlflow]'") from error
    yield MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def _told(run_path: Path) -> Iterator[None]:
    """Whatever MLflow, its server or the network says, in one sentence that names what is safe and what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{run_path} is finished and safe, but MLflow did not take it all: {_cut(said, 300)}; "
            f"log it later with: shelfrank track {run_path}"
        ) from error


def _started_ms(run: Run) -> int:
    return _finished_ms(run.path) - round(1000 * run.manifest.info["cost"]["wall_s"])


def _finished_ms(folder: Path) -> int:
    return round(1000 * (folder / MANIFEST).stat().st_mtime)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
