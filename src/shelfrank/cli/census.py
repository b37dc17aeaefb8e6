"""The command `shelfrank census`: the MMoE paper's comparison on its own data."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shelfrank import api
from shelfrank.cli.options import AsJson, Out, Set


def census(
    folder: Annotated[Path, typer.Argument(help="Folder of census-income.data and .test, gzipped or not.")],
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every model, from the seeds 0, 1, ...")] = 3,
    group: Annotated[str | None, typer.Option(help="The only group of tasks: income or education.")] = None,
    split: Annotated[str, typer.Option(help="Split to measure on: train, valid or test.")] = "test",
    assign: Set = None,
    as_json: AsJson = False,
) -> None:
    """Compares MMoE, shared bottom and single task on Census-Income, the MMoE paper's own data."""
    found = api.compare_census(folder, out=out, seeds=seeds, group=group, split=split, assign=assign or [])
    if as_json:
        typer.echo(json.dumps(found.figures))
        return
    for name in dict.fromkeys(line["group"] for line in found.figures["summary"]):
        Console().print(_table(found, name))
    typer.echo(f"figures: {found.file.resolve()}")


def _table(found: api.CensusComparison, group: str) -> Table:
    title = f"Census-Income, {group} group, {found.figures['split']} split: mean AUC (least-greatest)"
    table = Table(title=title, title_justify="left")
    for name in ("Task", "Model"):
        table.add_column(name)
    for name in ("Parameters", "Seeds", "AUC"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in found.figures["summary"]:
        if line["group"] == group:
            table.add_row(
                line["task"],
                found.labels[line["model"]],
                f"{line['parameters']:,}",
                str(line["n_seeds"]),
                f"{line['mean']:.4f} ({line['min']:.4f}-{line['max']:.4f})",
            )
    return table
