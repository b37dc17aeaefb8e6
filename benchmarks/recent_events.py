"""What matches with a visitor's last events and queries add to today's features of history.

    python benchmarks/recent_events.py features LOG PREPARED recent.npz
    python benchmarks/recent_events.py gains PREPARED recent.npz scores --seeds 0 1 2

`features` computes, for each row of the training and validation splits, what the candidate has in common with the last
50 products that the visitor clicked, carted or purchased and with its last 20 queries, all strictly before the search.
A visitor is a customer, or the session of an anonymous one. The groups:

- attributes: shares of these products with the candidate's attribute or price band, and of the product itself; all,
  decayed by rank and by age, of the session, carts and purchases alone; and within the category.
- lifts: the same choices against those expected from what the last 20 pages showed.
- words: words of the candidate that the touched products and the earlier queries had; earlier queries like this one and
  what was clicked, or passed over, then.
- vectors: cosine of the candidate's text vector with the mean and the nearest of the touched products and with queries.
- ages: age of the last match; the candidate's price against the touched products'.

`gains` trains LambdaMART by its default settings, but one model of graded labels and a fixed number of trees, with
today's columns alone and with each group beside them. It judges each task on the validation split: by redrawn and
unbiased MRR@10 of a simulated shop, by logged MRR@10 of another log. A search's figure is its mean over the training
seeds, differences are paired by search, relative to today's MRR, and intervals are over searches.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from shelfrank.config import LambdaMARTConfig
from shelfrank.data.prepared import PreparedData, Split, search_of_rows, tie_order
from shelfrank.evaluate.truth import EXPECTED_FIGURES, Truth
from shelfrank.metrics import reciprocal_rank
from shelfrank.metrics.expected import expected_reciprocal_rank
from shelfrank.rankers.trees import feature_matrix

K = 10
MAX_EVENTS = 50
MAX_QUERIES = 20
HALF_RANK = 5
HALF_DAYS = 3.0
N_BANDS = 6
DAY_US = 86_400_000_000
NEVER_DAYS = 1000.0
PRIOR = 1.0
WEIGHTS = ("all", "latest", "recent", "session", "carts", "purchases")
SPLITS = ("train", "valid")
N_RESAMPLES = 2000


@dataclass(frozen=True)
class Events:
    """Touched or shown products of all visitors, ordered by visitor and time.

    Attributes:
        key: Visitor and time in one number that sorts by both.
        ts_us: When.
        product: Row of the product.
        depth: 0 is shown, 1 click or an event outside the pages, 2 cart, 3 purchase.
        session: Session, by number.
        search: Row of the search among all; -1 outside.
        attention: What the position is worth, 1 / log2(1 + position).
    """

    key: np.ndarray
    ts_us: np.ndarray
    product: np.ndarray
    depth: np.ndarray
    session: np.ndarray
    search: np.ndarray
    attention: np.ndarray

    def chosen(self, which: np.ndarray | slice) -> "Events":
        """Some of them."""
        return Events(*(each[which] for each in vars(self).values()))


@dataclass(frozen=True)
class Catalogue:
    """What is known of products and queries.

    Attributes:
        names: The attributes, the product itself the last one.
        codes: Each product's attributes; -1 is unknown.
        log_price: ln of the price; NaN where it is unknown.
        product_words: TF-IDF of each product's document, rows of length 1.
        query_words: The same of each query.
        product_vectors: Text vectors of length 1.
        query_vectors: The same of each query.
    """

    names: list[str]
    codes: np.ndarray
    log_price: np.ndarray
    product_words: csr_matrix
    query_words: csr_matrix
    product_vectors: np.ndarray
    query_vectors: np.ndarray


@dataclass(frozen=True)
class Searches:
    """The searches of both splits, one after another.

    Attributes:
        ts_us: When.
        visitor: The visitor, by number.
        session: The session, by number.
        query: Row of the query.
        offsets: Rows of each search.
        product: The product of each row.
    """

    ts_us: np.ndarray
    visitor: np.ndarray
    session: np.ndarray
    query: np.ndarray
    offsets: np.ndarray
    product: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    features = commands.add_parser("features")
    features.add_argument("log", type=Path)
    features.add_argument("prepared", type=Path)
    features.add_argument("out", type=Path)
    features.add_argument("--last", type=int, help="training searches, the latest; left out, all")
    features.add_argument("--vectors", default="svd", help="`svd` of the words, or a model such as `packaged`")
    gains = commands.add_parser("gains")
    gains.add_argument("prepared", type=Path)
    gains.add_argument("features", type=Path)
    gains.add_argument("scores", type=Path, help="folder of the scores; those that are finished are not made again")
    gains.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the training")
    gains.add_argument("--groups", nargs="+", help="to add, `+` between those that are added together; left out, each")
    gains.add_argument("--trees", type=int, default=150)
    gains.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.command == "features":
        write_features(arguments)
    else:
        tell_gains(PreparedData.open(arguments.prepared), arguments)


def write_features(arguments: argparse.Namespace) -> None:
    """Computes every group and writes it with its names."""
    prepared = PreparedData.open(arguments.prepared)
    searches, shown, outside = read_past(arguments.log, prepared)
    catalogue = read_catalogue(arguments.log, prepared, arguments.vectors)
    n_train = prepared.split("train").n_searches
    first = 0 if arguments.last is None else max(n_train - arguments.last, 0)
    parts: dict[str, list[np.ndarray]] = {}
    names: dict[str, list[str]] = {}
    for groups in features_of_searches(searches, shown, outside, catalogue, first):
        for group, columns in groups.items():
            names[group] = list(columns)
            parts.setdefault(group, []).append(np.column_stack(list(columns.values())).astype(np.float32))
    arrays = {group: np.concatenate(pages) for group, pages in parts.items()}
    named = {"first": first, **arrays, **{f"{group}.names": np.array(names[group]) for group in names}}
    np.savez(arguments.out, **named)  # pyright: ignore[reportArgumentType]
    for group, values in arrays.items():
        print(f"{group}: {values.shape[1]} columns, {(values != 0).mean():.0%} not 0")


def read_past(log: Path, prepared: PreparedData) -> tuple[Searches, Events, Events]:
    """The searches of both splits, what they showed, and the events outside them."""
    splits = [prepared.split(name) for name in SPLITS]
    table = pa.concat_tables([prepared.searches(name) for name in SPLITS])
    file = pq.read_table(log / "impressions", columns=["search_id", "session_id"])
    first = file.group_by("search_id").aggregate([("session_id", "min")])
    session_of = dict(zip(first["search_id"].to_pylist(), first["session_id_min"].to_pylist(), strict=True))
    numbers: dict[object, int] = {}

    def number(customer: object, session: object) -> int:
        return numbers.setdefault(("s", session) if customer is None else ("c", customer), len(numbers))

    sessions = [session_of[search] for search in table["search_id"].to_pylist()]
    visitor = np.array([number(*each) for each in zip(table["customer_id"].to_pylist(), sessions, strict=True)])
    sizes = np.concatenate([np.diff(split.search_offsets) for split in splits])
    session = np.array([number(None, each) for each in sessions])
    searches = Searches(
        table["timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(),
        visitor,
        session,
        np.concatenate([split.query_idx[split.search_offsets[:-1]] for split in splits]),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate([split.product_idx for split in splits]).astype(np.int64),
    )
    search = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.concatenate([split.labels for split in splits])
    depths = np.array([("click", "add_to_cart", "purchase").index(task) + 1 for task in splits[0].tasks])
    position = np.concatenate([split.position for split in splits])
    shown = Events(
        sort_key(searches, visitor[search], searches.ts_us[search]),
        searches.ts_us[search],
        searches.product,
        ((labels == 1) * depths).max(axis=1),
        session[search],
        search,
        1 / np.log2(1 + np.maximum(position, 1)),
    )
    outside = shown.chosen(slice(0))
    if (log / "events").is_dir():
        of_product = {each: i for i, each in enumerate(prepared.products()["product_id"].to_pylist())}
        events = pq.read_table(log / "events", columns=["timestamp", "customer_id", "session_id", "product_id"])
        ts_us = events["timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
        whose = events["customer_id"].to_pylist(), events["session_id"].to_pylist()
        by = np.array([number(*each) for each in zip(*whose, strict=True)])
        outside = Events(
            sort_key(searches, by, ts_us),
            ts_us,
            np.array([of_product.get(each, -1) for each in events["product_id"].to_pylist()]),
            np.ones(len(by), np.int64),
            np.array([number(None, each) for each in whose[1]]),
            np.full(len(by), -1),
            np.ones(len(by)),
        )
        outside = outside.chosen((outside.product >= 0) & (ts_us < searches.ts_us.max()))
    return searches, shown.chosen(np.argsort(shown.key, kind="stable")), outside


def sort_key(searches: Searches, visitor: np.ndarray, ts_us: np.ndarray) -> np.ndarray:
    """Visitor and time in one number."""
    first = int(searches.ts_us.min()) - 400 * DAY_US
    return visitor.astype(np.int64) * (800 * DAY_US) + (ts_us - first)


def read_catalogue(log: Path, prepared: PreparedData, vectors: str) -> Catalogue:
    """Codes, prices, words and vectors of products and queries."""
    texts = prepared.products()
    table = pa.table({"product_id": texts["product_id"], "row": pa.array(np.arange(texts.num_rows))})
    declared = [column.name for column in prepared.split("train").categorical_columns if column.side.value == "product"]
    file = pq.read_table(log / "products")
    declared = [name for name in declared if name in file.column_names]
    columns = [*declared, *(name for name in ("price",) if name in file.column_names)]
    table = table.join(file.select(["product_id", *columns]), "product_id", join_type="left outer").sort_by("row")
    codes = [pc.fill_null(table[name].combine_chunks().dictionary_encode().indices, -1).to_numpy() for name in declared]
    price = np.full(table.num_rows, np.nan)
    if "price" in columns:
        price = table["price"].to_numpy().astype(np.float64)
    log_price = np.log(np.where(price > 0, price, np.nan))
    category = codes[declared.index("category")] if "category" in declared else np.zeros(len(price), np.int64)
    codes += [price_bands(log_price, category), np.arange(len(price))]
    documents, queries = texts["document"].to_pylist(), prepared.queries()["query"].to_pylist()
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", binary=True, dtype=np.float32)  # pyright: ignore[reportArgumentType]
    product_words = words.fit_transform(documents)
    query_words = words.transform([each or "" for each in queries])
    if vectors == "svd":
        svd = TruncatedSVD(64, random_state=0)
        product_vectors, query_vectors = svd.fit_transform(product_words), svd.transform(query_words)
    else:
        from shelfrank.text.encoder import load_encoder

        encoder = load_encoder(vectors)
        product_vectors, query_vectors = (
            encoder.encode([each or "" for each in some]).embeddings for some in (documents, queries)
        )
    return Catalogue(
        [*declared, "band", "product"],
        np.column_stack(codes).astype(np.int64),
        log_price,
        csr_matrix(product_words),
        csr_matrix(query_words),
        unit(product_vectors),
        unit(query_vectors),
    )


def price_bands(log_price: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Each product's band among the prices of its category; -1 where the price is unknown."""
    bands = np.full(len(log_price), -1)
    for each in np.unique(category):
        known = np.flatnonzero((category == each) & np.isfinite(log_price))
        bands[known] = np.argsort(np.argsort(log_price[known])) * N_BANDS // max(len(known), 1)
    return bands


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, or 0."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def features_of_searches(
    searches: Searches, shown: Events, outside: Events, catalogue: Catalogue, first: int
) -> Iterator[dict[str, dict[str, np.ndarray]]]:
    """The features of each search from one on, by group and name."""
    joined = Events(*(np.concatenate(pair) for pair in zip(vars(shown).values(), vars(outside).values(), strict=True)))
    touched = joined.chosen(joined.depth > 0)
    touched = touched.chosen(np.argsort(touched.key, kind="stable"))
    order = np.lexsort((searches.ts_us, searches.visitor))
    keys = sort_key(searches, searches.visitor, searches.ts_us)
    first_keys = sort_key(searches, searches.visitor, np.full(len(keys), searches.ts_us.min() - 400 * DAY_US))
    of_touched = [np.searchsorted(touched.key, each) for each in (first_keys, keys)]
    of_shown = [np.searchsorted(shown.key, each) for each in (first_keys, keys)]
    of_queries = [np.searchsorted(keys[order], each) for each in (first_keys, keys)]
    for i in range(first, len(keys)):
        events = touched.chosen(slice(max(of_touched[0][i], of_touched[1][i] - MAX_EVENTS), of_touched[1][i]))
        earlier = order[max(of_queries[0][i], of_queries[1][i] - MAX_QUERIES) : of_queries[1][i]]
        pages = shown.chosen(slice(of_shown[0][i], of_shown[1][i]))
        pages = pages.chosen(np.isin(pages.search, earlier))
        page = Page(searches, catalogue, i, events.chosen(slice(None, None, -1)), earlier[::-1], pages)
        yield {
            "attributes": page.attributes(),
            "lifts": page.lifts(),
            "words": page.words(),
            "vectors": page.vectors(),
            "ages": page.ages(),
        }


