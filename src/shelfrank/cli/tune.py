"""The commands of tuning: `shelfrank tune` and `tune-fusion`."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shelfrank.cli.options import AsJson, ConfigFile, Out, Set, tell
from shelfrank.cli.rankers import Preset, Ranker

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
        Literal["weights", "sizes"], typer.Option(help="Loss weights, or dropout, layers, embeddings and experts.")
    ] = "weights",
    method: Annotated[
        Literal["cheap", "full"], typer.Option(help="Train the promising weightings only, or every one.")
    ] = "cheap",
    objective: Objective = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Networks that the search over sizes tries.")] = None,
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
    """Searches for the best loss weights or sizes of a network, on the validation split."""
    from shelfrank.config import TuneConfig, resolve
    from shelfrank.rankers.run import resolve_experiment
    from shelfrank.tune import tuning

    given = [f"search={search}", f"method={method}", *_objective(objective)]
    given += [] if trials is None else [f"sizes.n_trials={trials}"]
    given += [] if seed is None else [f"seed={seed}"]
    settings = resolve(TuneConfig, None, [*given, *(tune_set or [])])
    experiment = resolve_experiment(ranker, config, assign or [], seed, preset)
    if join:
        tuning.join(prepared, ranker, experiment, settings, out)
        return
    changed = tuning.tune(prepared, ranker, experiment, out, settings, workers)
    _tell_best(out, changed, as_json)


@tune_app.command("tune-fusion")
def tune_fusion(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    out: Out,
    objective: Objective = None,
    tune_set: TuneSet = None,
    as_json: AsJson = False,
) -> None:
    """Searches for the weights that fuse a run's scores best, without training it again."""
    from shelfrank.config import TuneConfig, resolve
    from shelfrank.tune.fusion import tune_fusion as run

    changed = run(run_folder, out, resolve(TuneConfig, None, [*_objective(objective), *(tune_set or [])]))
    _tell_best(out, changed, as_json)


def _tell_best(out: Path, changed: bool, as_json: bool) -> None:
    def facts(info: dict[str, Any]) -> list[str]:
        cost = info.get("search", {})
        if not cost.get("full_rows"):
            return []
        share = 100 * cost["rows"] / cost["full_rows"]
        return [f"{cost['trainings']} trainings, {share:.1f} % of the rows that training every weighting would see"]

    tell("tuning", out, changed, as_json, facts)
    if not as_json:
        result = json.loads((out / "trials.json").read_text(encoding="utf-8"))
        for assignment in result["set"]:
            typer.echo(f"--set '{assignment}'")
        typer.echo(f"config: {(out / 'best.yaml').resolve()}")
        typer.echo(f"page: {(out / 'tuning.html').resolve()}")


def _objective(objective: str | None) -> list[str]:
    if objective is None:
        return []
    weights = {}
    for part in objective.split(","):
        task, _, weight = part.partition("=")
        weights[task.strip()] = weight.strip() or "1"
    told = ", ".join(f"{task}: {weight}" for task, weight in weights.items())
    return [f"objective.weights={{{told}}}"]
