"""The records of a finished run: `shelfrank track` logs to MLflow, `shelfrank card` writes its model card."""

import json
from pathlib import Path
from typing import Annotated

import typer

from shelfrank import api
from shelfrank.cli.options import AsJson, Out
from shelfrank.core.progress import console

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")]


def track(
    run_folder: RunFolder,
    evaluations: Annotated[
        list[Path] | None, typer.Argument(metavar="[EVALUATION]...", help="Finished evaluations of it.")
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="Address of MLflow, or a folder; MLFLOW_TRACKING_URI if not given.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment in MLflow; MLFLOW_EXPERIMENT_NAME or shelfrank if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Logs a run and its evaluations to MLflow: parameters, metrics by epoch, figures, files."""
    run_id = api.track(run_folder, evaluations or [], uri=uri, experiment=experiment)
    if as_json:
        typer.echo(json.dumps({"path": str(run_folder), "mlflow_run_id": run_id}))
    else:
        console.print(f"{run_folder}: logged to MLflow as run {run_id}", highlight=False)


def card(
    run_folder: RunFolder,
    evaluation: Annotated[Path, typer.Argument(help="A finished evaluation of it.")],
    out: Out,
    license_name: Annotated[
        str, typer.Option("--license", help="Licence of the weights, as the card shall name it.")
    ] = "unknown",
    as_json: AsJson = False,
) -> None:
    """Writes the model card of a run: data, use, figures by segment, limits."""
    written = api.model_card(run_folder, evaluation, out=out, license=license_name)
    if as_json:
        typer.echo(json.dumps({"path": str(out), "changed": written.changed}))
    else:
        console.print(f"{out}: {'done' if written.changed else 'unchanged, nothing to do'}", highlight=False)
        typer.echo(f"page: {written.page.resolve()}")
