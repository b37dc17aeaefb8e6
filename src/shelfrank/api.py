"""The pipeline from Python: each step is a function, each result an object that the next step takes.

    import shelfrank as sr

    log = sr.simulate(out="logs/shop", searches=3000)                 # or
    log = sr.import_log("custom", "mapping.yaml", out="logs/shop")    # or
    log = sr.SearchLog.from_frames(
        impressions=clicks, products=catalogue, out="logs/shop",
        columns={"impressions": {"page": "search_id", "at": "timestamp"}},
        features={"brand": {"side": "product", "kind": "categorical"}},
    )
    data = sr.prepare(log, out="prepared", history={"windows_days": [1, 7]})
    evaluations = []
    for ranker in ("shown_order", "lambdamart", "mmoe"):
        run = sr.train(data, ranker=ranker, out=f"runs/{ranker}", seed=0)
        evaluations.append(sr.evaluate(run, out=f"evals/{ranker}"))
    comparison = sr.compare(evaluations, out="comparison", baseline="shown_order")
    comparison.table()         # a pandas frame: figures, intervals, paired differences
    comparison.per_search()    # a pandas frame: every search's metrics, to slice as you like
    bundle = sr.export(run, out="bundle")
    bundle.rank(query="red sofa", candidates=["p1", "p2"], customer="c7").results

A step takes a path or the object that an earlier step returned. It writes one folder, `.path`, and keeps a finished one
of the same inputs: then `.changed` is False. `validate` and `explain` write nothing and return what they found. As on
the command line, a run names its data by the path that was given.

Settings are nested keywords, the same keys as in the command line's `--set` and `--config`; the classes in
`shelfrank.config` list them. A wrong key or value is a `UserError` that names its path.
"""

import datetime as dt
import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shelfrank.config import EvaluateConfig, PrepareConfig, resolve
from shelfrank.core.artifact import read_manifest
from shelfrank.core.errors import UserError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from shelfrank.bundle.loaded import Bundle as LoadedBundle
    from shelfrank.explain.search import ExplainedSearch
    from shelfrank.logs.violation import Violation
    from shelfrank.serve.api import RankResponse

Location = str | os.PathLike[str]
"""A path, or the result of a step."""


@dataclass(frozen=True)
class Artifact:
    """A step's result on disk.

    Attributes:
        path: Its folder.
        changed: Whether the step wrote it now; False where a finished result of the same inputs was kept, and where it
            was only opened.
        info: Facts about it, such as row counts and what the step cost.
    """

    path: Path
    changed: bool = False
    info: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class SearchLog(Artifact):
    """A validated search log."""

    @classmethod
    def open(cls, path: Location) -> "SearchLog":
        """Opens a finished log; a missing, half-written or truncated one is a `UserError`."""
        return cls(Path(path), info=_info(path, "search_log"))

    @classmethod
    def from_frames(
        cls,
        *,
        impressions: Any,
        out: Location,
        products: Any = None,
        customers: Any = None,
        events: Any = None,
        columns: Mapping[str, Mapping[str, Any]] | None = None,
        features: Mapping[str, Any] | None = None,
        name: str = "log",
        **settings: Any,
    ) -> "SearchLog":
        """Imports tables in memory by the rules of `import_log("custom", ...)`.

        A table is of pandas, Polars or Arrow, or of any library that exports an Arrow stream. A column that is called
        like a role, such as `search_id`, `timestamp`, `query`, `product_id`, `position` or `click`, has this role;
        `columns` and `features` say what other columns are; any other is not used.

        Args:
            impressions: One row per product shown.
            out: The folder of the log.
            products: One row per product; None takes what the impressions say of products.
            customers: One row per customer; None takes what the impressions say of customers.
            events: What customers did outside the results pages; None has none.
            columns: By table and column, its use or uses as in a `mapping.yaml`, such as
                `{"impressions": {"page": "search_id"}}`.
            features: By column, the feature that it is, such as
                `{"brand": {"side": "product", "kind": "categorical"}}`.
            name: What the log is called.
            **settings: Other keys of a `mapping.yaml`, such as `timestamp_unit="s"`.

        Returns:
            The log.

        Raises:
            UserError: Where a table cannot be read, a column is unknown, or the rows break the data contract.

        Example:
            >>> SearchLog.from_frames(impressions=clicks, out="log")  # doctest: +SKIP
            SearchLog(path=PosixPath('log'), changed=True)
        """
        from shelfrank.logs.frames import import_frames

        given = {"impressions": impressions, "products": products, "customers": customers, "events": events}
        frames = {table: frame for table, frame in given.items() if frame is not None}
        changed = import_frames(frames, Path(out), name, columns or {}, features or {}, settings)
        return cls(Path(out), changed, _info(out, "search_log"))