class Page:
    """One search with what its visitor did before: the latest first."""

    def __init__(
        self, searches: Searches, catalogue: Catalogue, i: int, events: Events, earlier: np.ndarray, shown: Events
    ) -> None:
        self.catalogue, self.events, self.shown = catalogue, events, shown
        self.products = searches.product[searches.offsets[i] : searches.offsets[i + 1]]
        self.query = searches.query[i]
        self.ts_us, self.session = searches.ts_us[i], searches.session[i]
        self.earlier = searches.query[earlier]
        self.earlier_search = earlier
        self.earlier_days = (self.ts_us - searches.ts_us[earlier]) / DAY_US
        self.earlier_session = searches.session[earlier] == self.session
        self.days = (self.ts_us - events.ts_us) / DAY_US
        self.weights = self._weights(np.arange(len(events.product)), self.days, events)
        own = catalogue.codes[self.products]
        theirs = catalogue.codes[events.product]
        self.match = (own[:, None] == theirs[None]) & (own[:, None] >= 0)

    def _weights(self, rank: np.ndarray, days: np.ndarray, events: Events) -> np.ndarray:
        latest = 0.5 ** (rank / HALF_RANK)
        return np.array(
            [
                np.ones(len(rank)),
                latest,
                0.5 ** (days / HALF_DAYS),
                events.session == self.session,
                events.depth >= 2,
                events.depth >= 3,
            ],
            np.float64,
        )

    def attributes(self) -> dict[str, np.ndarray]:
        """Shares of the touched products that match, and the same within the category."""
        names, columns = self.catalogue.names, {}
        total = self.weights.sum(axis=1) + PRIOR
        shares = weighted(self.match, self.weights) / total
        for a, name in enumerate(names):
            for w, weight in enumerate(WEIGHTS):
                columns[f"{name}_{weight}"] = shares[:, a, w]
        if "category" in names:
            same = self.match[:, :, names.index("category")]
            inside = same @ self.weights[:2].T + PRIOR
            within = weighted(self.match & same[:, :, None], self.weights[:2]) / inside[:, None]
            for a, name in enumerate(names[:-1]):
                if name != "category":
                    for w, weight in enumerate(WEIGHTS[:2]):
                        columns[f"{name}_in_category_{weight}"] = within[:, a, w]
        columns["n_events"] = np.full(len(self.products), total[0])
        return columns

    def lifts(self) -> dict[str, np.ndarray]:
        """Logarithms of chosen over expected, in the last pages."""
        columns = {}
        own = self.catalogue.codes[self.products]
        match = (own[:, None] == self.catalogue.codes[self.shown.product][None]) & (own[:, None] >= 0)
        days = (self.ts_us - self.shown.ts_us) / DAY_US
        rank = np.zeros(len(days))
        if len(self.earlier):
            rank = (self.shown.search[:, None] == self.earlier_search[None]).argmax(axis=1) * 2.0
        weights = self._weights(rank, days, self.shown)[:4]
        chosen = np.stack([weights * (self.shown.depth >= depth) for depth in (1, 2)])
        attention = weights * self.shown.attention
        rate = (chosen.sum(axis=2) + np.array([[0.1], [0.02]])) / (attention.sum(axis=1) + 1)
        n_weights = len(weights)
        sums = weighted(match, np.concatenate([*chosen, attention]))
        n_chosen = sums[:, :, : 2 * n_weights].reshape(*sums.shape[:2], 2, n_weights)
        expected = sums[:, :, None, 2 * n_weights :] * rate
        lifts = np.log((n_chosen + 2 * rate) / (expected + 2 * rate))
        for a, name in enumerate(self.catalogue.names):
            for w, weight in enumerate(WEIGHTS[:4]):
                columns[f"{name}_{weight}_lift"] = lifts[:, a, 0, w]
            columns[f"{name}_latest_carts_lift"] = lifts[:, a, 1, 1]
        return columns

    def words(self) -> dict[str, np.ndarray]:
        """Shared words, and what earlier queries like this one led to."""
        n, columns, words = len(self.products), {}, self.catalogue.product_words[self.products]
        overlap = dense(words @ self.catalogue.product_words[self.events.product].T)
        columns |= of_similarity("touched_words", overlap, self.weights)
        query, earlier = self.catalogue.query_words[self.query], self.catalogue.query_words[self.earlier]
        new = earlier.copy()
        new.data = new.data * ~np.isin(new.indices, query.indices)
        rank = 0.5 ** (np.arange(len(self.earlier)) / HALF_RANK)
        weights = np.array([np.ones(len(rank)), rank, self.earlier_session], np.float64)
        for name, vectors in (("query_words", earlier), ("other_query_words", new)):
            found = dense(words @ vectors.T)
            columns[f"{name}_max"] = largest(found)
            for w, weight in enumerate(("all", "latest", "session")):
                columns[f"{name}_{weight}"] = found @ weights[w] / (weights[w].sum() + PRIOR)
        alike = dense(query @ earlier.T)[0]
        same = self.earlier == self.query
        columns["query_alike"] = np.full(n, alike.max(initial=0.0))
        columns["query_same"] = np.full(n, same.sum())
        columns["query_alike_latest"] = np.full(n, alike[:1].sum())
        # What was chosen and passed over when a query like this one was asked.
        likeness = np.zeros(len(self.shown.search))
        likeness_of_events = np.zeros(len(self.events.search))
        if len(alike):
            for likely, searches in ((likeness, self.shown.search), (likeness_of_events, self.events.search)):
                where = searches[:, None] == self.earlier_search[None]
                likely[:] = np.where(where.any(axis=1), alike[where.argmax(axis=1)], 0)
        seen = self.products[:, None] == self.shown.product[None]
        columns["clicked_for_alike"] = seen @ (likeness * (self.shown.depth > 0))
        columns["passed_for_alike"] = seen @ (likeness * (self.shown.depth == 0))
        columns["attention_for_alike"] = seen @ (likeness * self.shown.attention)
        total = likeness_of_events.sum() + PRIOR
        for a, name in enumerate(self.catalogue.names[:-1]):
            columns[f"{name}_for_alike"] = self.match[:, :, a] @ likeness_of_events / total
        columns["words_for_alike"] = overlap @ likeness_of_events / total
        columns["n_for_alike"] = np.full(n, total)
        return columns

    def vectors(self) -> dict[str, np.ndarray]:
        """Cosines with the touched products, with what was seen, and with earlier queries."""
        vectors = self.catalogue.product_vectors
        own = vectors[self.products]
        cosines = own @ vectors[self.events.product].T
        columns = of_similarity("touched", cosines, self.weights)
        for w, weight in enumerate(WEIGHTS):
            columns[f"mean_{weight}"] = own @ unit(self.weights[w] @ vectors[self.events.product])
        seen = own @ unit(self.shown.attention @ vectors[self.shown.product])
        columns["mean_seen"] = seen
        columns["mean_less_seen"] = columns["mean_all"] - seen
        asked = self.catalogue.query_vectors[self.earlier]
        rank = 0.5 ** (np.arange(len(asked)) / HALF_RANK)
        columns["queries_latest"] = own @ unit(rank @ asked)
        columns["queries_max"] = largest(own @ asked.T)
        columns["queries_session"] = own @ unit(self.earlier_session @ asked)
        now = self.catalogue.query_vectors[self.query] @ asked.T
        columns["query_alike"] = np.full(len(own), now.max(initial=0.0))
        # Attention over events: those alike the candidate count, by what was done with them.
        near = np.exp(8 * (cosines - 1))
        for w, weight in enumerate(("all", "latest", "recent", "session", "carts")):
            columns[f"near_{weight}"] = np.log1p(near @ self.weights[w])
        near_seen = np.exp(8 * (own @ vectors[self.shown.product].T - 1)) @ self.shown.attention
        columns["near_seen"] = np.log1p(near_seen)
        columns["near_lift"] = np.log((near @ self.weights[0] + 0.2) / (0.2 * near_seen + 0.2))
        return columns

    def ages(self) -> dict[str, np.ndarray]:
        """Days since the last match; prices against the touched products'."""
        n, columns = len(self.products), {}
        for a, name in enumerate(self.catalogue.names):
            days = np.where(self.match[:, :, a], self.days[None], NEVER_DAYS).min(axis=1, initial=NEVER_DAYS)
            columns[f"{name}_days"] = np.log1p(days)
        carts = np.where(self.match[:, :, -1] & (self.events.depth >= 2), self.days[None], NEVER_DAYS)
        columns["product_cart_days"] = np.log1p(carts.min(axis=1, initial=NEVER_DAYS))
        columns["event_days"] = np.full(n, np.log1p(self.days[:1].sum() if len(self.days) else NEVER_DAYS))
        columns["event_depth"] = np.full(n, self.events.depth[:1].sum())
        same = self.earlier_days[self.earlier == self.query]
        columns["query_days"] = np.full(n, np.log1p(same.min(initial=NEVER_DAYS)))
        columns["search_days"] = np.full(n, np.log1p(self.earlier_days.min(initial=NEVER_DAYS)))
        price, theirs = self.catalogue.log_price[self.products], self.catalogue.log_price[self.events.product]
        known = np.isfinite(theirs)
        theirs = np.where(known, theirs, 0)
        for w, weight in enumerate(WEIGHTS):
            weights = self.weights[w] * known
            mean = (weights @ theirs) / weights.sum() if weights.sum() > 0 else np.nan
            columns[f"price_less_{weight}"] = price - mean
        names = self.catalogue.names
        if "category" in names:
            same_category = self.match[:, :, names.index("category")] * known
            for w, weight in enumerate(WEIGHTS[:2]):
                weights = same_category * self.weights[w]
                total = weights.sum(axis=1)
                mean = weights @ theirs / np.where(total > 0, total, np.nan)
                columns[f"price_less_{weight}_in_category"] = price - mean
        columns["price_less_last"] = price - (theirs[0] if len(theirs) and known[0] else np.nan)
        return columns


