"""Evaluations and comparisons: measured, as tables, and as notebooks show them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from shelfrank.api.arguments import Location, Locations, checked, optional_path
from shelfrank.api.artifacts import Artifact
from shelfrank.api.notebook import figures_html
from shelfrank.config import EvaluateConfig, resolve
from shelfrank.core.artifact import read_manifest
from shelfrank.core.errors import UserError, unknown_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation(Artifact):
    """The figures of one ranker on one split."""

    kind: ClassVar[str] = "evaluation"

    @property
    def report(self) -> dict[str, Any]:
        """Everything that was measured, as `report.json` holds it."""
        return self._read_json("report.json")

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

    def lines(self) -> Sequence[str]:
        """Which searches were evaluated, the figure of each test window unless there is one alone, clipped numbers."""
        from shelfrank.report.terminal import clipped_lines, evaluation_lines

        report = self.report
        return [*evaluation_lines(report), *clipped_lines(report)]

    def _repr_html_(self) -> str:
        from shelfrank.evaluate.tables import figure_rows

        return figures_html(figure_rows(self.report))


@dataclass(frozen=True)
class Comparison(Artifact):
    """Several rankers on the same searches, with paired differences to one of them."""

    kind: ClassVar[str] = "comparison"

    @property
    def report(self) -> dict[str, Any]:
        """Everything that was compared, as `comparison.json` holds it."""
        return self._read_json("comparison.json")

    @property
    def page(self) -> Path:
        """The report as a page."""
        return self.path / "report.html"

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
        manifest = self.manifest
        paths, compared = manifest.info.get("evaluations"), manifest.inputs["evaluations"]
        if paths is None:
            raise UserError(
                f"{self.path} must say where its evaluations are, but an older version of shelfrank wrote it; remove "
                "it and compare again"
            )
        parts = []
        for name, path in paths.items():
            if read_manifest(Path(path), Evaluation.kind).fingerprint != compared[name]:
                raise UserError(f"{path} must be the evaluation that was compared, but it has changed; compare again")
            part = _per_search(Path(path))
            part.insert(0, "ranker", name)
            parts.append(part)
        return pandas.concat(parts, ignore_index=True)

    def show(self) -> None:
        """Prints the rankers by task, with intervals, as wide as the terminal, and the conclusion in words."""
        from rich.console import Console

        from shelfrank.report.terminal import MIN_WIDTH, comparison_table, conclusion_lines

        console = Console()
        # Lines that a terminal folds are better than names that are cut.
        console.width = max(console.width, MIN_WIDTH)
        report = self.report
        console.print(comparison_table(report, console.width))
        for line in conclusion_lines(report):
            console.print(line, markup=False, highlight=False)

    def _repr_html_(self) -> str:
        from shelfrank.evaluate.tables import comparison_rows

        return figures_html(comparison_rows(self.report))


@checked
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
    resolved = resolve(EvaluateConfig, optional_path(config), settings=settings)
    return Evaluation(Path(out), measure(Path(run), Path(out), resolved, split))


@checked
def compare(evaluations: Locations, *, out: Location, baseline: Location = "shown_order") -> Comparison:
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

    if not evaluations:
        raise UserError("compare must be given at least one evaluation, but the list is empty; evaluate a run first")
    changed = run([Path(each) for each in evaluations], Path(out), os.fspath(baseline), write_report)
    return Comparison(Path(out), changed)


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
