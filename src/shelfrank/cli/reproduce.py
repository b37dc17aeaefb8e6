"""The command `shelfrank reproduce`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

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
    from shelfrank.paper.reproduce.budgets import budget_named
    from shelfrank.paper.reproduce.pipeline import keep_results
    from shelfrank.paper.reproduce.pipeline import reproduce as run

    chosen = budget_named(budget)
    given = {"n_seeds": seeds, "weights": weights, "text_model": text_model}
    chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
    folder = run(what, out or Path("reproduce") / budget, chosen, prepared, workers, assign or [])
    if results is not None:
        keep_results(folder, results)
    if as_json:
        typer.echo((folder / "summary.json").read_text(encoding="utf-8"))
        return
    for name in ("claims.md", "tables.md"):
        if (folder / name).is_file():
            typer.echo((folder / name).read_text(encoding="utf-8"))
    typer.echo(f"page: {(folder / 'reproduction.html').resolve()}")
