"""The command `shelfrank census`: the MMoE paper's comparison on its own data."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

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
    from shelfrank.paper.census.experiment import FIGURES, compare_census, comparison_folder

    figures = compare_census(folder, out, seeds, assign or [], group, split)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for name in dict.fromkeys(line["group"] for line in figures["summary"]):
        Console().print(_table(figures, name))
    typer.echo(f"figures: {(comparison_folder(out, split) / FIGURES).resolve()}")


def _table(figures: dict[str, Any], group: str) -> Table:
    from shelfrank.paper.census.experiment import MODELS

    title = f"Census-Income, {group} group, {figures['split']} split: mean AUC (least-greatest)"
    table = Table(title=title, title_justify="left")
    for name in ("Task", "Model"):
        table.add_column(name)
    for name in ("Parameters", "Seeds", "AUC"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in figures["summary"]:
        if line["group"] == group:
            table.add_row(
                line["task"],
                MODELS[line["model"]].label,
                f"{line['parameters']:,}",
                str(line["n_seeds"]),
                f"{line['mean']:.4f} ({line['min']:.4f}-{line['max']:.4f})",
            )
    return table
