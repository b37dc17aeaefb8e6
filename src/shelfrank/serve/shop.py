"""The page's view of a bundle: search, the same candidates in two orders, and the reasons."""

import bisect
import fcntl
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
from jaxtyping import Float32, Float64, Int64

from shelfrank.bundle.loaded import Bundle, Scored
from shelfrank.bundle.spec import SHOP, SHOP_FACTS, SHOP_PRODUCTS, SHOP_QUERIES
from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import write_atomic
from shelfrank.features.request import PageRequest
from shelfrank.metrics import personalization_degree
from shelfrank.serve.ranking import blend, explanations, fused_scores, task_weights
from shelfrank.serve.retrieval import Retrieval

log = logging.getLogger("shelfrank.serve")
N_CANDIDATES = 40
SUGGESTED = 8
EXAMPLES = 8
FRESH_S = 2 * 86_400
"""Age of a log up to which a page is asked for now; an older one is shown as of its end, when its windows are full."""


@dataclass(frozen=True)
class ShopQuery:
    """What the page asks.

    Attributes:
        query: What was typed.
        customer_id: The shopper; None is nobody known.
        session_id: The visit.
        task_weights: What fuses the tasks; None takes the bundle's.
        n_shown: Products that the page lists.
    """

    query: str
    customer_id: str | None = None
    session_id: str | None = None
    task_weights: Mapping[str, float] | None = None
    n_shown: int = 20


@dataclass(frozen=True)
class _TwoOrders:
    """One query's candidates, scored for the shopper and for nobody.

    Attributes:
        asked: The page.
        found: How many candidates came by words and by meaning.
        own: For the shopper.
        neutral: For a neutral customer.
        own_order: Candidates, best first.
        neutral_order: The same for a neutral customer.
        own_fused: What the first is sorted by.
        neutral_fused: What the second is sorted by.
    """

    asked: PageRequest
    found: Mapping[str, int]
    own: Scored
    neutral: Scored
    own_order: Int64[np.ndarray, " rows"]
    neutral_order: Int64[np.ndarray, " rows"]
    own_fused: Float32[np.ndarray, " rows"]
    neutral_fused: Float32[np.ndarray, " rows"]


