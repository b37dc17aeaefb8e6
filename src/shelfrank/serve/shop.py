"""The page's view of a bundle: search, the same candidates in two orders, and explanations."""

import bisect
import fcntl
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
from jaxtyping import Float32, Float64, Int64

from shelfrank.bundle.loaded import Bundle, ScoredPage
from shelfrank.bundle.spec import SHOP, SHOP_FACTS, SHOP_PRODUCTS, SHOP_QUERIES
from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import write_atomic
from shelfrank.features.request import PageRequest
from shelfrank.metrics import personalization_degree
from shelfrank.serve.api import N_CANDIDATES
from shelfrank.serve.ranking import RankOptions, blend, explanations, fused_scores, task_weights
from shelfrank.serve.retrieval import Retrieval

log = logging.getLogger("shelfrank.serve")
N_SUGGESTIONS = 8
N_EXAMPLES = 8
FRESH_S = 2 * 86_400
"""Maximum age of a log whose pages have the current time; an older log's have its end, when its windows are full."""


@dataclass(frozen=True)
class _TwoOrders:
    """One query's candidates, scored for the shopper and for a neutral customer.

    Attributes:
        page: The query with its candidates.
        retrieved: Number of candidates that were retrieved by words and by meaning.
        own: The scores for the shopper.
        neutral: The scores for a neutral customer.
        own_order: The candidates, best first, for the shopper.
        neutral_order: The same for a neutral customer.
        own_fused: The sort key of `own_order`.
        neutral_fused: The sort key of `neutral_order`.
    """

    page: PageRequest
    retrieved: Mapping[str, int]
    own: ScoredPage
    neutral: ScoredPage
    own_order: Int64[np.ndarray, " rows"]
    neutral_order: Int64[np.ndarray, " rows"]
    own_fused: Float32[np.ndarray, " rows"]
    neutral_fused: Float32[np.ndarray, " rows"]


