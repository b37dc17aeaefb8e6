"""Golden pages: what a bundle must answer, checked before it serves.

`rows` are encoded rows of the test split with the scores of the run itself, so that they test graphs, tokenizer and
vectors. `requests` are pages as a caller asks for them, with the scores of the bundle when it was exported, so that
they test the whole path.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64
from safetensors.numpy import load, save

from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.spec import GOLDEN, Precision
from shelfrank.errors import UserError
from shelfrank.online import Asked

TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "int8": 2e-2}
"""How far a score may be from what it was. Processors multiply 8-bit integers in different ways."""
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
        position: Where it was shown.
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
        """What a bundle makes of them."""
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
    """One page as a caller asks for it.

    Attributes:
        asked: What is asked.
        expected: By precision, a score per candidate and task.
    """

    asked: Asked
    expected: dict[Precision, list[list[float]]]


def save_requests(folder: Path, requests: list[GoldenRequest]) -> None:
    """Writes the requests."""
    plain = [{"asked": asdict(request.asked), "expected": request.expected} for request in requests]
    (folder / REQUESTS).write_text(json.dumps(plain, indent=1), encoding="utf-8")


def load_requests(bundle_folder: Path) -> list[GoldenRequest]:
    """Reads a bundle's requests."""
    plain = json.loads((bundle_folder / GOLDEN / REQUESTS).read_text(encoding="utf-8"))
    return [GoldenRequest(Asked(**each["asked"]), each["expected"]) for each in plain]


def check_golden(bundle: Bundle, folder: Path) -> float:
    """Compares a bundle, before it has seen any event, with its golden pages.

    Args:
        bundle: The open bundle.
        folder: Its folder.

    Returns:
        The largest difference.

    Raises:
        UserError: Where a score is further off than it may be.
    """
    tolerance = TOLERANCE[bundle.precision]
    worst = 0.0
    pairs = []
    if bundle.precision == "fp32":
        rows = GoldenRows.load(folder / GOLDEN)
        pairs.append(("rows of its run", rows.scores(bundle), rows.expected))
    for number, request in enumerate(load_requests(folder)):
        scored = bundle.score(request.asked).scores
        pairs.append((f"request {number}", scored, np.array(request.expected[bundle.precision]).reshape(scored.shape)))
    for what, found, expected in pairs:
        # Trees that rank give scores of any size.
        gap = float((np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)).max(initial=0.0))
        if not gap <= tolerance:
            raise UserError(
                f"bundle {bundle.name} must answer its golden pages to {tolerance:g}, but {what} are off by {gap:.2g}; "
                "export the run again"
            )
        worst = max(worst, gap)
    return worst