@dataclass(frozen=True)
class PreparedData(Artifact):
    """The arrays that training reads."""

    @classmethod
    def open(cls, path: Location) -> "PreparedData":
        """Opens finished prepared data; a missing, half-written or truncated one is a `UserError`."""
        return cls(Path(path), info=_info(path, "prepared_data"))


@dataclass(frozen=True)
class Run(Artifact):
    """A trained ranker."""

    @classmethod
    def open(cls, path: Location) -> "Run":
        """Opens a finished run; a missing, half-written or truncated one is a `UserError`."""
        return cls(Path(path), info=_info(path, "run"))


@dataclass(frozen=True)
class Evaluation(Artifact):
    """The figures of one ranker on one split."""

    @classmethod
    def open(cls, path: Location) -> "Evaluation":
        """Opens a finished evaluation; a missing, half-written or truncated one is a `UserError`."""
        return cls(Path(path), info=_info(path, "evaluation"))

    @cached_property
    def report(self) -> dict[str, Any]:
        """Everything that was measured, as `report.json` holds it."""
        return json.loads((self.path / "report.json").read_text(encoding="utf-8"))

    def table(self) -> "pd.DataFrame":
        """One row per figure with its interval.

        Returns:
            Columns `metric`, `k` (missing for AUC), `task` (missing for Personalization Degree), `value`, its interval
            from `low` to `high`, and `n`, the searches that the figure rests on.

        Raises:
            UserError: Where pandas is not installed.
        """
        from shelfrank.evaluate.tables import figure_rows

        return _frame(figure_rows(self.report))

    def per_search(self) -> "pd.DataFrame":
        """One row per search with its metrics, whose means are the figures of `table`.

        Returns:
            Columns `search_id`, `timestamp`, `customer_id`, `query`, `n_products`, and metrics such as `mrr@10_click`,
            NaN where a search is left out, for example for want of a click. AUC pools all rows, so it has no column.

        Raises:
            UserError: Where pandas is not installed, or the data that was evaluated has changed.
        """
        return _per_search(self.path)

    def _repr_html_(self) -> str:
        from shelfrank.evaluate.tables import figure_rows

        return _html(figure_rows(self.report))


@dataclass(frozen=True)
class Comparison(Artifact):
    """Several rankers on the same searches, with paired differences to one of them."""

    @classmethod
    def open(cls, path: Location) -> "Comparison":
        """Opens a finished comparison; a missing, half-written or truncated one is a `UserError`."""
        return cls(Path(path), info=_info(path, "comparison"))

    @cached_property
    def report(self) -> dict[str, Any]:
        """Everything that was compared, as `comparison.json` holds it."""
        return json.loads((self.path / "comparison.json").read_text(encoding="utf-8"))

    def table(self) -> "pd.DataFrame":
        """One row per ranker and figure, with the paired difference to the baseline.

        Returns:
            Columns `ranker`, those of `Evaluation.table`, and `difference` with its interval from `difference_low` to
            `difference_high` and its `p`, missing for the baseline.

        Raises:
            UserError: Where pandas is not installed.
        """
        from shelfrank.evaluate.tables import comparison_rows

        return _frame(comparison_rows(self.report))

    def per_search(self) -> "pd.DataFrame":
        """One row per ranker and search with its metrics.

        Returns:
            Columns `ranker` and those of `Evaluation.per_search`.

        Raises:
            UserError: Where pandas is not installed, or an evaluation is no longer the one that was compared.
        """
        pandas = _pandas()
        paths, compared = self.info.get("evaluations"), read_manifest(self.path, "comparison").inputs["evaluations"]
        if paths is None:
            raise UserError(
                f"{self.path} must say where its evaluations are, but an older version of shelfrank wrote it; remove "
                "it and compare again"
            )
        parts = []
        for name, path in paths.items():
            if read_manifest(Path(path), "evaluation").fingerprint != compared[name]:
                raise UserError(f"{path} must be the evaluation that was compared, but it has changed; compare again")
            part = _per_search(Path(path))
            part.insert(0, "ranker", name)
            parts.append(part)
        return pandas.concat(parts, ignore_index=True)

    def _repr_html_(self) -> str:
        from shelfrank.evaluate.tables import comparison_rows

        return _html(comparison_rows(self.report))


