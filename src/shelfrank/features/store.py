"""Encoded pages at any time: statistics from mapped tables and recent events, formulas and encoder as offline."""

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, Num

from shelfrank.config import PrepareConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import PRICE, Side, Spelling
from shelfrank.core.values import CategorySpelling, NumberSpelling
from shelfrank.data.prepared import Column, id_hashes, map_array, tie_keys
from shelfrank.features.declared import EntityTable, GivenCategories, GivenNumbers
from shelfrank.features.deduplication import MAX_KEYS, EventDeduplicator
from shelfrank.features.encoder import CategoricalEncoding, Encoder, NumericalBlock, NumericalEncoding
from shelfrank.features.history_stats import OUTSIDE, HistoryEvent, HistoryPlan, key_plans
from shelfrank.features.history_table import HistoryTable
from shelfrank.features.ids import Ids
from shelfrank.features.levels import CATEGORY, ProductLevels
from shelfrank.features.page_features import computed_features, numerical_columns
from shelfrank.features.recent_events import RecentEvents
from shelfrank.features.request import Event, Page, PageRequest
from shelfrank.features.request_check import RequestCheck, request_features
from shelfrank.features.spelling import spell_events, spell_page
from shelfrank.features.textual import ProductTexts
from shelfrank.features.understanding import UNDERSTANDING, QueryReading, QueryUnderstanding
from shelfrank.logs.ubi.live import NO_ORDINAL, NO_PRODUCT, NO_VISITOR, UNREADABLE
from shelfrank.text.scores import SEMANTIC_SCORE, cosines_of_query

STORE_FILE = "store.json"
STORE_VERSION = 6
MAX_RECENT = 100_000
REMEMBERED_QUERIES = 2_000
REPEATED = "repeated"

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class _Candidates:
    """A page's products and visitor by their rows in the tables."""

    request: PageRequest
    product: Int64[np.ndarray, " rows"]
    query: int
    customer: int
    session: int
    codes: Mapping[str, Int64[np.ndarray, " rows"]]


