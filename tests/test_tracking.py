"""Runs logged to MLflow: what is written is read back through MLflow's own client, and nothing is written twice."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shelfrank import tracking
from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import MANIFEST
from shelfrank.core.errors import UserError
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.rankers.run import Run
from shelfrank.tracking import MAX_VALUE, Value, curve_values, evaluation_values, flattened, track

CONFIG = EvaluateConfig(ks=(1, 5), pd_k=5, n_resamples=20, n_resamples_auc=5)


def test_settings_are_flattened_within_the_limits() -> None:
    flat = flattened({"a": {"b": {"c": None}, "empty": {}}, "text": "x" * 600, "long" * 100: True})
    assert (flat["a.b.c"], flat["a.empty"]) == ("null", "{}")
    assert len(flat["text"]) == MAX_VALUE
    assert flat["text"].endswith("…")
    assert {len(key) for key, value in flat.items() if value == "true"} == {tracking.MAX_KEY}


def test_a_curve_has_a_value_per_epoch_and_task() -> None:
    curve = [
        {"epoch": 1, "train_loss": 0.5, "valid_losses": [0.1, 0.2], "seconds": 2.5, "best": False},
        {"epoch": 2, "train_loss": None, "valid_losses": [0.3, 0.4], "seconds": 5.0, "best": True},
    ]
    values = curve_values(curve, ("click", "purchase"), start_ms=1000)
    assert [value for value in values if value.key == "train_loss"] == [Value("train_loss", 0.5, 1, 3500)]
    assert [value for value in values if value.key.startswith("valid_loss")] == [
        Value("valid_loss.click", 0.1, 1, 3500), Value("valid_loss.purchase", 0.2, 1, 3500),
        Value("valid_loss.click", 0.3, 2, 6000), Value("valid_loss.purchase", 0.4, 2, 6000),
    ]  # fmt: skip
    # Whose losses they are is not known.
    assert {value.key for value in curve_values(curve, (), 0)} == {"train_loss", "seconds"}


def test_unknown_figures_are_left_out() -> None:
    known = {"value": 0.5, "low": None, "high": None, "n": 1}
    unknown = dict.fromkeys(known)
    report = {"auc": {"click": None}, "mrr": {"10": {"click": known, "purchase": unknown}}, "ndcg": {}, "pd": None}
    assert evaluation_values(report, "valid", 7) == [
        Value("valid.mrr_10.click", 0.5, 0, 7), Value("valid.mrr_10.click.n", 1.0, 0, 7),
    ]  # fmt: skip


def test_without_an_address_nothing_is_tried(small_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="name it as `uri`, or set MLFLOW_TRACKING_URI"):
        track(small_runs["mmoe"])


def test_without_mlflow_the_extra_is_named(small_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'shelfrank\[mlflow\]'"):
        track(small_runs["mmoe"], uri="http://127.0.0.1:9")


def test_an_evaluation_of_another_run_is_refused(small_runs: dict[str, Path], evaluation: Path) -> None:
    with pytest.raises(UserError, match="is of another run"):
        track(small_runs["shown_order"], [evaluation], uri="http://127.0.0.1:9")


def test_two_evaluations_of_one_split_are_refused(small_runs: dict[str, Path], evaluation: Path) -> None:
    with pytest.raises(UserError, match=r"must be of one split each, .* but test is given twice"):
        track(small_runs["mmoe_dcn_v2"], [evaluation, evaluation], uri="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def evaluation(small_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tracked") / "evaluation"
    evaluate(small_runs["mmoe_dcn_v2"], out, CONFIG)
    return out


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """Logs to a folder and gives MLflow's client and its run: `log(run, [evaluation])`."""
    reason = "its 25 packages weigh 95 MB; make test-mlflow installs them"
    mlflow = pytest.importorskip("mlflow", reason=f"needs the extra mlflow: {reason}")

    def logged(run: Path, evaluations: list[Path] | None = None, **more: Any) -> tuple[Any, Any]:
        uri = str(tmp_path / "mlruns")
        run_id = track(run, evaluations or [], uri=uri, **more)
        client = mlflow.MlflowClient(tracking_uri=uri)
        return client, client.get_run(run_id)

    return logged


