"""Slots: phrases of one category of which a title has one at most, such as its product type or its size."""

import numpy as np
from jaxtyping import Bool, Float64

MAX_TERMS = 250
"""Most frequent terms of a category that are clustered."""
MIN_TERM_COUNT = 4
MAX_OVERLAP = 0.1
"""Most titles with two terms of a slot, as a share of what chance would give."""
MIN_EXPECTED = 1.5
"""Titles with both terms that chance must give at least, before their absence says anything."""


def find_slots(has: Bool[np.ndarray, "titles terms"]) -> list[list[int]]:
    """Clusters terms that exclude each other.

    From single terms on, the two clusters are joined whose titles overlap least against chance, judged by how many
    standard deviations are missing; so the large clusters (product types) grow before the small ones.

    Args:
        has: Which titles of one category have which terms.

    Returns:
        The clusters, those that cover the most titles first; each has its most frequent terms first.
    """
    n_titles, n_terms = has.shape
    if not n_terms:
        return []
    counts = has.sum(axis=0).astype(np.float64)
    columns = has.astype(np.float32)
    together = (columns.T @ columns).astype(np.float64)
    members = [[term] for term in range(n_terms)]
    size = counts.copy()
    alive = np.ones(n_terms, dtype=bool)
    score = _missing(together, size, n_titles)
    while True:
        at = int(np.argmax(score))
        kept, gone = divmod(at, n_terms)
        if score[kept, gone] <= 0:
            break
        members[kept] += members[gone]
        together[kept] += together[gone]
        together[:, kept] += together[:, gone]
        size[kept] += size[gone]
        alive[gone] = False
        together[gone], together[:, gone] = np.inf, np.inf
        row = _missing(together[kept : kept + 1], size, n_titles, size[kept : kept + 1])[0]
        row[~alive], row[kept] = 0.0, 0.0
        score[kept], score[:, kept] = row, row
        score[gone], score[:, gone] = 0.0, 0.0
    order = sorted(np.flatnonzero(alive).tolist(), key=lambda cluster: (-size[cluster], members[cluster][0]))
    return [sorted(members[cluster], key=lambda term: (-counts[term], term)) for cluster in order]


def _missing(
    together: Float64[np.ndarray, "some terms"],
    size: Float64[np.ndarray, " terms"],
    n_titles: int,
    of: Float64[np.ndarray, " some"] | None = None,
) -> Float64[np.ndarray, "some terms"]:
    """Standard deviations by which titles with both are fewer than chance gives; 0 where they exclude not enough."""
    expected = (size if of is None else of)[:, None] * size / n_titles
    score = np.zeros_like(together)
    few = (together <= MAX_OVERLAP * expected) & (expected >= MIN_EXPECTED)
    score[few] = (expected[few] - together[few]) / np.sqrt(expected[few])
    if of is None:
        np.fill_diagonal(score, 0.0)
    return score
