"""The command line: every arrow of the pipeline is one command."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from shelfrank import __version__, api
from shelfrank.cli.census import census
from shelfrank.cli.config import config
from shelfrank.cli.options import AsJson, ConfigFile, Mlflow, Out, Set, called_as, settings_of, tell
from shelfrank.cli.rankers import rankers_app
from shelfrank.cli.reproduce import reproduce
from shelfrank.cli.semantic import semantic_app
from shelfrank.cli.serve import serve_app
from shelfrank.cli.tracking import card, track
from shelfrank.cli.tune import tune_app
from shelfrank.core.errors import UserError, os_sentence
from shelfrank.core.progress import console

HEADINGS: Mapping[str, tuple[str, ...]] = {
    "From a log to a service, in this order": (
        *("simulate", "import", "validate", "prepare", "train", "evaluate", "compare", "explain", "export", "serve"),
    ),
    "Rankers and settings": ("rankers", "describe", "config"),
    "Text, labels and tuning": ("semantic", "relevance", "tune", "tune-fusion"),
    "Records of runs, versions of bundles": ("card", "track", "bundles", "rollback"),
    "Whole experiments": ("demo", "reproduce", "census"),
}
"""The commands as `--help` lists them, by heading."""


class OrderedCommands(TyperGroup):
    """The commands in the order of the work, whatever the order in which their files add them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        added = dict(self.commands)
        self.commands = {name: added.pop(name) for names in HEADINGS.values() for name in names} | added
        for heading, names in HEADINGS.items():
            for name in names:
                vars(self.commands[name])["rich_help_panel"] = heading


app = typer.Typer(
    name="shelfrank",
    cls=OrderedCommands,
    help="From a shop's search logs to a personalized, multi-task product ranker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(semantic_app)
app.add_typer(rankers_app)
app.add_typer(tune_app)
app.add_typer(serve_app)
app.command()(census)
app.command()(config)
app.command()(card)
app.command()(track)
app.command()(reproduce)

N_UNKNOWN_WORDS = 8

SplitName = Annotated[str, typer.Option("--split", help="Split to measure on: train, valid or test.")]


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(__version__)
        raise typer.Exit
    return asked


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Holds the options of every command."""


@app.command()
def simulate(
    out: Out,
    searches: Annotated[int | None, typer.Option(help="Result pages.")] = None,
    products: Annotated[int | None, typer.Option(help="Products of the catalogue.")] = None,
    customers: Annotated[int | None, typer.Option(help="Customers.")] = None,
    days: Annotated[int | None, typer.Option(help="Days that the log covers.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the shop.")] = None,
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
) -> None:
    """Makes the log of a shop whose truth is known."""
    sizes = {"searches": searches, "products": products, "customers": customers, "days": days, "seed": seed}
    settings = settings_of(api.simulate, assign, **sizes)
    tell(api.simulate(out=out, config=config, **settings), as_json, _log_facts)


@app.command("import")
def import_source(
    source: Annotated[str, typer.Argument(help="Name of the source's format.")],
    path: Annotated[Path, typer.Argument(help="The source's file or folder, or the mapping.yaml of a custom one.")],
    out: Out,
    first_ordinal: Annotated[
        int | None, typer.Option(min=0, max=1, help="Ordinal of the topmost product in UBI's impression events.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turns raw logs into a validated search log."""
    tell(api.import_log(source, path, out=out, first_ordinal=first_ordinal), as_json, _log_facts)


@app.command()
def validate(
    log: Annotated[Path, typer.Argument(help="A search log's folder.")],
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Purchases and carts without a click are errors.")] = False,
) -> None:
    """Lists every violation of the data contract."""
    violations = api.validate(log, strict=strict)
    if as_json:
        typer.echo(json.dumps([violation.as_dict() for violation in violations]))
    else:
        for violation in violations:
            typer.echo(f"{violation.severity}: {violation}")
        typer.echo(f"{log}: {len(violations)} violations")
    if any(violation.severity == "error" for violation in violations):
        raise typer.Exit(2)


@app.command()
def prepare(
    log: Annotated[Path, typer.Argument(help="A search log's folder.")],
    out: Out,
    engine: Annotated[
        Literal["duckdb", "spark"] | None, typer.Option(help="What runs joins, sorts and aggregates.")
    ] = None,
    semantic: Annotated[
        Path | None, typer.Option("--semantic", help="Semantic scores of this log, for the feature and the labels.")
    ] = None,
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
) -> None:
    """Splits, samples, computes point-in-time features and labels, encodes: the arrays that training reads."""
    settings = settings_of(api.prepare, assign, engine__name=engine)
    tell(api.prepare(log, out=out, semantic=semantic, config=config, **settings), as_json, _prepared_facts)


@app.command()
def relevance(
    prepared: Annotated[Path, typer.Argument(help="Prepared data with relevance labels.")],
    log: Annotated[Path, typer.Option("--log", help="Its log, with true grades.")],
    out: Out,
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
) -> None:
    """Measures how well relevance labels agree with true grades, voter by voter, and writes a page."""
    settings = settings_of(api.relevance_agreement, assign)
    agreement = api.relevance_agreement(prepared, log, out=out, config=config, **settings)
    tell(agreement, as_json)
    if not as_json:
        typer.echo(f"page: {agreement.page.resolve()}")


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    out: Out,
    split: SplitName = "test",
    config: ConfigFile = None,
    assign: Set = None,
    mlflow: Mlflow = False,
    as_json: AsJson = False,
) -> None:
    """Measures one ranker, every figure with its interval; processes that `torchrun` starts share the scoring."""
    from shelfrank.core.processes import joined

    settings = settings_of(api.evaluate, assign)
    with joined() as group:
        evaluation = api.evaluate(run_folder, out=out, split=split, config=config, **settings)
    if not group.leads:
        return
    if as_json:
        typer.echo(json.dumps(evaluation.report, indent=1))
    else:
        tell(evaluation, as_json, lambda _: list(evaluation.lines()))
    if mlflow:
        api.track(run_folder, [evaluation])


