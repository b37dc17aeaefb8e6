"""The commands of tuning: `shelfrank tune` and `tune-fusion`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shelfrank import api
from shelfrank.cli.options import AsJson, ConfigFile, Out, Set, settings_of, tell
from shelfrank.cli.rankers import Preset, Ranker
from shelfrank.config.base import assignments

Objective = Annotated[
    str | None,
    typer.Option(help="Task whose MRR counts, or weights such as click=1,purchase=3; all tasks equally if not given."),
]
TuneSet = Annotated[
    list[str] | None,
    typer.Option("--tune", metavar="A.B=VALUE", help="One key of the search's own settings; may be given again."),
]

tune_app = typer.Typer()


@tune_app.command()
def tune(
    prepared: Annotated[Path, typer.Argument(help="A folder of prepared data; its test split is not opened.")],
    out: Out,
    ranker: Ranker,
    search: Annotated[
        Literal["weights", "sizes"],
        typer.Option(
            help="Loss weights, or sizes of a network; of trees that learn to rank, rate, size, regularisation."
        ),
    ] = "weights",
    method: Annotated[
        Literal["cheap", "full"], typer.Option(help="Train the promising weightings only, or every one.")
    ] = "cheap",
    objective: Objective = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Networks or trees that the search over sizes tries.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that train at the same time.")] = 1,
    join: Annotated[
        bool, typer.Option("--join", help="Only work on the trials of the same command that runs elsewhere.")
    ] = False,
    preset: Preset = "default",
    config: ConfigFile = None,
    assign: Set = None,
    tune_set: TuneSet = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
    as_json: AsJson = False,
) -> None:
    """Searches for the best loss weights or sizes of a network, or settings of trees, on the validation split."""
    found = api.tune(
        prepared,
        ranker=ranker,
        out=out,
        search=search,
        method=method,
        objective=_weights(objective),
        trials=trials,
        workers=workers,
        join=join,
        preset=preset,
        tuning=assignments(tune_set or []),
        config=config,
        **settings_of(api.tune, assign, seed=seed),
    )
    if not join:
        _tell_best(found, as_json)


@tune_app.command("tune-fusion")
def tune_fusion(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    out: Out,
    objective: Objective = None,
    tune_set: TuneSet = None,
    as_json: AsJson = False,
) -> None:
    """Searches for the weights that fuse a run's scores best, without training it again."""
    found = api.tune_fusion(run_folder, out=out, objective=_weights(objective), tuning=assignments(tune_set or []))
    _tell_best(found, as_json)


def _tell_best(found: api.Tuning, as_json: bool) -> None:
    def facts(info: Mapping[str, Any]) -> list[str]:
        cost = info.get("search", {})
        if not cost.get("full_rows"):
            return []
        share = 100 * cost["rows"] / cost["full_rows"]
        return [f"{cost['trainings']} trainings, {share:.1f} % of the rows that training every weighting would see"]

    tell(found, as_json, facts)
    if not as_json:
        for assignment in found.report["set"]:
            typer.echo(f"--set '{assignment}'")
        typer.echo(f"config: {found.best.resolve()}")
        typer.echo(f"page: {found.page.resolve()}")


def _weights(objective: str | None) -> dict[str, Any] | None:
    """The weights of `--objective`, which are 1 where none is given."""
    if objective is None:
        return None
    parts = (part.partition("=") for part in objective.split(","))
    return assignments([f"{task}={weight.strip() or 1}" for task, _, weight in parts])
