"""Batches of rows, gathered from the columnar arrays without parsing anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Int8, Int32, Int64
from torch import Tensor

from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split, tie_order

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """Some rows as tensors; refuses shapes that do not fit together.

    Attributes:
        numerical: Standardised numbers.
        categorical: Codes.
        labels: 1, 0, or -1 where the label is missing.
        relevance: A class, or -1 where the label is missing.
        position: Position at which the product was shown, which only training reads; below 1 where it is unknown.
        query_idx: Each row's query among the data's texts.
        product_idx: Each row's product among them.
        search_idx: Each row's search in the split.
    """

    numerical: Float[Tensor, "rows n_num"]
    categorical: Int[Tensor, "rows n_cat"]
    labels: Int8[Tensor, "rows n_tasks"]
    relevance: Int8[Tensor, " rows"]
    position: Int32[Tensor, " rows"]
    query_idx: Int32[np.ndarray, " rows"]
    product_idx: Int32[np.ndarray, " rows"]
    search_idx: Int64[np.ndarray, " rows"]

    def __post_init__(self) -> None:
        rows = {len(getattr(self, each.name)) for each in fields(self)}
        assert len(rows) == 1, f"a batch's arrays must have the same number of rows, not {sorted(rows)}"

    def search_sizes(self) -> Int64[Tensor, " searches"]:
        """Rows of each search of the batch, in the order of its rows, where a search's rows are adjacent."""
        starts = np.flatnonzero(np.diff(self.search_idx, prepend=-1))
        return torch.from_numpy(np.diff(starts, append=len(self.search_idx))).to(self.labels.device)


GROUP_SEARCHES = 8
"""Searches that share a product and a batch: at 1,024 rows a batch has 0.56 texts a row in place of
0.95 (`python benchmarks/text_step.py` prints both)."""

TENSORS = ("numerical", "categorical", "labels", "relevance", "position")
"""The arrays that training reads as they are."""


class SplitRows:
    """A split's rows as batches.

    Args:
        split: The rows.
        device: Device of the batches' tensors.
        resident: Whether the arrays are copied to the device once as a whole, instead of being gathered from
            the memory-mapped files; None does so on every device but the processor.
    """

    def __init__(self, split: Split, device: torch.device = CPU, resident: bool | None = None) -> None:
        self.split, self.device = split, device
        self._search_offsets = np.asarray(split.search_offsets)
        self._resident: dict[str, Tensor] | None = None
        if resident or (resident is None and device.type != "cpu"):
            self._resident = {name: torch.from_numpy(np.array(getattr(split, name))).to(device) for name in TENSORS}

    def gather(self, rows: Int[np.ndarray, " rows"] | slice) -> Batch:
        """The given rows as a batch of their own memory."""
        split = self.split
        if self._resident is None:
            tensors = {name: torch.from_numpy(np.array(getattr(split, name)[rows])).to(self.device) for name in TENSORS}
        else:
            tensors = {name: _taken(array, rows) for name, array in self._resident.items()}
        places = np.arange(*rows.indices(split.n_rows)) if isinstance(rows, slice) else rows
        return Batch(
            **tensors,
            query_idx=np.array(split.query_idx[rows]),
            product_idx=np.array(split.product_idx[rows]),
            search_idx=np.searchsorted(self._search_offsets, places, side="right").astype(np.int64) - 1,
        )

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """The rows in their own order, for scoring."""
        for start in range(0, self.split.n_rows, batch_size):
            yield self.gather(slice(start, start + batch_size))


