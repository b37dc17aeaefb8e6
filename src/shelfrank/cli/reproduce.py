"""The command `shelfrank reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from shelfrank import api
from shelfrank.cli.options import AsJson, Set


def reproduce(
    what: Annotated[str, typer.Argument(help="table1 to table5, or all, which also judges the claims.")] = "all",
    budget: Annotated[str, typer.Option(help="Sizes: smoke, small or full.")] = "small",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of everything that is made.")] = None,
    prepared: Annotated[
        Path | None, typer.Option("--prepared", help="Prepared data of your log; else a shop is simulated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of every row.")] = None,
    weights: Annotated[
        Literal["paper", "tuned"] | None,
        typer.Option(help="Task weights as printed, or tuned on the validation split."),
    ] = None,
    text_model: Annotated[
        str | None, typer.Option(help="Text encoder: a local folder, a hub name, or packaged.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trainings at once; every core if not given.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Where the small files are copied, for example into a repository.")
    ] = None,
    assign: Set = None,
    as_json: AsJson = False,
) -> None:
    """Runs the paper's experiments and sets their tables beside the paper's."""
    found = api.reproduce(
        what,
        budget=budget,
        out=out,
        data=prepared,
        seeds=seeds,
        weights=weights,
        text_model=text_model,
        workers=workers,
        results=results,
        assign=assign or [],
    )
    if as_json:
        typer.echo(found.summary)
        return
    for text in found.markdown:
        typer.echo(text)
    typer.echo(f"page: {found.page.resolve()}")