class Shop:
    """A bundle's products with titles, with a clock.

    Args:
        bundle: The bundle.
        folder: Its folder, which has a shop.
        state: Folder of the clock.

    Attributes:
        bundle: The bundle.
        shoppers: The shoppers that the page offers.
    """

    def __init__(self, bundle: Bundle, folder: Path, state: Path) -> None:
        path = folder / SHOP
        self.bundle = bundle
        facts = json.loads((path / SHOP_FACTS).read_text(encoding="utf-8"))
        self.name, self.features, self.shoppers = facts["name"], facts["features"], facts["shoppers"]
        self._products: pa.Table = feather.read_table(str(path / SHOP_PRODUCTS), memory_map=True)
        queries: pa.Table = feather.read_table(str(path / SHOP_QUERIES), memory_map=True)
        self._queries, self._searches = queries["query"].to_pylist(), queries["searches"].to_numpy()
        self._folded = [query.casefold() for query in self._queries]
        order = sorted(range(len(self._folded)), key=self._folded.__getitem__)
        self._folded = [self._folded[i] for i in order]
        self._queries = [self._queries[i] for i in order]
        self._searches = self._searches[order] if order else self._searches
        self._retrieval = Retrieval(
            [title or "" for title in self._products["title"].to_pylist()],
            [document or "" for document in self._products["document"].to_pylist()],
            bundle.features.product_embeddings,
        )
        self._shift_us = kept_shift_us(state, bundle.features.until_us, time.time_ns() // 1000)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a version has a shop."""
        return (folder / SHOP / SHOP_FACTS).is_file()

    def now_us(self) -> int:
        """The page's time: now for a fresh log, else the log's end plus the time since the first load."""
        return time.time_ns() // 1000 - self._shift_us

    def about(self) -> dict[str, Any]:
        """Describes the shop: tasks, shoppers, frequent queries."""
        spec = self.bundle.spec
        frequent = np.argsort(-self._searches, kind="stable")[:N_EXAMPLES]
        return {
            "name": self.name,
            "label": spec.label,
            "bundle": self.bundle.name,
            "tasks": list(spec.tasks),
            "task_weights": dict(spec.task_weights),
            "bounded": spec.gives_probabilities,
            "products": self._products.num_rows,
            "features": self.features,
            "examples": [self._queries[int(i)] for i in frequent],
            "shoppers": self.shoppers,
            "now_us": self.now_us(),
            "is_shifted": self._shift_us > 0,
            "k": EvaluateConfig().pd_k,
        }

    def suggest(self, start: str) -> list[str]:
        """Lists the most frequent queries of the log that start with a text."""
        start = " ".join(start.casefold().split())
        if not start:
            return []
        low = bisect.bisect_left(self._folded, start)
        high = bisect.bisect_left(self._folded, start + "\U0010ffff")
        best = low + np.argsort(-self._searches[low:high], kind="stable")[:N_SUGGESTIONS]
        return [self._queries[int(i)] for i in best]

    def search(self, page: PageRequest, options: RankOptions) -> dict[str, Any]:
        """Ranks a query's products in both orders (Paper: Sec. 4.3, Eq. (16)).

        Args:
            page: The query and the shopper; candidates are retrieved.
            options: The weights of the tasks, and how many products each order lists.

        Returns:
            Plain data.

        Raises:
            UserError: If every task has weight 0.
        """
        weights = task_weights(self.bundle, options.task_weights)
        spec, now_us, k = self.bundle.spec, self.now_us(), EvaluateConfig().pd_k
        reading = self.bundle.features.reading(page.query)
        response = {
            "bundle": self.bundle.name,
            "now_us": now_us,
            "task_weights": dict(zip(spec.tasks, weights.tolist(), strict=True)),
            "candidates": 0,
            "by_words": 0,
            "by_meaning": 0,
            "personalization_degree": None,
            "read_as": None if reading is None else [str(part) for part in reading.parts],
            "unknown_customer": False,
            "missing_features": {},
            "neutral": [],
            "personalized": [],
            "products": {},
        }
        two = self._two_orders(page, now_us, weights)
        if two is None:
            return response
        ids = two.page.product_ids
        n = len(ids)
        own, neutral = (order[: options.top_n].tolist() for order in (two.own_order, two.neutral_order))
        own_rank, neutral_rank = np.empty(n, np.int64), np.empty(n, np.int64)
        own_rank[two.own_order] = neutral_rank[two.neutral_order] = np.arange(1, n + 1)
        # Of the displayed places: ties of the scores could be ordered otherwise.
        places = (-own_rank.astype(np.float64), -neutral_rank.astype(np.float64))
        share = personalization_degree(*places, np.array([0, n]), two.own.page.tie_keys, k)
        return response | {
            **two.retrieved,
            "candidates": n,
            "personalization_degree": None if np.isnan(share[0]) else float(share[0]),
            "unknown_customer": bool(two.own.page.unknown["customer"]),
            "missing_features": dict(two.own.page.missing_features),
            "neutral": [ids[i] for i in neutral],
            "personalized": [ids[i] for i in own],
            "products": {
                ids[i]: {
                    **self._shown(int(two.own.page.product_idx[i])),
                    "engine_rank": i + 1,
                    "neutral": {"rank": int(neutral_rank[i]), **self._scores(two.neutral, two.neutral_fused, i)},
                    "personalized": {"rank": int(own_rank[i]), **self._scores(two.own, two.own_fused, i)},
                }
                for i in dict.fromkeys([*own, *neutral])
            },
        }

    def explain(self, page: PageRequest, options: RankOptions, product_id: str) -> dict[str, Any] | None:
        """Explains the score of a product for the shopper.

        Args:
            page: The query and the shopper; candidates are retrieved.
            options: The weights of the tasks.
            product_id: One of the candidates.

        Returns:
            The fields of the API's `Explanation` and more; None if the product is no candidate of the query.

        Raises:
            UserError: If every task has weight 0.
        """
        weights = task_weights(self.bundle, options.task_weights)
        two = self._two_orders(page, self.now_us(), weights)
        if two is None or product_id not in two.page.product_ids:
            return None
        row = list(two.page.product_ids).index(product_id)
        (explained,) = explanations(self.bundle, two.own.rows, np.array([row]), weights)
        return {"product_id": product_id, "bounded": self.bundle.spec.gives_probabilities, **explained}

    def _two_orders(
        self, page: PageRequest, now_us: int, weights: Float64[np.ndarray, " n_tasks"]
    ) -> _TwoOrders | None:
        retrieved = self._retrieval.find(page.query, self.bundle.semantic_vector(page.query), N_CANDIDATES)
        if not len(retrieved.rows):
            return None
        ids = self._products["product_id"].take(pa.array(retrieved.rows)).to_pylist()
        page = replace(page, product_ids=ids, positions=None, ts_us=now_us)
        own = self.bundle.score(page)
        neutral = self.bundle.score_neutrally(page, own, EvaluateConfig().neutral)
        engine = np.arange(1, len(ids) + 1)
        fused = [fused_scores(scored, weights) for scored in (own, neutral)]
        orders = [blend(each, engine, 1.0)[0] for each in fused]
        return _TwoOrders(
            page=page,
            retrieved={"by_words": retrieved.by_words, "by_meaning": retrieved.by_meaning},
            own=own,
            neutral=neutral,
            own_order=orders[0],
            neutral_order=orders[1],
            own_fused=fused[0],
            neutral_fused=fused[1],
        )

    def _scores(self, scored: ScoredPage, fused: Float32[np.ndarray, " rows"], row: int) -> dict[str, Any]:
        tasks = dict(zip(self.bundle.spec.tasks, scored.scores[row].tolist(), strict=True))
        return {"score": float(fused[row]), "tasks": tasks}

    def _shown(self, row: int) -> dict[str, Any]:
        product = self._products.slice(row, 1).to_pylist()[0]
        about = {feature["name"]: product[feature["name"]] for feature in self.features}
        about = {name: None if value != value else value for name, value in about.items()}
        return {"title": product["title"], "about": about}


def kept_shift_us(state: Path, until_us: int, now_us: int) -> int:
    """Reads how far the page's clock is behind, or fixes it: the same for every process that shares a folder and a log.

    The first process fixes it; later processes and reloaded bundles read it. Otherwise an action by one process's clock
    would be in another's future.

    Args:
        state: The folder.
        until_us: Time of the log's last event.
        now_us: The current time, by which the first process fixes it.

    Returns:
        Microseconds; 0 if the log was fresh.
    """
    shift_us = 0 if now_us - until_us < FRESH_S * 1_000_000 else now_us - until_us - 1_000_000
    file = state / f"clock-{until_us}"
    try:
        with (state / "clock.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return int(file.read_text(encoding="ascii"))
            except (FileNotFoundError, ValueError):
                write_atomic(file, f"{shift_us}\n".encode())
    except OSError as error:
        log.warning("the page's clock is not shared because %s cannot be written: %s", file, error)
    return shift_us
