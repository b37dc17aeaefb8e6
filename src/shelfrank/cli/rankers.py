"""The commands of rankers: `shelfrank train`, `rankers`, `describe` and `explain`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from shelfrank import api
from shelfrank.cli.options import AsJson, ConfigFile, Mlflow, Out, Set, settings_of, tell
from shelfrank.config.rankers import DEFAULT_RANKER, RANKER_NAMES


def ranker_names() -> list[str]:
    """The names that a shell completes."""
    return list(RANKER_NAMES)


Ranker = Annotated[
    str,
    typer.Option("--ranker", help="Name of the ranker; `shelfrank rankers` lists them.", autocompletion=ranker_names),
]
Preset = Annotated[
    Literal["default", "paper"], typer.Option(help="Sizes: the ranker's own, or near to the paper's parameter counts.")
]

rankers_app = typer.Typer()


@rankers_app.command()
def train(
    prepared: Annotated[Path, typer.Argument(help="A folder of prepared data.")],
    out: Out,
    ranker: Ranker = DEFAULT_RANKER,
    preset: Preset = "default",
    config: ConfigFile = None,
    assign: Set = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
    device: Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="What trains and scores.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last complete checkpoint.")] = False,
    mlflow: Mlflow = False,
    as_json: AsJson = False,
) -> None:
    """Trains one ranker, where none is named a blend; processes that `torchrun` starts share the work."""
    from shelfrank.core.processes import joined

    settings = settings_of(api.train, assign, seed=seed, train__device=device)
    with joined() as group:
        run = api.train(prepared, ranker=ranker, out=out, preset=preset, resume=resume, config=config, **settings)
        if group.leads:
            tell(run, as_json, lambda info: info["fitted"]["choices"])
    if mlflow and group.leads:
        api.track(run)


@rankers_app.command()
def rankers() -> None:
    """Lists the rankers that `train` knows."""
    labels = api.rankers()
    width = max(map(len, labels))
    for name, label in labels.items():
        typer.echo(f"{name:<{width}}  {label}")


@rankers_app.command()
def describe(
    ranker: Annotated[str, typer.Argument(help="Name of a network.", autocompletion=ranker_names)],
    prepared: Annotated[
        Path | None, typer.Option("--prepared", help="Data that it is sized for; else a schema of the paper's kind.")
    ] = None,
    preset: Preset = "default",
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
) -> None:
    """Counts a network's trainable and frozen parameters, box by box, beside the paper's figure."""
    settings = settings_of(api.describe, assign)
    found = api.describe(ranker, data=prepared, preset=preset, config=config, **settings)
    typer.echo(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))


@rankers_app.command()
def explain(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    search: Annotated[str, typer.Option("--search", help="Id of the search whose page is explained.")],
    task: Annotated[
        str | None, typer.Option(help="Task whose logit is explained; the run's first if not given. JSON has all.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split that has the search: train, valid or test.")] = "test",
    top: Annotated[int, typer.Option(min=1, help="Most products.")] = 8,
    baseline: Annotated[
        Literal["mean", "neutral"],
        typer.Option(help="What is measured from: the training mean, or the same page for a neutral customer."),
    ] = "mean",
    as_json: AsJson = False,
) -> None:
    """Explains the order of a page's first products by feature, with the gates of the mixture."""
    found = api.explain(run_folder, search=search, split=split, top=top, baseline=baseline)
    lines = found.lines(task)
    typer.echo(json.dumps(found.as_dict()) if as_json else "\n".join(lines))