def everything(client: Any, run_id: str) -> dict[str, Any]:
    """All that MLflow holds of a run."""
    run = client.get_run(run_id)
    return {
        "params": dict(run.data.params),
        "tags": dict(run.data.tags),
        "metrics": {
            key: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "files": files_of(client, run_id),
        "status": run.info.status,
    }


def files_of(client: Any, run_id: str, folder: str | None = None) -> set[str]:
    found = set()
    for item in client.list_artifacts(run_id, folder):
        found |= files_of(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def test_a_run_is_read_back_as_it_was(
    log: Callable[..., tuple[Any, Any]], small_runs: dict[str, Path], evaluation: Path
) -> None:
    folder = small_runs["mmoe_dcn_v2"]
    run, report = Run.open(folder), Evaluation.open(evaluation).report
    client, logged = log(folder, [evaluation])
    assert (logged.info.run_name, logged.info.status) == ("mmoe_dcn_v2", "FINISHED")
    assert client.get_experiment(logged.info.experiment_id).name == "shelfrank"
    assert logged.data.tags["shelfrank.run"] == run.manifest.fingerprint
    assert logged.data.tags["shelfrank.data"] == run.prepared().manifest.fingerprint
    assert logged.data.tags["shelfrank.ranker"] == logged.data.params["ranker"] == "mmoe_dcn_v2"
    assert logged.data.params["neural.mmoe.expert_layers"] == "[8]"
    assert logged.data.params["train.epochs"] == str(run.config.train.epochs)

    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = client.get_metric_history(logged.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in losses] == [(r["epoch"], r["train_loss"]) for r in records]
    of_click = client.get_metric_history(logged.info.run_id, "valid_loss.click")
    assert [m.value for m in of_click] == [record["valid_losses"][0] for record in records]

    figure = report["mrr"]["5"]["click"]
    for end, key in (("", "value"), (".low", "low"), (".high", "high"), (".n", "n")):
        assert logged.data.metrics[f"test.mrr_5.click{end}"] == figure[key]
    assert logged.data.metrics["test.auc.purchase"] == report["auc"]["purchase"]["value"]
    assert logged.data.metrics["test.pd_5"] == report["pd"]["5"]["value"]
    assert logged.data.metrics["parameters.trainable"] == report["params"]["trainable"]

    names = {MANIFEST, "config.yaml", "metrics.jsonl", "weights.safetensors", "evaluation_test/report.json"}
    assert files_of(client, logged.info.run_id) == names
    weights = client.download_artifacts(logged.info.run_id, "weights.safetensors")
    assert Path(weights).read_bytes() == (folder / "weights.safetensors").read_bytes()


def test_what_is_logged_is_not_logged_again(
    log: Callable[..., tuple[Any, Any]], small_runs: dict[str, Path], evaluation: Path, tmp_path: Path
) -> None:
    folder = small_runs["mmoe_dcn_v2"]
    client, first = log(folder)
    _, with_figures = log(folder, [evaluation])
    before = everything(client, first.info.run_id)
    _, again = log(folder, [evaluation])
    # A copy elsewhere is the same run.
    shutil.copytree(folder, tmp_path / "copy")
    _, copied = log(tmp_path / "copy", [evaluation])
    assert {run.info.run_id for run in (first, with_figures, again, copied)} == {first.info.run_id}
    assert len(client.search_runs([first.info.experiment_id])) == 1
    assert everything(client, first.info.run_id) == before


def test_a_logging_that_was_cut_off_is_completed(
    log: Callable[..., tuple[Any, Any]],
    small_runs: dict[str, Path],
    evaluation: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = small_runs["mmoe_dcn_v2"]
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "MAX_IN_BATCH", 40)
        patch.setattr("mlflow.MlflowClient.log_artifact", lambda *_: (_ for _ in ()).throw(OSError("the line is dead")))
        with pytest.raises(UserError, match=r"finished and safe, but .*the line is dead.*shelfrank track"):
            log(folder, [evaluation])
    client, logged = log(folder, [evaluation])
    (only,) = client.search_runs([logged.info.experiment_id])
    found = everything(client, only.info.run_id)
    assert found["status"] == "FINISHED"
    assert {len(history) for key, history in found["metrics"].items() if key.startswith("test.")} == {1}
    assert len(found["metrics"]["train_loss"]) == len(Run.open(folder).manifest.info["fitted"]["curve"])
    assert "evaluation_test/report.json" in found["files"]


@pytest.mark.parametrize("name", ["shown_order", "xgboost", "lambdamart"])
def test_other_rankers_are_logged_too(
    name: str, log: Callable[..., tuple[Any, Any]], small_runs: dict[str, Path]
) -> None:
    client, logged = log(small_runs[name], experiment="another")
    assert client.get_experiment(logged.info.experiment_id).name == "another"
    run = Run.open(small_runs[name])
    assert set(run.manifest.files) < files_of(client, logged.info.run_id)
    assert ("train_loss" in logged.data.metrics) == (name == "xgboost")


def test_losses_by_task_need_the_data(
    log: Callable[..., tuple[Any, Any]], small_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(path: Path) -> None:
        raise UserError(f"{path} is away")

    monkeypatch.setattr(tracking.PreparedData, "open", away)
    _, logged = log(small_runs["mmoe_dcn_v2"])
    assert "valid_loss" in logged.data.metrics
    assert "valid_loss.click" not in logged.data.metrics


def test_a_server_that_is_away_is_told_and_costs_nothing(
    log: Callable[..., tuple[Any, Any]], small_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = small_runs["mmoe"]
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(UserError, match="is finished and safe, but MLflow did not take it all"):
        track(folder, uri="http://127.0.0.1:9")
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_mlflow_tells_its_makers_nothing(log: Callable[..., tuple[Any, Any]], small_runs: dict[str, Path]) -> None:
    # MLflow's own answer would not do: it is always silent under pytest.
    log(small_runs["shown_order"])
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