class ShuffledBatches:
    """Rows in batches of nearly equal size, in an order that seed and epoch alone decide, not the shown order.

    Sizes differ by one row at most, or, where searches stay whole, by about a search; no batch is tiny and no row is
    dropped. Whole searches may come in small groups that share a product, another sharing in each epoch.

    Args:
        rows: The rows.
        batch_size: Rows of a batch, at most where searches are cut.
        seed: Decides the orders.
        whole_searches: Keeps a search's rows together.
        take: Picks which of a batch's places in tie order are read, in ascending order; all if not given.
        hiding: Hides some values of the rows, others in each epoch; nothing if not given.
        group_searches: Searches that share a product and a batch where searches are whole, so that few texts serve
            one; 1 draws every search alone.
    """

    def __init__(
        self,
        rows: SplitRows,
        batch_size: int,
        seed: int,
        whole_searches: bool = False,
        take: Callable[[Int64[np.ndarray, " rows"]], Int64[np.ndarray, " taken"]] = np.sort,
        hiding: Hiding | None = None,
        group_searches: int = GROUP_SEARCHES,
    ) -> None:
        self.rows, self.seed, self.whole_searches, self.take, self.hiding = rows, seed, whole_searches, take, hiding
        self.group_searches = group_searches
        # Places are drawn and rows gathered in tie order: nothing depends on the order in which a page was shown.
        self._row_at = tie_order(rows.split)
        self._missing = None if hiding is None else torch.from_numpy(hiding.missing).to(rows.device)
        units = rows.split.n_searches if whole_searches else rows.split.n_rows
        self.n_steps = max(1, min(-(-rows.split.n_rows // batch_size), units))

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from a step on."""
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        n_rows = self.rows.split.n_rows
        ends = np.linspace(0, n_rows, self.n_steps + 1).astype(np.int64)
        if self.whole_searches:
            order, ends = self._searches(random, ends)
        else:
            order = random.permutation(n_rows)
        for step in range(first_step, self.n_steps):
            # Places in ascending order make the gather walk memory forwards, within a search to and fro.
            taken = self._row_at[self.take(order[ends[step] : ends[step + 1]])]
            yield self._hidden(self.rows.gather(taken), taken, epoch)

    def _hidden(self, batch: Batch, rows: Int64[np.ndarray, " rows"], epoch: int) -> Batch:
        if self.hiding is None or self._missing is None or not self.hiding.units:
            return batch
        of_numbers, codes = (torch.from_numpy(each).to(self.rows.device) for each in self.hiding.hidden(rows, epoch))
        return replace(
            batch,
            numerical=torch.where(of_numbers, self._missing, batch.numerical),
            categorical=torch.where(codes >= 0, codes.to(batch.categorical.dtype), batch.categorical),
        )

    def _searches(
        self, random: np.random.Generator, ends: Int64[np.ndarray, " steps_plus_1"]
    ) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " steps_plus_1"]]:
        """Places by shuffled search, and the ends of batches moved to ends of searches, a search a batch at least."""
        offsets = np.asarray(self.rows.split.search_offsets)
        product_idx = np.asarray(self.rows.split.product_idx)
        chosen = _grouped_searches(product_idx, offsets, self.group_searches, random)
        sizes = np.diff(offsets)[chosen]
        after = np.concatenate([[0], np.cumsum(sizes)])
        cuts = np.searchsorted(after, ends)
        for step in range(1, self.n_steps):
            cuts[step] = min(max(cuts[step], cuts[step - 1] + 1), len(chosen) - (self.n_steps - step))
        order = np.arange(after[-1]) + np.repeat(offsets[chosen] - after[:-1], sizes)
        return order, after[cuts]


def _taken(array: Tensor, rows: Int[np.ndarray, " rows"] | slice) -> Tensor:
    # A slice would share the array's memory.
    return array[rows].clone() if isinstance(rows, slice) else array[torch.from_numpy(rows).to(array.device)]


def _grouped_searches(
    product_idx: Int32[np.ndarray, " rows"],
    offsets: Int64[np.ndarray, " searches_plus_1"],
    size: int,
    random: np.random.Generator,
) -> Int64[np.ndarray, " searches"]:
    """Searches in random order, but for small groups of searches that show the same product first in a random order.

    The more products two searches share, the likelier it is that they are grouped (min-wise hashing).
    """
    n = len(offsets) - 1
    shown = np.flatnonzero(np.diff(offsets))
    if not len(shown) or size == 1:
        return random.permutation(n)
    rank = random.permutation(int(product_idx.max()) + 1)
    least = np.full(n, -1, np.int64)
    least[shown] = np.minimum.reduceat(rank[product_idx], offsets[shown])
    alike = np.lexsort((random.random(n), least))
    groups = random.permutation(-(-n // size))
    return np.concatenate([alike[group * size : (group + 1) * size] for group in groups])
