"""Graded relevance labels for (query, product) pairs, voted by clicks and text (Paper: Sec. 3.5).

pair_counts   engine: impressions, clicks, transactions of the training rows
PairTable     the same as arrays
voters        one vote per pair and voter                    -> combine -> score -> classes
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int, Int8, Int32

from shelfrank.config.relevance import OWN_VOTERS, RelevanceConfig
from shelfrank.core.errors import UserError, unknown_name
from shelfrank.prepare.pairs import POSITION_WEIGHTS, PairTable, column, group_starts, pack
from shelfrank.prepare.voters import Voter

PAIRS_FILE = "relevance_pairs.parquet"
METADATA = b"shelfrank.relevance"
VOTE = "vote_"
OPTIONAL = {"semantic": "semantic score", "understanding": "query understanding that learned from the log"}
"""Voters that a preparation may lack, and what each needs."""
UNSEEN = -1
"""The class of a pair that no training row shows, or on which every voter abstains."""


@dataclass(frozen=True)
class RelevanceLabels:
    """What the voters decided for each pair of the training rows, ascending by query and product.

    Attributes:
        query_idx: The query of each pair.
        product_idx: The product of each pair.
        votes: Each asked voter's votes; NaN abstains.
        score: The weighted mean of the votes; NaN where all abstain.
        classes: 0 (least relevant) and up; `UNSEEN` where there is no score.
        counts: How many pairs were decided how, by reason.
        notes: What a user should know of how the labels came about.
    """

    query_idx: Int32[np.ndarray, " pairs"]
    product_idx: Int32[np.ndarray, " pairs"]
    votes: Mapping[str, np.ndarray]
    score: Float64[np.ndarray, " pairs"]
    classes: Int8[np.ndarray, " pairs"]
    counts: Mapping[str, int]
    notes: Sequence[str]

    def lookup(
        self, query_idx: Int[np.ndarray, " rows"], product_idx: Int[np.ndarray, " rows"]
    ) -> Int8[np.ndarray, " rows"]:
        """The class of each row's pair, `UNSEEN` where the training rows do not show it."""
        if not len(self.query_idx):
            return np.full(len(query_idx), UNSEEN, dtype=np.int8)
        keys, wanted = pack(self.query_idx, self.product_idx), pack(query_idx, product_idx)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, self.classes[place], np.int8(UNSEEN))

    def table(self, queries: pa.ChunkedArray, product_ids: pa.ChunkedArray) -> pa.Table:
        """The labels with their texts and ids, for people: one row per pair, null where nobody voted.

        Args:
            queries: Row i is the text of `query_idx` i.
            product_ids: Row i is the id of `product_idx` i.

        Returns:
            `query`, `product_id`, a column for each voter, `score` and `class`.
        """
        return pa.table(
            {
                "query": queries.take(pa.array(self.query_idx)),
                "product_id": product_ids.take(pa.array(self.product_idx)),
                **self._decisions(),
            }
        )

    def save(self, path: Path, pairs: PairTable, config: RelevanceConfig) -> None:
        """Writes the labels with the counts that they come from, so that alpha and form can be varied later.

        Args:
            path: The file.
            pairs: The pairs that were labelled.
            config: The settings that they were labelled by.
        """
        counts = {name: getattr(pairs, name) for name in ("impressions", "clicks", "transactions")}
        weighted = {f"weighted_clicks_{form}": pairs.weighted_clicks(form) for form in POSITION_WEIGHTS}
        table = pa.table(
            {
                "query_idx": self.query_idx,
                "product_idx": self.product_idx,
                **counts,
                **weighted,
                **self._decisions(),
            }
        )
        about = {"config": config.model_dump(mode="json"), "counts": self.counts, "notes": list(self.notes)}
        table = table.replace_schema_metadata({METADATA: json.dumps(about)})
        pq.write_table(table, path, compression="zstd", compression_level=1)

    @classmethod
    def load(cls, path: Path) -> "RelevanceLabels":
        """Reads labels that `save` wrote; a missing or foreign file is a `UserError`."""
        table, about = read_pairs(path)
        names = [name.removeprefix(VOTE) for name in table.column_names if name.startswith(VOTE)]
        return cls(
            query_idx=column(table, "query_idx", np.int32),
            product_idx=column(table, "product_idx", np.int32),
            votes={name: column(table, VOTE + name, np.float64) for name in names},
            score=column(table, "score", np.float64),
            classes=table["class"].fill_null(UNSEEN).combine_chunks().to_numpy(zero_copy_only=False),
            counts=about["counts"],
            notes=about["notes"],
        )

    def _decisions(self) -> dict[str, pa.Array]:
        votes = {VOTE + name: pa.array(vote, mask=np.isnan(vote)) for name, vote in self.votes.items()}
        score = pa.array(self.score, mask=np.isnan(self.score))
        return {**votes, "score": score, "class": pa.array(self.classes, mask=self.classes == UNSEEN)}


