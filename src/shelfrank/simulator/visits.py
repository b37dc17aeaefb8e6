"""Visits of one or a few related searches, sorted by time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int32, Shaped

from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.choices import choose_intents
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import Customers
from shelfrank.simulator.needs import NEED, draw_categories, draw_needs, first_day, season_weights
from shelfrank.simulator.portable import exponential, geometric
from shelfrank.simulator.queries import N_WORDINGS, Intents, draw_wordings
from shelfrank.simulator.randomness import hashed_uniform, pick, pick_rows, stream

DAY_S = 86_400
HOUR_S = 3_600
CHUNK_SEARCHES = 25_000
MAX_SEARCHES_PER_VISIT = 8
MIN_PAUSE_S = 8.0
MEAN_PAUSE_S = 55.0
HOUR_WEIGHTS = np.array([5, 3, 2, 1, 1, 2, 5, 9, 13, 16, 18, 19, 20, 19, 18, 18, 19, 21, 25, 30, 33, 32, 24, 12])
DEVICES = ("phone", "desktop", "tablet")
PHONE = DEVICES.index("phone")

SEARCH = np.dtype(
    [
        ("second", np.float64), ("visit", np.int64), ("anonymous", np.bool_), ("device", np.int32),
        ("category", np.int32), ("intent", np.int32), ("wording", np.int32), *NEED.descr,
    ]
)  # fmt: skip
"""One search: seconds since the log's first midnight, its visit, whether it is anonymous, the index of its device in
`DEVICES`, the category, intent and wording of its query, and its need."""


class Visits:
    """The searches of one shop, drawn chunk by chunk.

    Args:
        config: The shop.
        catalogue: Its products.
        customers: Its customers.
        intents: The intents of queries.
    """

    def __init__(self, config: StorefrontConfig, catalogue: Catalogue, customers: Customers, intents: Intents) -> None:
        self.config = config
        self.catalogue = catalogue
        self.customers = customers
        self.intents = intents
        self._department = catalogue.assortment.department
        self._season = season_weights(config, catalogue)
        # A category without intents has no products.
        self._season[:, np.diff(intents.start) == 0] = 0
        self._traffic = _cumulative_traffic(config)
        self._active = np.cumsum(customers.activity, dtype=np.float64)

    def chunks(self) -> Iterator[Shaped[np.ndarray, " searches"]]:
        """Yields the configured number of rows of `SEARCH`, sorted by time within and across chunks."""
        total = self.config.searches
        waiting = np.zeros(0, dtype=SEARCH)
        n_visits = 0
        for number, first in enumerate(range(0, total, CHUNK_SEARCHES)):
            n = min(CHUNK_SEARCHES, total - first)
            share = (first / total, (first + n) / total)
            drawn = self._draw(n, share, n_visits, number)
            n_visits = int(drawn["visit"].max()) + 1
            rows = np.concatenate([waiting, drawn])
            rows = rows[np.argsort(rows["second"], kind="stable")]
            # A visit may continue in the time of the next chunk.
            over = (rows["second"] >= self._second_at(np.array(share[1]))) & (first + n < total)
            waiting = rows[over]
            yield rows[~over]

    def _second_at(self, share: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """The time until which this share of all visits begins."""
        return np.asarray(np.interp(share, self._traffic, np.arange(len(self._traffic)) * float(HOUR_S)))

    def _draw(
        self, n: int, share: tuple[float, float], first_visit: int, number: int
    ) -> Shaped[np.ndarray, " searches"]:
        config, rng = self.config, stream(self.config.seed, "visits", number)
        lengths = np.minimum(
            geometric(rng, np.full(n, 1 - 1 / config.traffic.mean_searches)).astype(np.int64), MAX_SEARCHES_PER_VISIT
        )
        n_visits = int(np.searchsorted(np.cumsum(lengths), n)) + 1
        lengths = lengths[:n_visits]
        lengths[-1] -= lengths.sum() - n
        visits = np.zeros(n_visits, dtype=SEARCH)
        visits["second"] = self._second_at(np.sort(share[0] + (share[1] - share[0]) * rng.random(n_visits)))
        visits["visit"] = first_visit + np.arange(n_visits)
        draws = rng.random(n_visits) * self._active[-1]
        visits["customer"] = np.searchsorted(self._active[:-1], draws, side="right")
        visits["anonymous"] = rng.random(n_visits) < config.traffic.anonymous
        phone = config.traffic.phone
        visits["device"] = pick(rng.random(n_visits), np.array([phone, 0.85 * (1 - phone), 0.15 * (1 - phone)]))
        season = self._season[day_of(visits)]
        visits["category"] = draw_categories(config, self.customers, visits["customer"], season, rng)
        habit = rng.random(n_visits) < config.traffic.habit
        self._set_needs(visits, habit, rng)
        self._set_queries(visits, None, habit, rng)
        steps = [visits]
        for step in range(1, MAX_SEARCHES_PER_VISIT):
            steps.append(self._search_again(steps[-1][lengths[steps[-1]["visit"] - first_visit] > step], rng))
        return np.concatenate(steps)

    def _search_again(
        self, last: Shaped[np.ndarray, " searches"], rng: np.random.Generator
    ) -> Shaped[np.ndarray, " searches"]:
        rows = last.copy()
        rows["second"] += MIN_PAUSE_S + MEAN_PAUSE_S * exponential(rng, len(rows))
        changes = rng.random(len(rows)) < self.config.traffic.other_category
        changed = rows[changes]
        same_department = self._department[changed["category"]][:, None] == self._department
        changed["category"] = pick_rows(rng.random(len(changed)), self._season[day_of(changed)] * same_department)
        self._set_needs(changed, np.zeros(len(changed), dtype=bool), rng)
        # Eagerness belongs to the visit and does not change with the need.
        changed["eagerness"] = rows["eagerness"][changes]
        rows[changes] = changed
        self._set_queries(rows, last["intent"], np.zeros(len(rows), dtype=bool), rng)
        return rows

    def _set_needs(
        self,
        rows: Shaped[np.ndarray, " searches"],
        habit: Bool[np.ndarray, " searches"],
        rng: np.random.Generator,
    ) -> None:
        needs = draw_needs(self.config, self.catalogue, self.customers, rows["customer"], rows["category"], habit, rng)
        for name in NEED.names or ():
            rows[name] = needs[name]

    def _set_queries(
        self,
        rows: Shaped[np.ndarray, " searches"],
        previous: Int32[np.ndarray, " searches"] | None,
        habit: Bool[np.ndarray, " searches"],
        rng: np.random.Generator,
    ) -> None:
        favorite = self.customers.favorite_brand[rows["customer"], self._department[rows["category"]]]
        rows["intent"] = choose_intents(self.config, self.intents, favorite, rows, previous, habit, rng)
        usual = hashed_uniform(self.config.seed, 8, rows["customer"], rows["intent"])
        rows["wording"] = draw_wordings(self.config, np.where(habit, usual, rng.random(len(rows))))


def day_of(searches: Shaped[np.ndarray, " searches"]) -> Int32[np.ndarray, " searches"]:
    """Whole days since the log's first midnight."""
    return (searches["second"] // DAY_S).astype(np.int32)


def forms_of(searches: Shaped[np.ndarray, " searches"]) -> Int32[np.ndarray, " searches"]:
    """The index of each search's wording in the lists of `Intents`."""
    return searches["intent"] * N_WORDINGS + searches["wording"]


def _cumulative_traffic(config: StorefrontConfig) -> Float64[np.ndarray, " hours"]:
    """The share of all visits that begin before each full hour."""
    day = np.arange(config.days)
    weekend = (first_day(config).weekday() + day) % 7 >= 5
    daily = np.where(weekend, config.traffic.weekend, 1.0) * (1 + config.traffic.growth * day / 365)
    hourly = (daily[:, None] * HOUR_WEIGHTS).ravel()
    # No visit begins in the last hour, so that all end within the log.
    hourly[-1] = 0
    total = np.concatenate([[0.0], np.cumsum(hourly)])
    # Half-open, so that the last visit begins before the empty hour.
    return total / total[-1]
