"""A reproduction from end to end: data, runs, figures, tables, claims."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from shelfrank import __version__
from shelfrank.config import TuneConfig
from shelfrank.core.artifact import is_current, publish, read_manifest, write_atomic
from shelfrank.core.errors import UserError, unknown_name
from shelfrank.core.processor import usable_cores
from shelfrank.core.progress import console, progress
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.paper.reproduce.budgets import Budget
from shelfrank.paper.reproduce.claims import pairs
from shelfrank.paper.reproduce.data import make_data
from shelfrank.paper.reproduce.formats import LEGEND, latex_table, markdown_claims, markdown_table
from shelfrank.paper.reproduce.measure import RowTrainings, difference
from shelfrank.paper.reproduce.page import conclusion, render_reproduction
from shelfrank.paper.reproduce.rows import TableRow, TaskFigures, printed_weights, rows_of, why_not
from shelfrank.paper.reproduce.runs import Training, plan, pure_report, resolve_row, run_all
from shelfrank.paper.reproduce.tables import tables
from shelfrank.tune.tuning import tune_weights

KIND = "reproduction"
REPRODUCTION_VERSION = 3
"""Part of every reproduction's inputs: raise it when the same runs give other figures or pages."""
TABLES = tuple(f"table{number}" for number in range(1, 6))
WHAT = (*TABLES, "all")


