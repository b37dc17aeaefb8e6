"""Statistics of each split in the form of the paper's Table 1."""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int8

from shelfrank.data.prepared import SPLITS


class SplitCounter:
    """Counts rows, distinct entities and positives of each split while its rows are written.

    Paper: Sec. 4.1, Table 1.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self._rows: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self._seen: dict[tuple[str, str], np.ndarray] = {}
        self._positives: dict[str, np.ndarray] = {name: np.zeros(len(self.tasks), dtype=np.int64) for name in SPLITS}
        self._labelled: dict[str, np.ndarray] = {name: np.zeros(len(self.tasks), dtype=np.int64) for name in SPLITS}

    def add(self, split: str, arrays: dict[str, np.ndarray]) -> None:
        """Counts a batch of encoded rows of one split."""
        self._rows[split] += len(arrays["labels"])
        self._positives[split] += (arrays["labels"] == 1).sum(axis=0)
        self._labelled[split] += (arrays["labels"] >= 0).sum(axis=0)
        for entity in ("query_idx", "product_idx", "customer_idx"):
            known = arrays[entity][arrays[entity] >= 0]
            seen = self._seen.get((split, entity), np.zeros(0, dtype=bool))
            needed = int(known.max(initial=-1)) + 1
            if needed > len(seen):
                seen = np.concatenate([seen, np.zeros(needed - len(seen), dtype=bool)])
            seen[known] = True
            self._seen[split, entity] = seen

    def finish(self, searches: pa.Table, splits: Int8[np.ndarray, " searches"]) -> dict[str, Any]:
        """The statistics by split, as plain data."""
        result = {}
        for index, name in enumerate(SPLITS):
            times = searches["timestamp"].filter(pa.array(splits == index))
            ends = pc.min_max(times).as_py()
            result[name] = {
                "searches": int((splits == index).sum()),
                "impressions": self._rows[name],
                "queries": self._distinct(name, "query_idx"),
                "products": self._distinct(name, "product_idx"),
                "customers": self._distinct(name, "customer_idx"),
                "positives": dict(zip(self.tasks, self._positives[name].tolist(), strict=True)),
                "labelled": dict(zip(self.tasks, self._labelled[name].tolist(), strict=True)),
                "first": ends["min"].isoformat(),
                "last": ends["max"].isoformat(),
            }
        return result

    def _distinct(self, split: str, entity: str) -> int:
        return int(self._seen.get((split, entity), np.zeros(0, dtype=bool)).sum())