def label(pairs: PairTable, voters: Iterable[Voter], config: RelevanceConfig) -> RelevanceLabels:
    """Asks the voters, combines their votes and cuts the scores into classes (Paper: Sec. 3.5).

    Args:
        pairs: The pairs of the training rows.
        voters: Those who may be asked; whom `config.weights` gives no weight is not.
        config: Weights and cuts.

    Returns:
        The labels.

    Raises:
        UserError: Where a weight names no voter, or no voter with a weight is left.
    """
    present = {voter.name: voter for voter in voters}
    weights = {name: weight for name, weight in config.weights.items() if weight > 0}
    notes = []
    for name, what in OPTIONAL.items():
        if name in weights and name not in present:
            share = weights.pop(name) / sum(config.weights.values())
            notes.append(f"there is no {what}: its weight ({share:.0%} of all) went to the other voters")
    for name in weights:
        if name not in present:
            raise unknown_name("voter", name, {*present, *OWN_VOTERS})
    if not weights:
        raise UserError(
            "relevance labels need a voter with a weight, but those that have one "
            f"({', '.join(name for name, weight in config.weights.items() if weight > 0)}) are switched off; switch "
            "one on, or give ctr a weight"
        )
    votes = {name: present[name].vote(pairs) for name in weights}
    score = combine(votes, weights)
    counts = {"pairs": len(pairs), "pairs without a vote": int(np.isnan(score).sum())}
    counts |= {f"abstentions of {name}": int(np.isnan(vote).sum()) for name, vote in votes.items()}
    counts["pairs cut by the quantiles of all pairs"] = int(
        (_n_scored(score, pairs.query_idx) < config.min_products).sum()
    )
    decided = classes(score, pairs.query_idx, config)
    return RelevanceLabels(pairs.query_idx, pairs.product_idx, votes, score, decided, counts, notes)


def combine(votes: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> Float64[np.ndarray, " pairs"]:
    """The weighted mean of the votes over those who do not abstain (Paper: Sec. 3.5, step 7).

    Args:
        votes: Each voter's votes, NaN where it abstains.
        weights: Weights by voter; those of weight 0 need no votes.

    Returns:
        The scores, NaN where all abstain.

    Raises:
        UserError: Where a weight names no voter.

    Example:
        >>> votes = {"ctr": np.array([1.0, 1.0]), "semantic": np.array([0.5, np.nan])}
        >>> combine(votes, {"ctr": 0.5, "semantic": 0.5})
        array([0.75, 1.  ])
    """
    total = weight_of_all = np.zeros(len(next(iter(votes.values()))))
    for name, weight in weights.items():
        if weight == 0:
            continue
        if name not in votes:
            raise unknown_name("voter", name, votes)
        speaks = ~np.isnan(votes[name])
        total = total + np.where(speaks, weight * votes[name], 0.0)
        weight_of_all = weight_of_all + weight * speaks
    return np.divide(total, weight_of_all, out=np.full(len(total), np.nan), where=weight_of_all > 0)


def classes(
    score: Float64[np.ndarray, " pairs"], query_idx: Int[np.ndarray, " pairs"], config: RelevanceConfig
) -> Int8[np.ndarray, " pairs"]:
    """Cuts scores into classes at the quantiles of each query (Paper: Sec. 3.5, "query-specific thresholds").

    Unstated: how. A pair's class is the number of cuts that lie strictly below its score, so equal scores share a
    class, and a query whose scores are all equal has class 0 only. Quantiles interpolate linearly. Queries with fewer
    scored products than `config.min_products` use the quantiles of all scores.

    Args:
        score: One score per pair; NaN has none.
        query_idx: The pairs' queries, ascending.
        config: The cuts.

    Returns:
        The classes, `UNSEEN` without a score.

    Example:
        The cuts are 0, 0.1 and 0.45.

        >>> classes(np.array([0.0, 0.2, 0.0, 1.2]), np.zeros(4, dtype=np.int32), RelevanceConfig())
        array([0, 2, 0, 3], dtype=int8)
    """
    result = np.full(len(score), UNSEEN, dtype=np.int8)
    scored = np.flatnonzero(~np.isnan(score))
    if not len(scored):
        return result
    scored = scored[np.lexsort((score[scored], query_idx[scored]))]
    ordered, query = score[scored], query_idx[scored]
    starts = group_starts(query)
    sizes = np.diff(np.append(starts, len(query)))
    own = sizes >= config.min_products
    decided = np.zeros(len(ordered), dtype=np.int8)
    for quantile, of_all in zip(config.quantiles, np.quantile(ordered, config.quantiles), strict=True):
        place = (sizes - 1) * quantile
        below = np.floor(place).astype(np.int64)
        low, high = ordered[starts + below], ordered[starts + np.minimum(below + 1, sizes - 1)]
        cut = np.where(own, low + (place - below) * (high - low), of_all)
        decided += ordered > np.repeat(cut, sizes)
    result[scored] = decided
    return result


def read_pairs(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Reads what `RelevanceLabels.save` wrote.

    Args:
        path: The file.

    Returns:
        The table, and `config`, `counts` and `notes` as plain data.

    Raises:
        UserError: Where the file is missing or was not written by `save`.
    """
    try:
        table = pq.read_table(path)
        return table, json.loads((table.schema.metadata or {})[METADATA])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            f"{path} must hold relevance labels, but it cannot be read; prepare with relevance labels switched on"
        ) from error


def _n_scored(score: Float64[np.ndarray, " pairs"], query_idx: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
    if not len(score):
        return np.empty(0, dtype=np.int64)
    starts = group_starts(query_idx)
    return np.repeat(
        np.add.reduceat((~np.isnan(score)).astype(np.int64), starts), np.diff(np.append(starts, len(score)))
    )