class FeatureStore:
    """The features of any page at any time, equal to those that `prepare` computes from the log.

    Tables are mapped into memory, not loaded; the texts of the products are read when the store is opened, about 20
    seconds per million products. Several threads may compute pages and add events. Use `open` to create one.

    Args:
        path: The folder that `build_store` wrote.
        facts: Its `STORE_FILE`.
        max_recent: Number of recent events that are kept at most.

    Attributes:
        numerical_columns: The columns of a page's `numerical`.
        categorical_columns: The columns of a page's `categorical`.
        spelling: How the log spells ids and queries, and so pages and events do.
        until_us: Time of the log's last row; earlier events are in the tables and are not added again.
        requests: The declared features that requests give.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], max_recent: int) -> None:
        self._facts = facts
        self.spelling = Spelling.model_validate(facts["spelling"])
        self._read_numbers = {
            name: GivenNumbers(name, NumberSpelling(tuple(read["null_words"])), read["log1p"])
            for name, read in facts["numbers"].items()
        }
        config = PrepareConfig.model_validate(facts["config"])
        self._plan = HistoryPlan.from_json(facts["history"])
        self._computed_features = computed_features(self._plan, config)
        self._products, self._queries, self._customers = (
            Ids(path / name) for name in ("products", "queries", "customers")
        )
        self._sessions = Ids(path / "sessions") if (path / "sessions").is_dir() else None
        self._open_catalogue(path)
        self._open_encoder(path)
        self._open_history(path, config, max_recent)
        self._texts = _product_texts(path / "products" / "texts.parquet") if config.text else None
        self._read = None if self._texts is None else _remembering(self._texts.read)
        self._understanding = self._understand = None
        if config.understanding is not None:
            self._understanding = QueryUnderstanding.load(path / UNDERSTANDING)
            # Its reader is made here and not by the first page.
            self._understand = _remembering(self._understanding.reader.read)
        self._embeddings = None
        if facts["semantic"]:
            self._embeddings = [
                np.asarray(map_array(path / name / "embeddings.npy")) for name in ("queries", "products")
            ]

    @classmethod
    def open(cls, path: Path, max_recent: int = MAX_RECENT) -> "FeatureStore":
        """Opens a folder that `build_store` wrote.

        Args:
            path: The folder.
            max_recent: Number of recent events that are kept in memory at most, up to 1.5 KB each.

        Returns:
            The store.

        Raises:
            UserError: Where the folder holds no features, or those of another version.
        """
        try:
            facts = json.loads((path / STORE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} must hold online features, but {STORE_FILE} cannot be read: {error}") from error
        if facts.get("version") != STORE_VERSION:
            raise UserError(
                f"{path} must hold online features of version {STORE_VERSION}, but it is of {facts.get('version')}; "
                "export again"
            )
        return cls(path, facts, max_recent)

    @property
    def product_embeddings(self) -> Float[np.ndarray, "products d"] | None:
        """The semantic model's embedding of each product, at length 1; None where there is no semantic score."""
        return None if self._embeddings is None else self._embeddings[1]

    def query_embedding(self, query: str) -> Float[np.ndarray, " d"] | None:
        """The semantic model's embedding of a query, at length 1; None for a query that the log lacks."""
        row = self._queries.row(self.spelling.query(query))
        return None if self._embeddings is None or row < 0 else self._embeddings[0][row]

    def reading(self, query: str) -> QueryReading | None:
        """How a query is read, for people to see; None where the features have no query understanding."""
        return None if self._understand is None else self._understand(self.spelling.query(query)).reading(0)

    @property
    def n_recent(self) -> int:
        """Number of recent events that are kept."""
        return self._recent.n_events

    def page(self, request: PageRequest, query_vector: Float[np.ndarray, " d"] | None = None) -> Page:
        """Encodes a page.

        Whatever is unknown is cold: a product without history, a customer without features, a category of code 0.

        Args:
            request: The page.
            query_vector: The semantic model's embedding of the query, at length 1; a query of the log uses the log's.
                None leaves the semantic score of a new query missing.

        Returns:
            The encoded candidates in their order.

        Raises:
            UserError: Where positions or overrides are not one per candidate, or a value is not a number.
        """
        request = spell_page(request, self.spelling)
        candidates, hashes = self._candidates(request)
        n_rows = len(request.product_ids)
        numerical = np.empty((n_rows, len(self.numerical_columns)), np.float32)
        categorical = np.empty((n_rows, len(self.categorical_columns)), np.int32)
        cold, clipped = 0, dict[str, int]()
        if n_rows:
            computed = self._compute(candidates, query_vector, self._wanted)
            self._put_numbers(candidates, computed, numerical, clipped)
            self._product_table.put(candidates.product, numerical, categorical)
            self._customer_table.put(np.array([candidates.customer]), numerical, categorical)
            cold = self._put_given(request, numerical, categorical, clipped)
        search = request.search_id if request.search_id is not None else request.query
        return Page(
            numerical=numerical,
            categorical=categorical,
            product_idx=candidates.product.astype(np.int32),
            query_idx=candidates.query,
            tie_keys=tie_keys(np.broadcast_to(id_hashes([search]), n_rows), hashes),
            unknown={
                "products": int((candidates.product < 0).sum()),
                "customer": int(request.customer_id is not None and candidates.customer < 0),
                "query": int(candidates.query < 0),
                "categories": cold,
            },
            missing_features=self.requests.missing(request, candidates.product, candidates.customer),
            unknown_features=self.requests.unknown(request),
            numerical_columns=self.numerical_columns,
            categorical_columns=self.categorical_columns,
            clipped_features=clipped,
        )

    def computed(
        self, request: PageRequest, query_vector: Float[np.ndarray, " d"] | None = None
    ) -> dict[str, Num[np.ndarray, " _"]]:
        """The computed features of a page before encoding, equal to `prepare.pipeline.raw_features`.

        Args:
            request: The page, of at least one candidate.
            query_vector: See `page`.

        Returns:
            Each feature's values.
        """
        made = self._compute(self._candidates(spell_page(request, self.spelling))[0], query_vector, None)
        return {name: np.broadcast_to(values, len(request.product_ids)) for name, values in made.items()}

    def add_events(self, events: Iterable[Event]) -> None:
        """Adds events since the log was read; later pages see them as if the log had them.

        Memory is bounded: the oldest of too many events are dropped. Events for which `reasons` gives a reason are
        skipped.

        Args:
            events: In any order.
        """
        usable = [(event, product) for event, product, reason in self._judged(events) if reason is None]
        with self._lock:
            new = [(event, product) for event, product in usable if self._taken.is_new(event)]
            for event, _ in usable:
                self._told.forget(event)
            self._recent.add([self._history_event(event, product) for event, product in new])

    def knows(self, product_ids: Sequence[str]) -> Bool[np.ndarray, " products"]:
        """Which products are in the catalogue; events of others change no feature."""
        product = self.spelling.of_id("product_id")
        return self._products.find([product.of(each) or "" for each in product_ids])[0] >= 0

    def reasons(self, events: Sequence[Event]) -> list[str | None]:
        """Why each of some events changes no feature, after those that were added or announced before.

        Args:
            events: Events that are about to be added, in order.

        Returns:
            `UNREADABLE` without an action, `NO_PRODUCT`, `unknown product`, `before the log's end`, `NO_VISITOR`,
            `unknown action`, `NO_ORDINAL` for a position before the first one, or `repeated`; outside a results page
            any action is known. None where an event changes features.
        """
        judged = self._judged(events)
        here = EventDeduplicator(2 * MAX_KEYS * len(events))
        with self._lock:
            return [
                reason if reason or here.is_new(event, (self._taken, self._told)) else REPEATED
                for event, _, reason in judged
            ]

    def announce(self, events: Iterable[Event]) -> None:
        """Announces events that will be added, so that `reasons` counts them as known.

        Args:
            events: Events that are certain to be added.
        """
        usable = [event for event, _, reason in self._judged(events) if reason is None]
        with self._lock:
            for event in usable:
                # A page may have added it already.
                self._told.is_new(event, (self._taken,))

    def _judged(self, events: Iterable[Event]) -> list[tuple[Event, int, str | None]]:
        """Each event as the log spells it, with its product's row and why it changes no feature by itself."""
        spelled = spell_events(events, self.spelling)
        products = self._products.find([event.product_id for event in spelled])[0].tolist()
        return [
            (event, product, self._reason(event, product)) for event, product in zip(spelled, products, strict=True)
        ]

    def _reason(self, event: Event, product: int) -> str | None:
        if not event.action:
            return UNREADABLE
        if not event.product_id:
            return NO_PRODUCT
        if product < 0:
            return "unknown product"
        if event.ts_us <= self.until_us:
            return "before the log's end"
        if event.query is None and event.customer_id is None and event.session_id is None:
            return NO_VISITOR
        if event.query is not None and event.action != "impression" and event.action not in self._plan.tasks:
            return "unknown action"
        if event.action == "impression" and event.position is not None and event.position < 1:
            return NO_ORDINAL
        return None

    def _open_encoder(self, path: Path) -> None:
        encoder = Encoder.load(path / "encoder.json")
        self.numerical_columns: tuple[Column, ...] = tuple(numerical_columns(encoder, self._computed_features))
        self.categorical_columns: tuple[Column, ...] = tuple(each.column() for each in encoder.categorical)
        place = {column.name: index for index, column in enumerate(self.numerical_columns)}
        place |= {column.name: index for index, column in enumerate(self.categorical_columns)}
        homes = {name: home for home, names in self._facts["features"].items() for name in names}
        numerical: dict[str, list[NumericalEncoding]] = {"product": [], "customer": [], "row": []}
        categorical: dict[str, list[CategoricalEncoding]] = {"product": [], "customer": [], "row": []}
        for each in encoder.numerical:
            numerical[homes.get(each.name, "row")].append(each)
        for each in encoder.categorical:
            categorical[homes[each.name]].append(each)
        self._product_table, self._customer_table = (
            EntityTable(path / f"{home}s", numerical[home], categorical[home], place)
            for home in ("product", "customer")
        )
        # What no table has is computed or given with the page.
        self._in_rows = [each.name for each in numerical["row"] if homes.get(each.name) == "row"]
        self._block = NumericalBlock(numerical["row"])
        self._block_names = [each.name for each in numerical["row"]]
        self._block_columns = np.array(
            [place[each.name] + i for each in numerical["row"] for i in range(2 if each.flags_missing else 1)], np.intp
        )
        self._wanted = frozenset(self._block_names)
        self._numbers = {
            each.name: (each, place[each.name]) for home in ("product", "customer") for each in numerical[home]
        }
        self._categories = {
            each.name: (GivenCategories(each), place[each.name]) for some in categorical.values() for each in some
        }
        self._home = homes
        self.requests = RequestCheck(request_features(self._facts, encoder), homes, self._missing_reader())
        self._row_categories = [each.name for each in categorical["row"]]

    def _open_history(self, path: Path, config: PrepareConfig, max_recent: int) -> None:
        self._times = np.asarray(map_array(path / "times.npy"))
        self.until_us = int(self._times[-1]) if len(self._times) else 0
        stats = (stat for each in self._computed_features for stat in each.stats)
        plans = key_plans(stats, config.history.outcome_delay_s)
        assert list(plans) == self._facts["keys"], "the store must hold the keys that its config needs"
        self._history = {
            key: HistoryTable.open(path / "past" / str(folder), plan, len(self._times))
            for folder, (key, plan) in enumerate(plans.items())
        }
        self._lock = threading.Lock()
        self._recent = RecentEvents(plans, max_recent)
        self._taken, self._told = EventDeduplicator(MAX_KEYS * max_recent), EventDeduplicator(MAX_KEYS * max_recent)

    def _open_catalogue(self, path: Path) -> None:
        prices, codes = path / "products" / "prices.npy", path / "products" / "codes.npy"
        self._prices = np.asarray(map_array(prices)) if prices.is_file() else None
        self._codes = np.asarray(map_array(codes)) if codes.is_file() else None
        self._code_of: dict[str, dict[str | None, int]] = {name: {} for name in self._plan.affinity}
        given = self._facts["categories"]
        self._levels = None
        if self._plan.levels:
            spelling = CategorySpelling(**_plain(given[CATEGORY])) if self._plan.by_category else None
            read = {name: self._read_numbers[name].of for name in self._plan.levels}
            self._levels = ProductLevels(path / "products" / "levels", self._plan.levels, spelling, read)
        self._affinity_spelling = {name: CategorySpelling(**_plain(given[name])) for name in self._code_of}
        if self._codes is not None:
            for row in pq.read_table(path / "products" / "code_values.parquet").to_pylist():
                name = row["feature"]
                self._code_of[name].setdefault(self._affinity_spelling[name].of(row["value"]), row["code"])

    def _candidates(self, request: PageRequest) -> tuple[_Candidates, np.ndarray]:
        n_rows = len(request.product_ids)
        for name, values in (("positions", request.positions), ("products", request.products or None)):
            if values is not None and len(values) != n_rows:
                raise UserError(
                    f"{name} must be one per candidate, but there are {len(values)} for {n_rows} candidates"
                )
        if request.positions is not None and min(request.positions, default=1) < 1:
            raise UserError(f"positions must begin at 1, but one is {min(request.positions)}")
        product, hashes = self._products.find(request.product_ids)
        candidates = _Candidates(
            request=request,
            product=product,
            query=self._queries.row(request.query),
            customer=self._customers.row(request.customer_id),
            session=self._sessions.row(request.session_id) if self._sessions is not None else -1,
            codes=self._candidate_codes(request, product),
        )
        return candidates, hashes

    def _candidate_codes(
        self, request: PageRequest, product: Int64[np.ndarray, " rows"]
    ) -> dict[str, Int64[np.ndarray, " rows"]]:
        if self._codes is None:
            return {}
        table = self._codes[product].astype(np.int64)
        codes = {name: table[:, i] for i, name in enumerate(self._plan.affinity)}
        for row, given in enumerate(request.products):
            for name in codes.keys() & given.keys():
                codes[name][row] = self._code_of[name].get(self._affinity_spelling[name].of(given[name]), -1)
        return codes

    def _compute(
        self, candidates: _Candidates, query_vector: Float[np.ndarray, " d"] | None, wanted: frozenset[str] | None
    ) -> dict[str, Num[np.ndarray, " _"]]:
        """The computed features of these names, one value where all rows share it; None computes all."""
        columns = self._columns(candidates)
        computed: dict[str, Num[np.ndarray, " _"]] = {
            each.feature.name: each.compute(columns)
            for each in self._computed_features
            if wanted is None or each.feature.name in wanted
        }
        if self._texts is not None:
            values = self._text_values(candidates)
            computed |= {feature.name: values[:, i] for i, feature in enumerate(self._texts.features)}
        if self._understanding is not None:
            values = self._understood(self._understanding, candidates)
            computed |= {feature.name: values[:, i] for i, feature in enumerate(self._understanding.features)}
        if self._embeddings is not None:
            computed[SEMANTIC_SCORE] = self._cosines(candidates, query_vector)
        return computed

    def _columns(self, candidates: _Candidates) -> dict[str, Num[np.ndarray, " _"]]:
        """The columns that formulas read: of the rows and their history, one value where all rows share it."""
        request, n_rows = candidates.request, len(candidates.product)
        columns: dict[str, Num[np.ndarray, " _"]] = {
            "ts_us": np.full(n_rows, request.ts_us, np.int64),
            "position": np.arange(1, n_rows + 1)
            if request.positions is None
            else np.array(request.positions, np.int64),
            "search_idx": np.zeros(n_rows, np.int64),
        }
        price = self._price(candidates)
        if price is not None:
            columns[PRICE] = price
        if self._levels is not None:
            columns |= self._levels.of_page(candidates.product, request.products)
        ranks: dict[int, int] = {}
        with self._lock:
            for key, table in self._history.items():
                columns |= self._statistics(candidates, key, table, ranks)
        return columns

    def _statistics(
        self, candidates: _Candidates, key: str, table: HistoryTable, ranks: dict[int, int]
    ) -> dict[str, Num[np.ndarray, " _"]]:
        request = candidates.request
        side, _, feature = key.partition("|")
        alone = key in ("query", "customer", "session")
        own = candidates.codes[feature] if feature else candidates.product
        if key == "product":
            name, groups = None, own
        else:
            side = side.removesuffix("_product")
            name = {"query": request.query, "customer": request.customer_id, "session": request.session_id}[side]
            idx = {"query": candidates.query, "customer": candidates.customer, "session": candidates.session}[side]
            groups = table.group(idx) if alone else table.groups(own, idx)
        recent = self._recent.knows(side, name)
        if not recent and groups.max() < 0:
            return table.no_history
        for offset_us in table.plan.offsets_us:
            if offset_us not in ranks:
                ranks[offset_us] = int(np.searchsorted(self._times, request.ts_us - offset_us))
        sums, latest_us = table.before(groups, [ranks[offset_us] for offset_us in table.plan.offsets_us])
        if recent:
            self._recent.add_to(key, request.ts_us, name, [0] if alone else own.tolist(), sums, latest_us)
        return table.statistics(sums, latest_us)

    def _price(self, candidates: _Candidates) -> Float64[np.ndarray, " rows"] | None:
        if not self._plan.has_price:
            return None
        if self._prices is None:
            return np.broadcast_to(
                self._read_numbers[PRICE].column(self._given(candidates.request, PRICE)), len(candidates.product)
            )
        prices = self._prices[candidates.product]
        for row, given in enumerate(candidates.request.products):
            if PRICE in given:
                prices[row] = self._read_numbers[PRICE].of(given[PRICE])
        return prices

    def _text_values(self, candidates: _Candidates) -> Float32[np.ndarray, "rows n"]:
        assert self._read is not None
        query = self._read(candidates.request.query)
        known = candidates.product >= 0
        products = np.where(known, candidates.product, 0).astype(np.int32)
        values = query.compute(np.zeros(len(products), np.int32), products)
        if not known.all():
            # Of a product without words only the query's own features are not 0.
            of_query = [feature.side is Side.QUERY for feature in query.features]
            values[np.ix_(~known, ~np.array(of_query))] = 0.0
        return values

    def _understood(self, understanding: QueryUnderstanding, candidates: _Candidates) -> Float32[np.ndarray, "rows n"]:
        assert self._understand is not None
        product = candidates.product
        # The place after the last product stands for products that the catalogue lacks.
        places = np.where(product >= 0, product, len(understanding.products)).astype(np.int32)
        times_us = np.full(len(product), candidates.request.ts_us, np.int64)
        query = self._understand(candidates.request.query)
        return understanding.compute(query, np.zeros(len(product), np.int32), places, times_us)

    def _cosines(
        self, candidates: _Candidates, query_vector: Float[np.ndarray, " d"] | None
    ) -> Float32[np.ndarray, " rows"]:
        assert self._embeddings is not None
        queries, products = self._embeddings
        cosines = np.full(len(candidates.product), np.nan, np.float32)
        if candidates.query >= 0:
            query_vector = queries[candidates.query]
        if query_vector is not None:
            known = candidates.product >= 0
            # Numerics: a new query's vector as the table of embeddings would keep it.
            cosines[known] = cosines_of_query(query_vector.astype(np.float16), products[candidates.product[known]])
        return cosines

    def _put_numbers(
        self,
        candidates: _Candidates,
        computed: Mapping[str, Num[np.ndarray, " _"]],
        numerical: Float32[np.ndarray, "rows n_num"],
        clipped: dict[str, int],
    ) -> None:
        given = {name: self._read_numbers[name].column(self._given(candidates.request, name)) for name in self._in_rows}
        raw = np.empty((len(self._block_names), len(numerical)), np.float64)
        for place, name in enumerate(self._block_names):
            raw[place] = given[name] if name in given else computed[name]
        if len(raw):
            numerical[:, self._block_columns] = self._block.transform(raw, clipped)

    def _put_given(
        self,
        request: PageRequest,
        numerical: Float32[np.ndarray, "rows n_num"],
        categorical: Int32[np.ndarray, "rows n_cat"],
        clipped: dict[str, int],
    ) -> int:
        """Sets what is given with the page, and counts clipped numbers; the number of categories without a code."""
        cold = 0
        for name in self._row_categories:
            categories, place = self._categories[name]
            found = [categories.find(value) for value in self._given(request, name)]
            categorical[:, place] = [code for code, _ in found]
            cold += sum(is_cold for _, is_cold in found)
        replaced = [(slice(None), request.customer, "customer")]
        replaced += [(slice(row, row + 1), given, "product") for row, given in enumerate(request.products)]
        for rows, given, home in replaced:
            for name, value in given.items():
                if self._home.get(name) != home:
                    continue
                if name in self._numbers:
                    encoding, place = self._numbers[name]
                    raw = self._read_numbers[name].column([value])
                    encoded = encoding.transform(raw)[0]
                    numerical[rows, place : place + len(encoded)] = encoded
                    if encoding.is_clipped(raw)[0]:
                        clipped[name] = clipped.get(name, 0) + len(numerical[rows])
                elif name in self._categories:
                    categories, place = self._categories[name]
                    categorical[rows, place], is_cold = categories.find(value)
                    cold += is_cold
        return cold

    def _missing_reader(self) -> Callable[[str, Any], bool]:
        """A function that says whether a given value of a declared feature is read as missing."""
        numbers, categories, spellings = self._read_numbers, self._categories, self._affinity_spelling

        # No method of the store, which would be in a cycle with it; see `_remembering`.
        def is_missing(name: str, value: Any) -> bool:
            if name in numbers:
                return math.isnan(numbers[name].of(value))
            if name in categories:
                return categories[name][0].is_missing(value)
            return spellings[name].of(value) is None

        return is_missing

    def _given(self, request: PageRequest, name: str) -> list[Any]:
        """A feature's value in each row, or one for all: the row's own, the page's or the customer's."""
        page = request.context.get(name, request.customer.get(name))
        if not any(name in given for given in request.products):
            return [page]
        return [given.get(name, page) for given in request.products]

    def _history_event(self, event: Event, product: int) -> HistoryEvent:
        codes = [] if self._codes is None else self._codes[product].tolist()
        return HistoryEvent(
            ts_us=event.ts_us,
            kind=OUTSIDE if event.query is None else event.action,
            product_idx=product,
            codes=dict(zip(self._plan.affinity if codes else (), codes, strict=True)),
            query=event.query,
            customer_id=event.customer_id,
            session_id=event.session_id,
            position=event.position,
            price=event.price if self._prices is None else float(self._prices[product]),
            levels={} if self._levels is None else self._levels.of_event(product),
        )


def _plain(spelling: Mapping[str, Any]) -> dict[str, Any]:
    words = spelling.get("null_words")
    return {**spelling, "null_words": None if words is None else tuple(words)}


def _product_texts(file: Path) -> ProductTexts:
    table = pq.read_table(file)
    attributes = {
        name.removeprefix("attribute."): table[name].to_pylist()
        for name in table.column_names
        if name.startswith("attribute.")
    }
    return ProductTexts(table["title"].to_pylist(), table["document"].to_pylist(), attributes)


def _remembering(read_queries: Callable[[Sequence[str]], _Read]) -> Callable[[str], _Read]:
    # No method of the store: a cache of one would be in a cycle with it, and a service has the collector pass over what
    # it serves, so that an old store would stay in memory.
    @lru_cache(REMEMBERED_QUERIES)
    def read(query: str) -> _Read:
        return read_queries([query])

    return read
