"""Segmentations of the searches of a split: by query, by customer, by product; all but one need the data only."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from shelfrank.core.schema import RANDOMISED
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.logs.search_log import has_table, table_files

TRUTH = "truth/searches"
QUERY_KIND = "query_kind"
QUERY_FREQUENCY = "query_frequency"
CUSTOMER = "customer"
PRODUCT_COLDNESS = "product_coldness"
FOLD = "fold"

Segments = Mapping[str, Bool[np.ndarray, " searches"]]
"""Named parts of a split: which of its searches belong to each. They may overlap, and need not cover the split."""


def segmentations(log: Path, prepared: PreparedData, split_name: str) -> dict[str, Segments]:
    """Every segmentation of the searches of a split that the data allows.

    Args:
        log: The log's folder.
        prepared: The data whose split is measured.
        split_name: The split.

    Returns:
        By name the segments; `query_kind` only where the log knows the kinds of queries, `fold` only of folds, and
        `randomised` only where the log marks pages. A segment may be empty. Of folds, each search is judged by the
        training split of its own fold.
    """
    found: dict[str, Segments] = {}
    for name, segments_of in (
        (QUERY_FREQUENCY, query_frequencies),
        (CUSTOMER, customers),
        (PRODUCT_COLDNESS, product_coldness),
    ):
        by_fold = [segments_of(part.split(split_name), part.split("train")) for part in prepared.parts]
        found[name] = {segment: np.concatenate([each[segment] for each in by_fold]) for segment in by_fold[0]}
    if prepared.folds:
        found[FOLD] = folds(prepared, split_name)
    if has_table(log, TRUTH):
        found[QUERY_KIND] = query_kinds(log, prepared, split_name)
    marks = prepared.searches(split_name)
    if RANDOMISED in marks.column_names and (prepared.marked is None or prepared.marked[1] != RANDOMISED):
        found[RANDOMISED] = randomised(marks[RANDOMISED])
    return found


def folds(prepared: PreparedData, split_name: str) -> Segments:
    """The searches of each fold.

    Args:
        prepared: Data of folds.
        split_name: The split.

    Returns:
        By the fold's name, which searches are of it; each search is of one fold.
    """
    fold_of_search = np.repeat(
        np.arange(len(prepared.folds)), [fold.searches(split_name).num_rows for fold in prepared.folds]
    )
    return {fold.path.name: fold_of_search == number for number, fold in enumerate(prepared.folds)}


def randomised(marks: pa.ChunkedArray) -> Segments:
    """The searches by whether their page was shown in random order.

    Args:
        marks: The log's mark of each search, null where it has none.

    Returns:
        `randomised` and `ranked`; a search without a mark is in neither.
    """
    return {
        name: marks.fill_null(not value).to_numpy() == value
        for name, value in (("randomised", True), ("ranked", False))
    }


def query_frequencies(split: Split, train: Split) -> Segments:
    """The searches by how often the training split searched their query.

    From the most frequent query downwards, those that together make up at most a third of the training searches are
    `head`, those up to two thirds `torso`, the others `tail`; equally frequent queries stay together, so that a share
    may be smaller. A query that the training split has not is `unseen`.

    Args:
        split: The split that is measured.
        train: The training split.

    Returns:
        `head`, `torso`, `tail` and `unseen`; each search is of one.
    """
    queries, trained = _by_search(split.query_idx, split), _by_search(train.query_idx, train)
    counts = np.bincount(trained, minlength=int(max(queries.max(initial=-1), trained.max(initial=-1))) + 1)
    distinct, n_queries = np.unique(counts[counts > 0], return_counts=True)
    # Training searches of queries that are at least so frequent; thirds are computed without rounding.
    reached = np.cumsum((distinct * n_queries)[::-1])[::-1]
    third = np.minimum(2, (3 * reached - 1) // max(1, len(trained)))
    times = counts[queries]
    place = np.full(len(queries), 3)
    place[times > 0] = third[np.searchsorted(distinct, times[times > 0])]
    return {name: place == number for number, name in enumerate(("head", "torso", "tail", "unseen"))}


def customers(split: Split, train: Split) -> Segments:
    """The searches by whether the training split knows the customer.

    Args:
        split: The split that is measured.
        train: The training split.

    Returns:
        `known`: a search of the same customer is in the training split; `new`: none is; `anonymous`: the log has
        no customer id. Each search is of one. A new customer may have searched before within the measured split.
    """
    who = _by_search(split.customer_idx, split)
    anonymous, known = who < 0, np.isin(who, _by_search(train.customer_idx, train))
    return {"known": known & ~anonymous, "new": ~known & ~anonymous, "anonymous": anonymous}


def product_coldness(split: Split, train: Split) -> Segments:
    """The searches by whether the training split has shown what was chosen in them.

    Chosen is every product with a positive label of any task. A search in which nothing was chosen is in neither
    segment, since no measure of a search's order counts it.

    Args:
        split: The split that is measured.
        train: The training split.

    Returns:
        `cold`: the training split has shown none of the chosen products; `warm`: it has shown at least one.
    """
    chosen = (np.asarray(split.labels) == 1).any(axis=1)
    cold = cold_rows(split, train)
    any_chosen, any_warm = (_any_by_search(rows, split) for rows in (chosen, chosen & ~cold))
    return {"warm": any_warm, "cold": any_chosen & ~any_warm}


def cold_rows(split: Split, train: Split) -> Bool[np.ndarray, " rows"]:
    """Rows whose product the training split has never shown; with sampling, in no row that was kept."""
    return ~np.isin(split.product_idx, np.unique(train.product_idx))


def query_kinds(log: Path, prepared: PreparedData, split_name: str) -> Segments:
    """The searches of each kind of query.

    Args:
        log: The folder of a log with `truth/searches`.
        prepared: The data whose split is measured.
        split_name: The split.

    Returns:
        By kind, which searches are of it; each search is of one kind.
    """
    truth = pq.read_table(table_files(log, TRUTH), columns=["search_id", QUERY_KIND])
    ids = prepared.searches(split_name)["search_id"]
    rows = pc.index_in(ids, value_set=truth["search_id"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    assert rows.null_count == 0, "the truth must cover every search of the log"
    kinds = truth[QUERY_KIND].take(rows).to_numpy()
    return {kind: kinds == kind for kind in sorted(set(kinds.tolist()))}


def _by_search(values: Int[np.ndarray, " rows"], split: Split) -> Int[np.ndarray, " searches"]:
    """A value that all rows of a search share."""
    return np.asarray(values)[split.search_offsets[:-1]]


def _any_by_search(rows: Bool[np.ndarray, " rows"], split: Split) -> Bool[np.ndarray, " searches"]:
    if not split.n_searches:
        return np.zeros(0, dtype=bool)
    return np.logical_or.reduceat(rows, split.search_offsets[:-1])
