"""Golden pages: scores that a bundle must reproduce before it serves.

`rows` are encoded rows of the test split with the scores of the run itself, so that they test graphs, tokenizer and
vectors. `requests` are pages as a caller sends them, with the scores of the bundle when it was exported, so that they
test the whole path.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64
from safetensors.numpy import load, save

from shelfrank.bundle.loaded import CACHED_QUERIES, Bundle
from shelfrank.bundle.spec import GOLDEN, Precision, Spec
from shelfrank.core.errors import UserError
from shelfrank.features.request import PageRequest

TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "int8": 2e-2}
"""How far a score may be from the same graphs' score at export. Sums of 8-bit products are exact on every processor,
but a float32 number in its last bit can round to the next of 256 steps."""
RUN_TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "int8": 5e-2}
"""How far a score may be from the run's own: the loss of the precision."""
ODD_ROWS = 1000
FAR, FAR_SHARE = 1e4, 0.25
"""A number that splits of any tree put at the end, and the share of numbers that are replaced by it."""
ROWS, PAGES, REQUESTS = "rows.safetensors", "pages.json", "requests.json"


@dataclass(frozen=True)
class GoldenRows:
    """Encoded rows, page by page.

    Attributes:
        queries: One query per page.
        offsets: Page i holds the rows from entry i up to, not including, entry i + 1.
        numerical: All columns of the prepared data.
        categorical: All columns of the prepared data.
        product_idx: Each row's product.
        position: Position on the page, from 1.
        expected: The run's own scores.
    """

    queries: tuple[str, ...]
    offsets: Int64[np.ndarray, " pages_plus_1"]
    numerical: Float32[np.ndarray, "rows n_num"]
    categorical: Int32[np.ndarray, "rows n_cat"]
    product_idx: Int32[np.ndarray, " rows"]
    position: Int32[np.ndarray, " rows"]
    expected: Float32[np.ndarray, "rows n_tasks"]

    def save(self, folder: Path) -> None:
        """Writes both files."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items() if name != "queries"}
        (folder / ROWS).write_bytes(save(arrays))
        (folder / PAGES).write_text(json.dumps(list(self.queries)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "GoldenRows":
        """Reads both files."""
        arrays: dict[str, Any] = load((folder / ROWS).read_bytes())
        return cls(queries=tuple(json.loads((folder / PAGES).read_text(encoding="utf-8"))), **arrays)

    def scores(self, bundle: Bundle) -> Float[np.ndarray, "rows n_tasks"]:
        """Scores the rows with a bundle."""
        parts = [np.empty((0, self.expected.shape[1]), np.float32)]
        for page, query in enumerate(self.queries):
            some = slice(int(self.offsets[page]), int(self.offsets[page + 1]))
            rows = bundle.rows(
                query, self.numerical[some], self.categorical[some], self.product_idx[some], self.position[some]
            )
            parts.append(bundle.scorer.score(rows))
        return np.concatenate(parts)


@dataclass(frozen=True)
class GoldenRequest:
    """One page as a caller sends it.

    Attributes:
        page: The page request.
        expected: By precision, a score per candidate and task.
    """

    page: PageRequest
    expected: dict[Precision, list[list[float]]]


def save_requests(folder: Path, requests: list[GoldenRequest]) -> None:
    """Writes the requests."""
    plain = [{"asked": asdict(request.page), "expected": request.expected} for request in requests]
    (folder / REQUESTS).write_text(json.dumps(plain, indent=1), encoding="utf-8")


def load_requests(bundle_folder: Path) -> list[GoldenRequest]:
    """Reads a bundle's requests."""
    plain = json.loads((bundle_folder / GOLDEN / REQUESTS).read_text(encoding="utf-8"))
    return [GoldenRequest(PageRequest(**each["asked"]), each["expected"]) for each in plain]