def reproduce(
    what: str,
    out: Path,
    budget: Budget,
    prepared_path: Path | None = None,
    n_workers: int | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Makes the paper's tables; finished steps are skipped.

    Args:
        what: One of `WHAT`; `all` also judges the claims.
        out: Folder of all results.
        budget: Sizes, seeds and settings.
        prepared_path: Prepared data of another log; None simulates a shop.
        n_workers: Trainings at once, of one thread each; None takes every core.
        overrides: Settings of every run, as `--set` takes them.

    Returns:
        The folder of the tables.

    Raises:
        UserError: Where a step cannot run, or a training failed.
    """
    if what not in WHAT:
        raise unknown_name("table", what, WHAT)
    requested = TABLES if what == "all" else (what,)
    path = prepared_path or make_data(out, budget)
    prepared = PreparedData.open(path)
    wanted = {row.name: row for table in requested for row in rows_of(int(table[-1]))}
    left_out = {name: why for name, row in wanted.items() if (why := why_not(row, prepared))}
    rows = [row for name, row in wanted.items() if name not in left_out]
    for name, why in left_out.items():
        console.print(f"{name}: left out, as {why}", highlight=False)
    tuned = _tuned(rows, path, out, budget, overrides) if budget.weights == "tuned" else {}
    trainings = plan(rows, budget, out, tuned, overrides)
    if trainings:
        run_all(trainings, path, budget.evaluate, n_workers or usable_cores())
    folder = out / "results" / what
    inputs = {
        "what": what,
        "version": REPRODUCTION_VERSION,
        "data": prepared.manifest.fingerprint,
        "evaluations": {t.name: read_manifest(t.evaluation, "evaluation").fingerprint for t in trainings},
        "n_resamples": budget.n_resamples,
        "budget": budget.name,
    }
    if is_current(folder, KIND, inputs):
        console.print(f"tables: unchanged ({folder})", highlight=False)
        return folder
    summary = summarise(trainings, prepared, budget, left_out)
    with publish(folder, KIND, inputs) as draft:
        for training in trainings:
            write_json(draft.path / "runs" / f"{training.name}.json", pure_report(training))
        write_json(draft.path / "summary.json", summary)
        write_pages(draft.path, summary, requested, with_claims=what == "all")
    console.print(f"tables: done ({folder})", highlight=False)
    return folder


def summarise(
    trainings: Sequence[Training], prepared: PreparedData, budget: Budget, left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Every figure that the tables and the claims show, as plain data.

    Args:
        trainings: The finished trainings.
        prepared: The data that they were measured on.
        budget: The budget that they were trained with.
        left_out: Rows that the data cannot have, with the reason.

    Returns:
        `rows` by name, `differences` by `RowPair.key`, and the data and settings behind them.
    """
    split, config = prepared.split("test"), budget.evaluate
    names = list(dict.fromkeys(training.row.name for training in trainings))
    measured = {
        name: RowTrainings([each for each in trainings if each.row.name == name], split, config) for name in names
    }
    rows, differences = {}, {}
    needed = pairs()
    with progress("Measuring", total=len(measured) + len(needed), unit="figures") as advance:
        for name, row in measured.items():
            rows[name] = row.figures()
            advance(1)
        for pair in needed:
            found = difference(pair, measured, config, budget.n_resamples)
            if found is not None:
                differences[pair.key] = found
            advance(1)
    settings = asdict(budget)
    settings["evaluate"] = config.model_dump(mode="json")
    return {
        "shelfrank": __version__,
        "torch": torch.__version__,
        "budget": settings,
        "tasks": list(prepared.tasks),
        "data": _data(prepared),
        "rows": rows,
        "differences": differences,
        "left_out": dict(left_out),
    }


def write_pages(folder: Path, summary: Mapping[str, Any], requested: Sequence[str], with_claims: bool) -> None:
    """Writes the tables, and the claims where they are judged, in every format.

    Args:
        folder: Where they go.
        summary: What `summarise` gives, or `summary.json` holds.
        requested: Names of tables.
        with_claims: Whether the claims are judged.
    """
    made = tables(summary, requested)
    parts = [LEGEND, "", *(markdown_table(table) for table in made)]
    (folder / "tables.md").write_text("\n".join(parts), encoding="utf-8")
    (folder / "tables.tex").write_text("\n".join(latex_table(table) for table in made), encoding="utf-8")
    write_json(folder / "tables.json", [asdict(table) for table in made])
    if with_claims:
        claims = f"{conclusion(summary['differences'])}\n\n{markdown_claims(summary['differences'])}"
        (folder / "claims.md").write_text(claims, encoding="utf-8")
    page = render_reproduction(summary, made, with_claims)
    (folder / "reproduction.html").write_text(page, encoding="utf-8")


def keep_results(folder: Path, results: Path) -> None:
    """Copies the small files of a reproduction, such as into a repository; the manifest, which has paths, stays.

    Args:
        folder: What `reproduce` gave.
        results: Where they go; what an earlier call put there is replaced.

    Raises:
        UserError: Where `results` holds something else.
    """
    if results.exists() and any(results.iterdir()) and not (results / "summary.json").is_file():
        raise UserError(f"{results} must be new or hold an earlier reproduction, but it holds something else")
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(folder, results, ignore=shutil.ignore_patterns("manifest.json"))


def write_json(file: Path, data: Any) -> None:
    """Writes plain data for people and version control."""
    file.parent.mkdir(exist_ok=True)
    write_atomic(file, (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def _tuned(
    rows: Sequence[TableRow], prepared: Path, out: Path, budget: Budget, overrides: Sequence[str]
) -> dict[str, TaskFigures]:
    """Task weights of every row that has some, tuned on the validation split (Paper: Sec. 4.2)."""
    found: dict[str, TaskFigures] = {}
    for row in rows:
        if row.base is None and printed_weights(row) is not None:
            config = resolve_row(row, budget, 0, overrides=overrides)
            found[row.name] = tune_weights(prepared, row.ranker, config, out / "tuned" / row.name, TuneConfig())
    return found | {row.name: found[row.base] for row in rows if row.base in found}


def _data(prepared: PreparedData) -> dict[str, Any]:
    info = prepared.manifest.info
    sampling = info.get("sampling")
    notes = [f"{count:,} rows left out: {why}." for why, count in sorted(info["left_out"].items()) if count]
    if sampling:
        totals = sampling["totals"]
        kept = totals["taken_positive"] + totals["taken_negative"]
        notes.append(
            f"Stratified sampling (Sec. 3.4) kept {kept:,} of {totals['impressions']:,} training rows, "
            f"{totals['taken_positive']:,} of them positive; validation and test are whole."
        )
    return {
        "name": info["log_name"],
        "fingerprint": prepared.manifest.fingerprint,
        "splits": {name: info["splits"][name] for name in SPLITS},
        "sampled": bool(sampling),
        "notes": notes,
        "features": info["features"],
        "columns": len(prepared.numerical_columns) + len(prepared.categorical_columns),
    }
