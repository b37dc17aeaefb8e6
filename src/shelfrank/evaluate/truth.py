"""What a simulated shop knows of its pages, and the figures that follow: without the noise and the bias of one log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, Float64

from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.logs.search_log import KIND, has_table, table_files
from shelfrank.metrics import (
    Expected,
    bootstrap_expected,
    bootstrap_expected_difference,
    expected_reciprocal_rank,
    mrr_at_k,
)

TRUTH = "truth/impressions"
EXAMINED = "p_examine"
GIVEN_EXAMINED = "{task}_given_examined"
BOUNDS = {"best": GIVEN_EXAMINED, "non_personalized": "{task}_average"}
"""Truth columns by which a page is ordered for each bound."""

ExpectedFigure = Literal["redrawn", "unbiased"]
EXPECTED_FIGURES: Mapping[ExpectedFigure, str] = {
    "redrawn": "expected over new draws of the labels, each product examined as its shown position lets it: the logged "
    "figure without the noise of one draw",
    "unbiased": "expected where customers examine every product of the page: what they would choose, whatever was "
    "shown on top",
}
"""The figures that need the truth, and what each is."""


@dataclass(frozen=True)
class Truth:
    """What the simulator knows of a split's rows, in their order.

    Attributes:
        split: The rows.
        columns: By column of the truth, its values.
    """

    split: Split
    columns: Mapping[str, Float64[np.ndarray, " rows"]]

    @classmethod
    def open(cls, prepared: PreparedData, split_name: str) -> "Truth | None":
        """Reads the truth of a split from the log that the data was prepared from.

        Args:
            prepared: The prepared data.
            split_name: The split.

        Returns:
            The truth; None where the log has none, is gone, or is another one by now.

        Raises:
            UserError: Where the truth lacks rows of the log.
        """
        log = Path(prepared.manifest.info["log"])
        if not has_table(log, TRUTH) or _fingerprint(log) != prepared.manifest.inputs.get("log"):
            return None
        split = prepared.split(split_name)
        names = [EXAMINED, *(pattern.format(task=task) for pattern in BOUNDS.values() for task in split.tasks)]
        table = truth_of_rows(log, prepared, split_name, names)
        return cls(split, {name: table[name].to_numpy().astype(np.float64) for name in names})

    def chances(self, figure: ExpectedFigure, task: str) -> Float64[np.ndarray, " rows"]:
        """Each row's chance of a positive label.

        Args:
            figure: Whether a product is examined as its shown position lets it, or in any case.
            task: The label.

        Returns:
            The chances.
        """
        given_examined = self.columns[GIVEN_EXAMINED.format(task=task)]
        return given_examined * self.columns[EXAMINED] if figure == "redrawn" else given_examined

    def bounds(self, config: EvaluateConfig) -> dict[str, Any]:
        """MRR of the order by the true chance of each outcome, for this customer and for the average one.

        Both order the products that the shop showed by what the simulator knows, the examined position aside, and are
        measured as every ranker is.

        Args:
            config: The cutoffs.

        Returns:
            By bound: on the logged labels by `mrr`, cutoff and task; and by expected figure, cutoff and task.
        """
        bounds: dict[str, Any] = {}
        for bound, pattern in BOUNDS.items():
            by_cutoff: dict[str, dict[str, float | None]] = {str(k): {} for k in config.ks}
            expected: dict[str, Any] = {figure: {str(k): {} for k in config.ks} for figure in EXPECTED_FIGURES}
            for index, task in enumerate(self.split.tasks):
                scores = self.columns[pattern.format(task=task)]
                labels = np.ascontiguousarray(self.split.labels[:, index])
                for k in config.ks:
                    value = float(mrr_at_k(scores, labels, self.split.search_offsets, self.split.tie_keys, k))
                    by_cutoff[str(k)][task] = None if np.isnan(value) else value
                    for figure in EXPECTED_FIGURES:
                        found = self._expected(scores, figure, task, k)
                        weight = found.weight.sum()
                        expected[figure][str(k)][task] = float(found.total.sum() / weight) if weight else None
            bounds[bound] = {"mrr": by_cutoff, **expected}
        return bounds

    def figures(self, fused: Float[np.ndarray, " rows"], config: EvaluateConfig) -> dict[str, Any]:
        """A ranker's expected MRR with its intervals.

        Args:
            fused: The score that orders the pages.
            config: Cutoffs and resamples.

        Returns:
            By expected figure, cutoff and task, the figure.
        """
        return {
            figure: {
                str(k): {
                    task: bootstrap_expected(
                        self._expected(fused, figure, task, k), config.n_resamples, config.seed, config.confidence
                    ).as_dict()
                    for task in self.split.tasks
                }
                for k in config.ks
            }
            for figure in EXPECTED_FIGURES
        }

    def differences(
        self, fused: Float[np.ndarray, " rows"], base: Float[np.ndarray, " rows"], config: EvaluateConfig
    ) -> dict[str, Any]:
        """One ranker's expected MRR minus another's, paired by search.

        Args:
            fused: The score that orders the pages.
            base: The other ranker's.
            config: Cutoffs and resamples.

        Returns:
            By expected figure, cutoff and task, the difference with its interval and `p`.
        """
        result: dict[str, Any] = {figure: {str(k): {} for k in config.ks} for figure in EXPECTED_FIGURES}
        for figure in EXPECTED_FIGURES:
            for k in config.ks:
                for task in self.split.tasks:
                    own, its = (self._expected(scores, figure, task, k) for scores in (fused, base))
                    found = bootstrap_expected_difference(
                        own, its, config.n_resamples, config.seed, config.confidence
                    ).as_dict()
                    found["p"] = found.pop("p_value")
                    result[figure][str(k)][task] = found
        return result

    def _expected(self, scores: Float[np.ndarray, " rows"], figure: ExpectedFigure, task: str, k: int) -> Expected:
        chances = self.chances(figure, task)
        return expected_reciprocal_rank(scores, chances, self.split.search_offsets, self.split.tie_keys, k)


def _fingerprint(log: Path) -> str | None:
    try:
        return read_manifest(log, KIND).fingerprint
    except UserError:
        return None


def truth_of_rows(log: Path, prepared: PreparedData, split_name: str, columns: Sequence[str]) -> pa.Table:
    """Columns of the truth for the rows of a split, in their order.

    Args:
        log: The simulated log.
        prepared: The data that was prepared from it.
        split_name: The split.
        columns: Columns of the truth's impressions.

    Returns:
        The columns, beside the keys of the rows.

    Raises:
        UserError: Where the truth lacks rows of the split.
    """
    split = prepared.split(split_name)
    ids = prepared.searches(split_name)["search_id"].combine_chunks()
    keys = pa.table(
        {
            "search_id": ids.take(pa.array(np.repeat(np.arange(split.n_searches), np.diff(split.search_offsets)))),
            "product_id": prepared.products()["product_id"].combine_chunks().take(pa.array(split.product_idx[:])),
            "row": pa.array(np.arange(split.n_rows)),
        }
    )
    parts = []
    for file in table_files(log, TRUTH):
        part = pq.read_table(file, columns=["search_id", "product_id", *columns])
        parts.append(part.filter(pc.is_in(part["search_id"], value_set=ids)))  # pyright: ignore[reportAttributeAccessIssue]
    joined = keys.join(pa.concat_tables(parts), ["search_id", "product_id"], join_type="inner").sort_by("row")
    if joined.num_rows != keys.num_rows:
        raise UserError(
            f"the truth of {log} must cover every row of its impressions, but it has {joined.num_rows:,} of "
            f"{keys.num_rows:,} rows; simulate the log again"
        )
    return joined