@dataclass(frozen=True)
class Bundle(Artifact):
    """One version of a bundle: everything that ranks a page, without the data it was trained on.

    Attributes:
        version: The version's name.
        precision: In which precision its graphs compute.
    """

    version: str = ""
    precision: Literal["fp32", "int8"] = "fp32"

    @classmethod
    def open(cls, path: Location, precision: Literal["fp32", "int8"] = "fp32") -> "Bundle":
        """Opens the current version of a bundle.

        Args:
            path: The bundle's folder.
            precision: In which precision graphs compute, where they answer the golden pages in it; else in float32.

        Returns:
            The bundle, in memory.

        Raises:
            UserError: Where there is no complete version, or it does not answer its golden pages.
        """
        from shelfrank.bundle.store import BundleStore

        version = BundleStore(Path(path)).open()
        bundle = cls(Path(path), info=version.manifest.info, version=version.name, precision=precision)
        bundle._loaded  # noqa: B018 - errors come when it is opened, not with the first page
        return bundle

    def rank(
        self,
        *,
        query: str,
        candidates: Iterable[Any],
        customer: str | int | None = None,
        session: str | int | None = None,
        timestamp: dt.datetime | str | float | None = None,
        customer_features: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        weight: float = 1.0,
        task_weights: Mapping[str, float] | None = None,
        top_n: int | None = None,
        explain: int = 0,
    ) -> "RankResponse":
        """Ranks a page as `POST /v1/rank` does, without a service: no deadline, and no events since the export.

        Args:
            query: What was typed.
            candidates: Product ids, or mappings with `id`, `score` (the engine's own) and `features` (such as today's
                price). Their order is the engine's, unless scores are given.
            customer: Who asks; None is an anonymous visitor.
            session: The visit.
            timestamp: When; None is now.
            customer_features: Declared features of the customer that replace those of the bundle.
            context: Declared features of the page, such as the device.
            weight: How much the model's order counts against the engine's, from 0 to 1.
            task_weights: What fuses the tasks' scores; None takes the bundle's.
            top_n: Most results; None gives all.
            explain: Results, from the first on, that are explained.

        Returns:
            The response: `.results` are the products, best first, each with `id`, `rank`, `score` and the score of each
            task in `tasks`; `.unknown_ids`, `.missing_features` and `.unknown_features` say what the bundle did not
            know of the request.

        Raises:
            UserError: Where a value is not as it must be.
        """
        import time

        from pydantic import ValidationError

        from shelfrank.core.schema import one_sentence
        from shelfrank.serve.api import RankRequest, RankResponse
        from shelfrank.serve.pages import ranked_page, read_page
        from shelfrank.serve.ranking import rank_page

        if (
            isinstance(candidates, str | Mapping)
            or not isinstance(candidates, Iterable)
            or hasattr(candidates, "columns")
        ):
            raise UserError(
                "candidates must be a list of product ids or of products as dictionaries, but it is "
                f"of type {type(candidates).__name__}; give a list"
            )
        started = time.perf_counter()
        body = {
            "query": query,
            "candidates": [_plain_id(each) for each in candidates],
            "customer_id": _plain_id(customer),
            "session_id": _plain_id(session),
            "timestamp": timestamp.isoformat(timespec="microseconds")
            if isinstance(timestamp, dt.datetime)
            else timestamp,
            "customer": dict(customer_features or {}),
            "context": dict(context or {}),
            "weight": weight,
            "task_weights": None if task_weights is None else dict(task_weights),
            "top_n": top_n,
            "explain": explain,
        }
        try:
            request = RankRequest.model_validate(body)
        except ValidationError as error:
            raise UserError(one_sentence("rank", error)) from error
        page, options = read_page(request)
        ranked = rank_page(self._loaded, page, options)
        return RankResponse.model_validate(ranked_page(ranked, page.product_ids, started))

    @cached_property
    def _loaded(self) -> "LoadedBundle":
        from shelfrank.bundle.golden import open_checked
        from shelfrank.bundle.spec import PRECISIONS
        from shelfrank.bundle.store import BundleStore

        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        return open_checked(BundleStore(self.path).verified(self.version).path, self.precision)[0]