class Shop:
    """A bundle's products to look at, with a clock.

    Args:
        bundle: The bundle.
        folder: Its folder, which has a shop.
        state: Where the clock is kept.

    Attributes:
        bundle: The bundle.
        shoppers: Those that the page offers.
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
        """The page's time: now where the log is fresh, else the log's end and what has passed since."""
        return time.time_ns() // 1000 - self._shift_us

    def about(self) -> dict[str, Any]:
        """What the page shows before anything is asked."""
        spec = self.bundle.spec
        most = np.argsort(-self._searches, kind="stable")[:EXAMPLES]
        return {
            "name": self.name,
            "label": spec.label,
            "bundle": self.bundle.name,
            "tasks": list(spec.tasks),
            "task_weights": dict(spec.task_weights),
            "bounded": spec.gives_probabilities,
            "products": self._products.num_rows,
            "features": self.features,
            "examples": [self._queries[int(i)] for i in most],
            "shoppers": self.shoppers,
            "now_us": self.now_us(),
            "is_shifted": self._shift_us > 0,
            "k": EvaluateConfig().pd_k,
        }

    def suggest(self, start: str) -> list[str]:
        """The most frequent queries of the log that begin so."""
        start = " ".join(start.casefold().split())
        if not start:
            return []
        low = bisect.bisect_left(self._folded, start)
        high = bisect.bisect_left(self._folded, start + "\U0010ffff")
        best = low + np.argsort(-self._searches[low:high], kind="stable")[:SUGGESTED]
        return [self._queries[int(i)] for i in best]

    def search(self, wanted: ShopQuery) -> dict[str, Any]:
        """One query in both orders.

        Args:
            wanted: What is asked.

        Returns:
            The answer, plain.

        Raises:
            UserError: Where none of the tasks has weight.
        """
        weights = task_weights(self.bundle, wanted.task_weights)
        spec, now_us, k = self.bundle.spec, self.now_us(), EvaluateConfig().pd_k
        answer = {
            "bundle": self.bundle.name,
            "now_us": now_us,
            "task_weights": dict(zip(spec.tasks, weights.tolist(), strict=True)),
            "candidates": 0,
            "by_words": 0,
            "by_meaning": 0,
            "personalization_degree": None,
            "unknown_customer": False,
            "missing_features": {},
            "neutral": [],
            "personalized": [],
            "products": {},
        }
        two = self._two_orders(wanted, now_us, weights)
        if two is None:
            return answer
        n = len(two.asked.product_ids)
        own, neutral = two.own_order[: wanted.n_shown].tolist(), two.neutral_order[: wanted.n_shown].tolist()
        own_rank, neutral_rank = np.empty(n, np.int64), np.empty(n, np.int64)
        own_rank[two.own_order] = neutral_rank[two.neutral_order] = np.arange(1, n + 1)
        # Of the places that are shown: where scores tie, those of the scores alone could be others.
        places = (-own_rank.astype(np.float64), -neutral_rank.astype(np.float64))
        share = personalization_degree(*places, np.array([0, n]), two.own.page.tie_keys, k)
        seen = list(dict.fromkeys([*own, *neutral]))
        ids = two.asked.product_ids
        return answer | {
            **two.found,
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
                for i in seen
            },
        }

    def explain(self, wanted: ShopQuery, product_id: str) -> dict[str, Any] | None:
        """Why a product stands where it does on a page.

        Args:
            wanted: The page.
            product_id: One of its candidates.

        Returns:
            What each feature and side does to each task's logit, from their training means, and the gates. None where
            the product is none of the page's candidates.

        Raises:
            UserError: Where none of the tasks has weight.
        """
        weights = task_weights(self.bundle, wanted.task_weights)
        two = self._two_orders(wanted, self.now_us(), weights)
        if two is None or product_id not in two.asked.product_ids:
            return None
        row = list(two.asked.product_ids).index(product_id)
        (found,) = explanations(self.bundle, two.own.rows, np.array([row]), weights)
        return {"product_id": product_id, "bounded": self.bundle.spec.gives_probabilities, **found}

    def _two_orders(
        self, wanted: ShopQuery, now_us: int, weights: Float64[np.ndarray, " n_tasks"]
    ) -> _TwoOrders | None:
        found = self._retrieval.find(wanted.query, self.bundle.semantic_vector(wanted.query), N_CANDIDATES)
        if not len(found.rows):
            return None
        asked = PageRequest(
            query=wanted.query,
            product_ids=self._products["product_id"].take(pa.array(found.rows)).to_pylist(),
            customer_id=wanted.customer_id,
            session_id=wanted.session_id,
            ts_us=now_us,
        )
        own = self.bundle.score(asked)
        neutral = self.bundle.score_neutrally(asked, own, EvaluateConfig().neutral)
        engine = np.arange(1, len(found.rows) + 1)
        fused = [fused_scores(scored, weights) for scored in (own, neutral)]
        orders = [blend(each, engine, 1.0)[0] for each in fused]
        return _TwoOrders(
            asked=asked,
            found={"by_words": found.by_words, "by_meaning": found.by_meaning},
            own=own,
            neutral=neutral,
            own_order=orders[0],
            neutral_order=orders[1],
            own_fused=fused[0],
            neutral_fused=fused[1],
        )

    def _scores(self, scored: Scored, fused: Float32[np.ndarray, " rows"], row: int) -> dict[str, Any]:
        tasks = dict(zip(self.bundle.spec.tasks, scored.scores[row].tolist(), strict=True))
        return {"score": float(fused[row]), "tasks": tasks}

    def _shown(self, row: int) -> dict[str, Any]:
        found = self._products.slice(row, 1).to_pylist()[0]
        about = {feature["name"]: found[feature["name"]] for feature in self.features}
        about = {name: None if value != value else value for name, value in about.items()}
        return {"title": found["title"], "about": about}


def kept_shift_us(state: Path, until_us: int, now_us: int) -> int:
    """How far the page's clock is behind, the same for everybody who asks of one folder and one end of a log.

    Whoever comes first decides; processes that start later, and bundles that are loaded again, find what was decided.
    Otherwise what is clicked by one's clock would lie in another's future.

    Args:
        state: The folder.
        until_us: The log's last moment.
        now_us: The moment that whoever comes first decides by.

    Returns:
        Microseconds; 0 where the log was fresh.
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
        log.warning("the page's clock is not shared, since %s cannot be kept: %s", file, error)
    return shift_us