@app.command()
def compare(
    evaluations: Annotated[list[Path], typer.Argument(help="Finished evaluations of the same split.")],
    out: Out,
    baseline: Annotated[
        str, typer.Option(help="Name of the evaluation that the others are measured against.")
    ] = "shown_order",
    as_json: AsJson = False,
) -> None:
    """Compares rankers pair by pair and writes the report page."""
    comparison = api.compare(evaluations, out=out, baseline=baseline)
    console.print(f"compare: {'done' if comparison.changed else 'unchanged'} ({out})", highlight=False)
    if as_json:
        typer.echo(json.dumps(comparison.report))
    else:
        _show(comparison)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of everything that the demo makes.")] = Path("demo"),
    full: Annotated[
        bool, typer.Option("--full", help="A larger shop, every ranker, and relevance labels against true grades.")
    ] = False,
    searches: Annotated[
        int | None, typer.Option(min=1, help="Results pages of the simulated shop; the demo's own number if not given.")
    ] = None,
) -> None:
    """Makes a shop's logs, prepares them, trains rankers, compares them and exports one to serve."""
    result = api.run_demo(out=out, searches=searches, full=full)
    _show(result.comparison)
    if result.bundle:
        line = f"{called_as()} serve {shlex.quote(str(result.bundle))}"
        console.print(f"to search as any customer: {line}", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Runs the command line; a user's error is one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        _fail(os_sentence(error))


def _fail(message: str) -> None:
    console.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)


def _log_facts(info: Mapping[str, Any]) -> list[str]:
    rows = ", ".join(f"{count:,} {table}" for table, count in info["rows"].items() if not table.startswith("truth"))
    lines = [f"warning: {warning.get('text', warning)}" for warning in info["warnings"]]
    lines += [f"rows: {rows}"]
    lines += [f"left out: {count:,} {reason}" for reason, count in sorted(info["left_out"].items())]
    lines += [f"note: {name}: {note}" for name, note in sorted(info["notes"].items())]
    return lines


def _prepared_facts(info: Mapping[str, Any]) -> list[str]:
    suspects = info.get("suspect_features", {})
    lines = [f"warning: feature {name} may be a leak: {suspect['text']}" for name, suspect in suspects.items()]
    if "folds" in info:
        lines.append(f"folds: {len(info['folds'])}; test below is that of all, train and valid are the last fold's")
    for name, split in info["splits"].items():
        positives = ", ".join(f"{count:,} {task}" for task, count in split["positives"].items())
        lines.append(f"{name}: {split['searches']:,} searches, {split['impressions']:,} impressions, {positives}")
    lines.append("features: " + ", ".join(f"{count} {side}" for side, count in sorted(info["features"].items())))
    if "feature_seconds" in info:
        costs = sorted(info["feature_seconds"].items(), key=lambda item: (-item[1], item[0]))
        lines.append("seconds by group of features: " + ", ".join(f"{group} {value:,.1f}" for group, value in costs))
    lines += [f"spelling: {info['spelling']}"] if "spelling" in info else []
    if "understanding" in info:
        lines.append(_understanding_line(info["understanding"]))
    lines += [f"left out: {count:,} {reason}" for reason, count in sorted(info["left_out"].items()) if count]
    lines += [f"feature left out: {name}: {why}" for name, why in sorted(info["left_out_features"].items())]
    lines += [f"default of no use: {name}: {why}" for name, why in sorted(info.get("lost_defaults", {}).items())]
    for name, splits in sorted(info.get("clipped", {}).items()):
        rows = ", ".join(f"{count:,} {split} rows" for split, count in splits.items())
        lines.append(f"clipped to the training range: {name}: {rows}")
    lines += [f"texts cut: {count:,} {reason}" for reason, count in sorted(info["cut_texts"].items()) if count]
    lines += api.sampling_lines(info["sampling"]) if "sampling" in info else []
    labels = info.get("relevance", {"counts": {}, "notes": []})
    lines += [f"relevance labels: {count:,} {what}" for what, count in labels["counts"].items()]
    lines += [f"relevance labels: {note}" for note in labels["notes"]]
    return lines


def _understanding_line(read: Mapping[str, Any]) -> str:
    line = f"queries: read with {read['n_terms']:,} terms of the catalogue, {read['n_types']:,} of them product types"
    if read["n_not_learned_from"]:
        line += f", not learned from {read['n_not_learned_from']:,} training rows (understanding.max_rows)"
    if not read["unknown"]:
        return line
    # The manifest keeps names in the order of letters.
    words = sorted(read["unknown"].items(), key=lambda item: (-item[1], item[0]))
    most = ", ".join(f"{word} ({n:,})" for word, n in words[:N_UNKNOWN_WORDS])
    return f"{line}; {read['n_unknown']:,} words are not understood, most often (searches): {most}"


def _show(comparison: api.Comparison) -> None:
    comparison.show()
    typer.echo(f"report: {comparison.page.resolve()}")