def simulate(*, out: Location, config: Location | None = None, **settings: Any) -> SearchLog:
    """Makes the log of a shop whose truth is known.

    Args:
        out: The folder of the log.
        config: YAML with any keys of `StorefrontConfig`.
        **settings: The same keys, such as `searches=3000`; they win over `config`.

    Returns:
        The log.

    Raises:
        UserError: Where a setting is not as it must be, or `out` holds something else.
    """
    from shelfrank.simulator.config import StorefrontConfig
    from shelfrank.simulator.simulate import simulate as run

    changed = run(Path(out), resolve(StorefrontConfig, _file(config), settings=settings))
    return SearchLog(Path(out), changed, _info(out, "search_log"))


def import_log(source: str, path: Location, *, out: Location, first_ordinal: int | None = None) -> SearchLog:
    """Turns raw logs into a validated search log.

    Args:
        source: Name of the source's format, such as `custom`, `trivago` or `ubi`.
        path: The source's file or folder, or the `mapping.yaml` of a custom one.
        out: The folder of the log.
        first_ordinal: Ordinal of the topmost product in UBI's impression events.

    Returns:
        The log.

    Raises:
        UserError: Where there is no such source, or its files break the data contract.
    """
    from shelfrank.logs.sources import import_source

    changed = import_source(source, Path(path), Path(out), first_ordinal)
    return SearchLog(Path(out), changed, _info(out, "search_log"))


def validate(log: Location, *, strict: bool = False) -> "list[Violation]":
    """Finds every violation of the data contract; it writes nothing.

    Args:
        log: A search log, finished or not.
        strict: Purchases and carts without a click are errors.

    Returns:
        The violations, each with `severity`, `count` and `examples`; none where the log is as it must be.

    Raises:
        UserError: Where there is no such folder.
    """
    from shelfrank.logs.validate import validate as run

    return run(Path(log), "error" if strict else "warning")


def prepare(
    log: Location, *, out: Location, semantic: Location | None = None, config: Location | None = None, **settings: Any
) -> PreparedData:
    """Splits, samples, computes point-in-time features and labels, encodes: the arrays that training reads.

    Args:
        log: A search log.
        out: The folder of the prepared data.
        semantic: Semantic scores of this log, for the feature and the labels.
        config: YAML with any keys of `PrepareConfig`.
        **settings: The same keys, such as `history={"windows_days": [1, 7]}`; they win over `config`.

    Returns:
        The prepared data.

    Raises:
        UserError: Where a setting is not as it must be, or the log cannot be read.
    """
    from shelfrank.prepare.pipeline import prepare as run

    given = settings if semantic is None else {**settings, "semantic_scores": str(Path(semantic))}
    changed = run(Path(log), Path(out), resolve(PrepareConfig, _file(config), settings=given))
    return PreparedData(Path(out), changed, _info(out, "prepared_data"))


def train(
    data: Location,
    *,
    ranker: str,
    out: Location,
    seed: int | None = None,
    preset: Literal["default", "paper"] = "default",
    resume: bool = False,
    config: Location | None = None,
    **settings: Any,
) -> Run:
    """Trains one ranker, in this process.

    Args:
        data: Prepared data.
        ranker: Name of the ranker, such as `mmoe_dcn_v2`; `shelfrank.rankers.RANKERS` has all.
        out: The folder of the run.
        seed: Seed of every draw; None leaves it to the settings.
        preset: Sizes: the ranker's own, or near to the paper's parameter counts.
        resume: Continues from the last complete checkpoint.
        config: YAML with any keys of `ExperimentConfig`.
        **settings: The same keys, such as `train={"epochs": 3}`; they win over `config`.

    Returns:
        The run.

    Raises:
        UserError: Where the ranker is unknown, a setting is not as it must be or does not fit the data, or the data
            cannot be read.
    """
    from shelfrank.rankers.run import resolve_experiment
    from shelfrank.rankers.run import train as run

    if preset not in ("default", "paper"):
        raise unknown_name("preset", preset, ("default", "paper"))
    experiment = resolve_experiment(ranker, _file(config), [], seed, preset, settings)
    changed = run(Path(data), ranker, experiment, Path(out), resume)
    return Run(Path(out), changed, _info(out, "run"))


