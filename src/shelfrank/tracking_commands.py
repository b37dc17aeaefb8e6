"""The command of tracking: `shelfrank track`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from shelfrank.command_options import AsJson
from shelfrank.progress import console


def track(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
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
    from shelfrank.tracking import track as run

    run_id = run(run_folder, evaluations or [], uri, experiment)
    if as_json:
        typer.echo(json.dumps({"path": str(run_folder), "mlflow_run_id": run_id}))
    else:
        console.print(f"{run_folder}: logged to MLflow as run {run_id}", highlight=False)
