"""Small results pages for the metric tests: drawn by Hypothesis, and simulated for the larger checks."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

FEW_SCORES = (-3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 2.0)
"""So few, and so many of them negative or zero, that ties are common."""


@dataclass(frozen=True)
class Pages:
    scores: np.ndarray
    labels: np.ndarray
    search_offsets: np.ndarray
    tie_keys: np.ndarray

    @property
    def pages(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.search_offsets[:-1], self.search_offsets[1:], strict=True)]

    def args(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.scores, self.labels, self.search_offsets, self.tie_keys

    def reordered(self, rows: np.ndarray) -> "Pages":
        return replace(self, scores=self.scores[rows], labels=self.labels[rows], tie_keys=self.tie_keys[rows])

    def shuffled_within_pages(self, seed: int) -> "Pages":
        rng = np.random.default_rng(seed)
        rows = [rng.permutation(np.arange(page.start, page.stop)) for page in self.pages]
        return self.reordered(np.concatenate([np.empty(0, dtype=np.int64), *rows]))


@st.composite
def few_pages(draw: st.DrawFn, lowest: int = -1, highest: int = 1, min_searches: int = 0) -> Pages:
    sizes = draw(st.lists(st.integers(1, 6), min_size=min_searches, max_size=5))
    n_rows = sum(sizes)
    scores = draw(st.lists(st.sampled_from(FEW_SCORES), min_size=n_rows, max_size=n_rows))
    labels = draw(st.lists(st.integers(lowest, highest), min_size=n_rows, max_size=n_rows))
    keys = draw(st.permutations(range(n_rows)))
    return Pages(
        scores=np.array(scores, dtype=np.float64),
        labels=np.array(labels, dtype=np.int8),
        search_offsets=np.cumsum([0, *sizes]),
        # Beyond 2^53, where a detour through floating point would round them.
        tie_keys=np.array(keys, dtype=np.uint64) + np.uint64(2**63),
    )


def page(scores: list[float], labels: list[int], keys: list[int] | None = None) -> Pages:
    return Pages(
        scores=np.array(scores, dtype=np.float32),
        labels=np.array(labels, dtype=np.int8),
        search_offsets=np.array([0, len(scores)]),
        tie_keys=np.array(range(len(scores)) if keys is None else keys, dtype=np.uint64),
    )


def no_pages() -> Pages:
    return Pages(
        scores=np.empty(0, dtype=np.float32),
        labels=np.empty(0, dtype=np.int8),
        search_offsets=np.zeros(1, dtype=np.int64),
        tie_keys=np.empty(0, dtype=np.uint64),
    )


def simulated(n_searches: int, seed: int, signal: float = 1.0) -> Pages:
    """Pages whose rows share a random level, so that rows of one page are not independent."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, n_searches)
    n_rows = int(sizes.sum())
    labels = (rng.random(n_rows) < 0.3).astype(np.int8)
    level = np.repeat(rng.normal(size=n_searches), sizes)
    return Pages(
        scores=np.round(signal * labels + level + rng.normal(size=n_rows), 1),
        labels=labels,
        search_offsets=np.cumsum([0, *sizes]),
        tie_keys=rng.permutation(n_rows).astype(np.uint64),
    )