def evaluate(
    run: Location, *, out: Location, split: str = "test", config: Location | None = None, **settings: Any
) -> Evaluation:
    """Measures one ranker, every figure with its interval.

    Args:
        run: A finished run.
        out: The folder of the evaluation; the last part of its path is the ranker's name in a comparison.
        split: Split to measure on: train, valid or test.
        config: YAML with any keys of `EvaluateConfig`.
        **settings: The same keys, such as `ks=[1, 10]`; they win over `config`.

    Returns:
        The evaluation.

    Raises:
        UserError: Where there is no such split, a setting is not as it must be, or the run or its data cannot be read.
    """
    from shelfrank.data.prepared import SPLITS
    from shelfrank.evaluate.evaluation import evaluate as measure

    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    changed = measure(Path(run), Path(out), resolve(EvaluateConfig, _file(config), settings=settings), split)
    return Evaluation(Path(out), changed, _info(out, "evaluation"))


def compare(evaluations: Sequence[Location], *, out: Location, baseline: Location = "shown_order") -> Comparison:
    """Compares rankers pair by pair and writes the report page, `report.html`.

    Args:
        evaluations: Finished evaluations of the same data, split and settings.
        out: The folder of the comparison.
        baseline: The evaluation that the others are measured against, or its name.

    Returns:
        The comparison.

    Raises:
        UserError: Where the evaluations do not belong together, or the baseline is not among them.
    """
    from shelfrank.evaluate.compare import compare as run
    from shelfrank.report.page import write_report

    if isinstance(evaluations, str | os.PathLike):
        raise UserError(
            f"compare must be given a list of evaluations, but it was given {str(Path(evaluations))!r} alone"
        )
    changed = run([Path(each) for each in evaluations], Path(out), os.fspath(baseline), write_report)
    return Comparison(Path(out), changed, _info(out, "comparison"))


def explain(
    run: Location,
    *,
    search: str,
    split: str = "test",
    top: int = 8,
    baseline: Literal["mean", "neutral"] = "mean",
) -> "ExplainedSearch":
    """Explains why a run puts a page's first products first; it writes nothing.

    Args:
        run: A finished run.
        search: Id of the search.
        split: Split that has the search: train, valid or test.
        top: Most products.
        baseline: What contributions are measured from: the training mean, or the same page for a neutral customer.

    Returns:
        The products, each with its features' contributions; `as_dict()` gives plain data, `lines(task)` text.

    Raises:
        UserError: Where the split has no such search, a value is not as it must be, or the ranker scores by no
            features.
    """
    from shelfrank.explain.search import explain_search

    if baseline not in ("mean", "neutral"):
        raise unknown_name("baseline", baseline, ("mean", "neutral"))
    if top < 1:
        raise UserError(f"top must be 1 or more, but it is {top}")
    return explain_search(Path(run), search, split, top, baseline)