def open_checked(
    folder: Path, precision: Precision = "fp32", cached: int = CACHED_QUERIES
) -> tuple[Bundle, str | None]:
    """Opens a version in the precision that is served and checks its golden pages, before it has seen any event.

    If this processor does not compute the 8-bit graphs to the stated tolerance, the float32 graphs serve instead.

    Args:
        folder: The version's folder.
        precision: Requested precision of the graphs.
        cached: Query vectors that are kept.

    Returns:
        The bundle, and why it computes in float32 instead; None if it has the requested precision.

    Raises:
        UserError: If a file cannot be read, the bundle has no such precision, or its float32 graphs are off too.
    """
    reason = None
    if precision == "int8" and precision in Spec.load(folder).precisions:
        try:
            bundle = Bundle.open(folder, precision, cached)
            check_golden(bundle, folder)
            return bundle, None
        except Exception as error:  # Any failure of the 8-bit graphs leaves float32, which is checked by itself.
            reason, precision = str(error) or type(error).__name__, "fp32"
    bundle = Bundle.open(folder, precision, cached)
    check_golden(bundle, folder)
    return bundle, reason


def check_golden(bundle: Bundle, folder: Path) -> float:
    """Compares a bundle, before it has seen any event, with its golden pages.

    Both rows and requests are computed in the bundle's own precision.

    Args:
        bundle: The open bundle.
        folder: Its folder.

    Returns:
        The largest difference from the run's own scores.

    Raises:
        UserError: If a score is outside the tolerance.
    """
    rows = GoldenRows.load(folder / GOLDEN)
    from_run = _gap(rows.scores(bundle), rows.expected)
    gaps = [("rows of its run", from_run, RUN_TOLERANCE[bundle.precision])]
    for number, request in enumerate(load_requests(folder)):
        scores = bundle.score(request.page).scores
        expected = np.array(request.expected[bundle.precision]).reshape(scores.shape)
        gaps.append((f"request {number}", _gap(scores, expected), TOLERANCE[bundle.precision]))
    for what, gap, tolerance in gaps:
        if not gap <= tolerance:
            raise UserError(
                f"bundle {bundle.name} must answer its golden pages to {tolerance:g} in {bundle.precision}, but {what} "
                f"are off by {gap:.2g}; export the run again"
            )
    return from_run


def score_odd_rows(bundle: Bundle, folder: Path) -> None:
    """Scores rows that no page has, so that a damaged model fails here and not on a customer's page.

    Golden pages reach few of a tree's leaves. Each of these rows has the numbers of many golden rows, some far outside
    of their range, and codes at random.

    Args:
        bundle: The open bundle.
        folder: Its folder.
    """
    rows = GoldenRows.load(folder / GOLDEN)
    n_golden, n_columns = rows.numerical.shape
    if not n_golden:
        return
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, n_golden, (ODD_ROWS, n_columns))
    numerical = np.take_along_axis(rows.numerical, chosen, axis=0)
    far = rng.random(numerical.shape) < FAR_SHARE
    numerical[far] = rng.choice(np.array([-FAR, FAR], np.float32), int(far.sum()))
    sizes = np.array([column.size for column in bundle.features.categorical_columns], np.int64)
    categorical = rng.integers(0, sizes, (ODD_ROWS, len(sizes))).astype(np.int32)
    products = rng.choice(rows.product_idx, ODD_ROWS)
    position = np.arange(1, ODD_ROWS + 1, dtype=np.int32)
    # A network may overflow on them, which is not the model's fault.
    with np.errstate(all="ignore"):
        bundle.scorer.score(bundle.rows(rows.queries[0], numerical, categorical, products, position))


def _gap(scores: Float[np.ndarray, "rows n_tasks"], expected: Float[np.ndarray, "rows n_tasks"]) -> float:
    """The largest difference, relative where scores are larger than 1: trees that rank give scores of any size."""
    return float((np.abs(scores - expected) / np.maximum(np.abs(expected), 1.0)).max(initial=0.0))