def weighted(match: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each row and attribute, the sums of some weights over the matching products."""
    n, m, attributes = match.shape
    rows = match.transpose(0, 2, 1).reshape(n * attributes, m).astype(np.float32)
    return (rows @ weights.T.astype(np.float32)).reshape(n, attributes, len(weights)).astype(np.float64)


def dense(matrix: csr_matrix) -> np.ndarray:
    return np.asarray(matrix.toarray(), np.float64)


def largest(found: np.ndarray) -> np.ndarray:
    """The largest of each row; 0 of none."""
    return found.max(axis=1, initial=0.0)


def of_similarity(name: str, found: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The largest similarity, also of carts alone, and means."""
    columns = {f"{name}_max": largest(found), f"{name}_cart_max": largest(found * weights[4])}
    for w, weight in enumerate(WEIGHTS):
        columns[f"{name}_{weight}"] = found @ weights[w] / (weights[w].sum() + PRIOR)
    return columns


def tell_gains(prepared: PreparedData, arguments: argparse.Namespace) -> None:
    """Prints each group's gain on each task."""
    train, valid = prepared.split("train"), prepared.split("valid")
    data = np.load(arguments.features)
    train = train.run_of_searches(int(data["first"]), train.n_searches)
    groups = [name for name in data.files if name != "first" and not name.endswith(".names")]
    added = arguments.groups or [*groups, "+".join(groups)]
    events = data["attributes"][:, list(data["attributes.names"]).index("n_events")][train.n_rows :] - PRIOR
    many = events[valid.search_offsets[:-1]] >= 20
    truth = Truth.open(prepared, "valid")
    base: dict[tuple[str, str], np.ndarray] = {}
    arguments.scores.mkdir(parents=True, exist_ok=True)
    for group in ["", *added]:
        columns = np.concatenate(
            [np.empty((len(data[groups[0]]), 0), np.float32), *(data[g] for g in group.split("+") if g)], axis=1
        )
        found = figures(train, valid, columns, truth, group, arguments)
        if not group:
            base = found
            continue
        for (figure, task), values in found.items():
            told = [gain(values[:, each], base[figure, task][:, each]) for each in (slice(None), many)]
            print(f"{group}: {figure} {task} {told[0]}; 20 and more events {told[1]}", flush=True)


def figures(
    train: Split, valid: Split, columns: np.ndarray, truth: Truth | None, group: str, options: argparse.Namespace
) -> dict[tuple[str, str], np.ndarray]:
    """Totals and weights of each search by figure and task, the mean over the seeds."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    files = {seed: options.scores / f"{group or 'today'}-{seed}.npy" for seed in options.seeds}
    missing = [seed for seed, file in files.items() if not file.is_file()]
    for seed, scores in zip(missing, boosted_scores(train, valid, columns, missing, options), strict=True):
        np.save(files[seed], scores)
    for scores in map(np.load, files.values()):
        for index, task in enumerate(valid.tasks):
            if truth is None:
                labels = np.ascontiguousarray(valid.labels[:, index])
                ranks = reciprocal_rank(scores, labels, valid.search_offsets, valid.tie_keys, K)
                found.setdefault(("logged", task), []).append(np.stack([np.nan_to_num(ranks), ~np.isnan(ranks)]))
                continue
            for figure in EXPECTED_FIGURES:
                chances = truth.chances(figure, task)
                expected = expected_reciprocal_rank(scores, chances, valid.search_offsets, valid.tie_keys, K)
                found.setdefault((figure, task), []).append(np.stack(expected))
    return {key: np.mean(some, axis=0) for key, some in found.items()}


def boosted_scores(
    train: Split, valid: Split, columns: np.ndarray, seeds: list[int], options: argparse.Namespace
) -> Iterator[np.ndarray]:
    """Scores of the validation rows by each seed's model, with the default settings of LambdaMART otherwise."""
    if not seeds:
        return
    settings = LambdaMARTConfig()
    parameters = {
        "objective": "lambdarank",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.n_leaves,
        "min_data_in_leaf": settings.min_rows_per_leaf,
        "feature_fraction": settings.feature_share,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "lambda_l2": settings.l2,
        "max_bin": settings.n_bins,
        "max_cat_threshold": settings.max_split_codes,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
        "num_threads": options.threads,
    }
    of_task: dict[str, int] = {**settings.grades}
    grades = np.max([(train.labels[:, i] == 1) * of_task[task] for i, task in enumerate(train.tasks)], axis=0)
    search, order = search_of_rows(train), tie_order(train)
    has = np.bincount(search, grades, train.n_searches) > 0
    order = order[has[search[order]]]
    sizes = np.bincount(search[order], minlength=train.n_searches)
    # The new columns come first, so that the codes stay the last ones.
    n_numerical = columns.shape[1] + len(train.numerical_columns)
    learn = lgb.Dataset(
        np.hstack([columns[order], feature_matrix(train, order)]),
        grades[order],
        group=sizes[sizes > 0],
        params=parameters,
        categorical_feature=list(range(n_numerical, n_numerical + len(train.categorical_columns))),
    )
    check = np.hstack([columns[train.n_rows :], feature_matrix(valid)])
    for seed in seeds:
        booster = lgb.train({**parameters, "seed": seed}, learn, options.trees)
        yield np.asarray(booster.predict(check, num_threads=options.threads))


def gain(found: np.ndarray, base: np.ndarray) -> str:
    """The relative gain of expected MRR with its interval over searches."""
    rng = np.random.default_rng(0)
    n = found.shape[1]

    def relative(drawn: np.ndarray) -> float:
        mrr, base_mrr = (each[0, drawn].sum() / each[1, drawn].sum() for each in (found, base))
        return mrr / base_mrr - 1

    drawn = [relative(rng.integers(0, n, n)) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{relative(np.arange(n)):+.2%} ({low:+.2%} to {high:+.2%}) of {n:,} searches"


if __name__ == "__main__":
    main()