def export(
    run: Location,
    *,
    out: Location,
    evaluation: Location | None = None,
    semantic: Location | None = None,
    int8: bool = True,
    vectors: Literal["fp32", "fp16"] = "fp32",
    replayed: int = 500,
    require_better_than: Sequence[str] = (),
    margin: float = 0.0,
    compared: int = 1000,
) -> Bundle:
    """Writes a run as a version of a bundle, checks it and points the bundle at it.

    Args:
        run: A finished run.
        out: The bundle's folder; older versions in it are kept.
        evaluation: An evaluation of the run, for the model card.
        semantic: The semantic scores of the data, where they are not beside it.
        int8: Adds graphs in 8-bit integers.
        vectors: Numbers in which the products' text vectors are kept.
        replayed: Test searches on which each precision is measured; 0 measures none.
        require_better_than: Publishes nothing unless the run's MRR@10 is above each of these, `shown_order` or
            `current`, by its whole interval.
        margin: Of MRR@10, by which `require_better_than` must be exceeded.
        compared: Test searches on which the run is compared with what it replaces; 0 compares none.

    Returns:
        The version that the bundle points at now.

    Raises:
        UserError: Where the run or its data cannot be read, a value is not as it must be, or the run is not better than
            it must be.
    """
    from shelfrank.bundle.export import ExportSettings
    from shelfrank.bundle.export import export as write
    from shelfrank.bundle.release import Gate, references
    from shelfrank.bundle.store import BundleStore

    if vectors not in ("fp32", "fp16"):
        raise unknown_name("vectors", vectors, ("fp32", "fp16"))
    for name, count in (("replayed", replayed), ("compared", compared)):
        if count < 0:
            raise UserError(f"{name} must be 0 or more, but it is {count}")
    if not 0 <= margin <= 1:
        raise UserError(f"margin must be from 0 to 1, but it is {margin}")
    required = references([require_better_than] if isinstance(require_better_than, str) else require_better_than)
    if margin and not required:
        raise UserError("margin says by how much a run must be better, so it needs require_better_than")
    exported = write(
        Path(run),
        Path(out),
        ExportSettings(int8=int8, vectors=vectors, replayed=replayed),
        _file(evaluation),
        _file(semantic),
        Gate(required, margin, compared),
    )
    version = BundleStore(Path(out)).verified(exported.version)
    return Bundle(Path(out), exported.changed, version.manifest.info, version.name)


def _info(path: Location, kind: str) -> dict[str, Any]:
    return read_manifest(Path(path), kind).info


def _file(path: Location | None) -> Path | None:
    return None if path is None else Path(path)


def _plain_id(value: Any) -> Any:
    """An id of a NumPy or pandas column as Python has it."""
    return value.item() if type(value).__module__ == "numpy" else value


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise UserError("tables in Python need pandas, but it is not installed: run `pip install pandas`") from error
    return pandas


def _frame(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    frame = _pandas().DataFrame(rows)
    # A missing value would make floats of whole numbers, and objects of a column that has nothing else.
    counts = dict.fromkeys(("k", "n"), "Int64")
    figures = {name: "float64" for name in frame.columns if name not in ("ranker", "metric", "task", *counts)}
    return frame.astype(counts | figures)


def _per_search(path: Path) -> "pd.DataFrame":
    from shelfrank.evaluate.evaluation import Evaluation as Finished
    from shelfrank.evaluate.tables import per_search_columns

    pandas = _pandas()
    columns = per_search_columns(Finished.open(path))
    return pandas.DataFrame(
        {name: values.to_pandas() if hasattr(values, "to_pandas") else values for name, values in columns.items()}
    )


def _html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Figures at the largest cutoff as an HTML table: a line per ranker and task."""
    largest = max(row["k"] for row in rows if row["metric"] == "mrr")
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row["task"] is None or row["k"] not in (None, largest):
            continue
        line = lines.setdefault((*([row["ranker"]] if "ranker" in row else []), row["task"]), {})
        name = row["metric"].upper() + ("" if row["k"] is None else f"@{row['k']}")
        line[name] = _figure(row["value"], row["low"], row["high"], ".3f")
        if row.get("difference") is not None:
            line[f"{name} difference"] = _figure(
                row["difference"], row["difference_low"], row["difference_high"], "+.3f"
            )
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    heads = [*(["ranker"] if rows and "ranker" in rows[0] else []), "task", *names]
    body = "".join(
        f"<tr>{_cells('th', key)}{_cells('td', [line.get(name, '') for name in names])}</tr>"
        for key, line in lines.items()
    )
    return f"<table><thead><tr>{_cells('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _figure(value: float | None, low: float | None, high: float | None, digits: str) -> str:
    if value is None:
        return "unknown"
    return f"{value:{digits}}" + ("" if low is None or high is None else f" ({low:{digits}} to {high:{digits}})")
