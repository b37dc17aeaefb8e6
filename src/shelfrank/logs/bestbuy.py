"""Imports the ACM hackathon's Best Buy clicks: user, query and clicked product.

The data set has no results lists. Each search gets its clicked products and sampled products of the same category
that it did not click, in an arbitrary order.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend
from jaxtyping import UInt64

from shelfrank.core.errors import UserError
from shelfrank.core.hashing import mixed_bits
from shelfrank.core.schema import Feature, Kind, Schema, Side
from shelfrank.core.values import NULL_WORDS, CategorySpelling, IdSpelling
from shelfrank.logs.engine import Table, Value, count, keep, open_engine, rows_of
from shelfrank.logs.id_columns import spell_whole_numbers
from shelfrank.logs.raw_files import (
    column_names,
    file_beside,
    raw_files,
    read_raw,
    readable,
    reason_of,
    require_columns,
    sha256,
)
from shelfrank.logs.time_columns import is_whole_day, time_of
from shelfrank.logs.time_precision import SEARCHES, note_whole_days
from shelfrank.logs.times import EARLIEST, LATEST
from shelfrank.logs.writer import SearchLogWriter, log_is_current, write_rows, write_search_log

COLUMNS = ("user", "sku", "category", "query", "click_time", "query_time")
NAME_FILES = ("sku_name.tsv", "sku_name.tsv.gz")
N_NEGATIVES = 9
"""Sampled products per search, in addition to the clicked ones."""

FEATURES = (Feature(name="category", side=Side.PRODUCT, kind=Kind.CATEGORICAL),)
UNREADABLE = "clicks without a user, a product, a category, a query and a readable query_time"
EARLY = "clicks whose click_time is missing or before the query"
REPEATED = "clicks that repeat a product of their search"
NO_TITLE = "products without a title in sku_name.tsv"
NOTES = {
    "impressions": "only clicks are published: products without a click are sampled from the category",
    "position": "from a hash, and without meaning: the shown order is not published",
    "timestamp": "query_time, read as UTC",
    "search_id": "a hash of user, query and query_time, which together identify a search",
}

IDS = {"customer_id": (("clicks", "user"),), "product_id": (("clicks", "sku"), ("titles", "product_id"))}
"""By id column of the log, the tables and columns that hold it."""

_ID = IdSpelling(NULL_WORDS)


def import_bestbuy(path: Path, out: Path, n_negatives: int = N_NEGATIVES) -> bool:
    """Imports the hackathon's `train.csv` (or `train.csv.gz`) as a search log with sampled negatives.

    The sample needs no seed: the products of a category are ordered by a hash of the search and the product.
    Products get a title if `sku_name.tsv` (sku, tab, name) is in the same folder.

    Args:
        path: The file.
        out: The folder of the log.
        n_negatives: Number of negatives per search, or fewer if its category has fewer.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where a file is missing, empty, truncated, or of another format.
    """
    if n_negatives < 1:
        raise UserError(f"n_negatives must be 1 or more, but it is {n_negatives}; clicks alone cannot be ranked")
    require_columns(path, column_names(path), COLUMNS)
    names = file_beside(path, *NAME_FILES)
    inputs = {
        "source": "bestbuy",
        "file": sha256(path),
        "sku_name": sha256(names) if names else None,
        "n_negatives": n_negatives,
    }
    if log_is_current(out, inputs):
        return False
    titles = _read_names(names)
    with (
        write_search_log(out, Schema(name="bestbuy", features=FEATURES), inputs) as writer,
        open_engine() as engine,
    ):
        cells, named = _cells(engine, writer, path, titles)
        clicks = _clicks(engine, writer, path, cells)
        impressions = _impressions(engine, clicks, n_negatives)
        write_rows(writer, "impressions", engine, impressions.drop("n_sampled"))
        write_rows(writer, "products", engine, _products(engine, writer, clicks, named))
        write_rows(
            writer, "customers", engine, clicks.select(customer_id=clicks["user"]).distinct().order_by("customer_id")
        )
        writer.notes.update(NOTES)
        searches = impressions.filter(impressions["n_sampled"] < n_negatives).select("search_id").distinct()
        writer.notes["searches whose category has fewer products than the sample needs"] = count(engine, searches)
    return True


def _cells(engine: Backend, writer: SearchLogWriter, path: Path, titles: pa.Table) -> tuple[Table, Table]:
    """The cells of the clicks, and the titles, with their ids spelled."""
    raw = read_raw(engine, path, writer.notes)
    time = raw["query_time"].try_cast("timestamp('UTC', 6)")
    cells = raw.select(
        *(_ID.expression(raw[name]).name(name) for name in ("user", "sku")),
        category=CategorySpelling().expression(raw["category"]),
        query=raw["query"].nullif(""),
        timestamp=time.between(ibis.literal(EARLIEST), ibis.literal(LATEST)).ifelse(time, ibis.null(time.type())),
        clicked_at=raw["click_time"].try_cast("timestamp('UTC', 6)"),
        whole_day=is_whole_day(raw["query_time"], time_of(raw["query_time"], None), None),
        line=ibis.row_number(),
    )
    with readable(path):
        cells = keep(engine, "cells", cells)
    named = keep(engine, "titles", ibis.memtable(titles))
    tables = {"clicks": cells, "titles": named.mutate(product_id=_ID.expression(named["product_id"]))}
    tables = spell_whole_numbers(engine, writer, tables, IDS)
    return tables["clicks"], tables["titles"]


def _clicks(engine: Backend, writer: SearchLogWriter, path: Path, cells: Table) -> Table:
    """The usable clicks with their search."""
    known = [cells[name].notnull() for name in ("user", "sku", "category", "query", "timestamp")]
    late = (cells["clicked_at"] >= cells["timestamp"]).fill_null(False)
    fate: Value = ibis.cases((~ibis.and_(*known), UNREADABLE), (~late, EARLY), else_="")
    separator: Value = ibis.literal("\x1f")
    micros = (
        cells["timestamp"].epoch_seconds().cast("string") + separator + cells["timestamp"].microsecond().cast("string")
    )
    key = separator.join([cells["user"], micros, cells["query"]])
    rows = keep(engine, "clicks", cells.mutate(fate=fate, search_id=key.hexdigest("md5")))
    kept = rows.filter(rows["fate"] == "")
    nth = kept.mutate(nth=ibis.row_number().over(group_by=("search_id", "sku"), order_by="line"))
    clicks = keep(engine, "kept_clicks", nth.filter(nth["nth"] == 0).drop("nth", "fate"))
    for lost in rows_of(engine, rows.filter(rows["fate"] != "").group_by("fate").aggregate(n=ibis._.count())):
        writer.leave_out(lost["fate"], lost["n"], of="click labels")
    writer.kept["click labels"] += count(engine, kept)
    writer.leave_out(REPEATED, count(engine, nth.filter(nth["nth"] > 0)))
    note_whole_days(engine, writer, path.name, clicks, SEARCHES, key="search_id")
    return clicks


def _impressions(engine: Backend, clicks: Table, n_negatives: int) -> Table:
    clicked = engine.to_pyarrow(clicks.select("search_id", "sku", "category").order_by("search_id", "sku"))
    triples = zip(*(clicked[name].to_pylist() for name in ("search_id", "sku", "category")), strict=True)
    drawn: Table = ibis.memtable(sample_negatives(triples, n_negatives))
    negatives = drawn.select("search_id", sku=drawn["product_id"], click=ibis.literal(0, "int8"))
    positives = clicks.select("search_id", "sku", click=ibis.literal(1, "int8"))
    searches = clicks.select("search_id", "timestamp", "user", "query").distinct()
    page = ibis.window(group_by="search_id")
    rows = positives.union(negatives).inner_join(searches, "search_id")
    rows = rows.mutate(place=(rows["sku"] + ibis.literal("@") + rows["search_id"]).hexdigest("md5"))
    impressions = rows.select(
        *("search_id", "timestamp"),
        customer_id=rows["user"],
        query=rows["query"],
        product_id=rows["sku"],
        position=ibis.row_number().over(group_by="search_id", order_by=("place", "sku")).cast("int32") + 1,
        click=rows["click"],
        add_to_cart=ibis.null("int8"),
        purchase=ibis.null("int8"),
        n_sampled=(rows["click"] == 0).sum().over(page),
    )
    return keep(engine, "impressions", impressions.order_by("timestamp", "search_id", "position"))


def sample_negatives(clicks: Iterable[tuple[str, str, str]], n_negatives: int) -> pa.Table:
    """Samples products of the clicked categories that the search did not click.

    All products of the categories are equally likely. There is no seed: the products with the smallest hashes of
    (search, product) are taken, so that the sample of a search does not depend on other searches.

    Args:
        clicks: Search, product and category of each click.
        n_negatives: Number of products per search, or fewer if its categories have fewer.

    Returns:
        The sampled pairs, as `search_id` and `product_id`.
    """
    clicked: dict[str, set[str]] = {}
    categories_of: dict[str, set[str]] = {}
    products_of: dict[str, set[str]] = {}
    for search, product, category in clicks:
        clicked.setdefault(search, set()).add(product)
        categories_of.setdefault(search, set()).add(category)
        products_of.setdefault(category, set()).add(product)
    pools: dict[frozenset[str], tuple[list[str], UInt64[np.ndarray, " n_products"]]] = {}
    searches: list[str] = []
    drawn: list[str] = []
    for search, categories in categories_of.items():
        key = frozenset(categories)
        if key not in pools:
            pool = sorted(set[str]().union(*(products_of[category] for category in categories)))
            pools[key] = pool, np.array([_hash(product) for product in pool], np.uint64)
        pool, hashes = pools[key]
        draws = mixed_bits(hashes ^ np.uint64(_hash(search)))
        n_smallest = min(n_negatives + len(clicked[search]), len(pool))
        smallest = np.argpartition(draws, n_smallest - 1)[:n_smallest]
        order = smallest[np.argsort(draws[smallest])]
        negatives = [pool[i] for i in order if pool[i] not in clicked[search]][:n_negatives]
        searches += [search] * len(negatives)
        drawn += negatives
    return pa.table({"search_id": pa.array(searches, pa.string()), "product_id": pa.array(drawn, pa.string())})


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "big")


def _products(engine: Backend, writer: SearchLogWriter, clicks: Table, titles: Table) -> Table:
    first = clicks.group_by(product_id=clicks["sku"]).aggregate(category=clicks["category"].argmin(clicks["line"]))
    named = titles.group_by("product_id").aggregate(title=titles["title"].argmin(titles["line"]))
    products = first.left_join(named, "product_id").select("product_id", "title", "category").order_by("product_id")
    writer.leave_out(NO_TITLE, count(engine, products.filter(products["title"].isnull())))
    return products


def _read_names(path: Path | None) -> pa.Table:
    """Reads `sku_name.tsv`, which has no header; the first name of a product counts."""
    names: dict[str, str] = {}
    if path is not None:
        raw_files(path)
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="\n") as file:
                for number, line in enumerate(file, start=1):
                    sku, tab, name = line.rstrip("\r\n").partition("\t")
                    if not sku or not tab:
                        raise UserError(
                            f"{path} must hold a sku, a tab and a name per line, but line {number} does not"
                        )
                    if name.strip():
                        names.setdefault(sku, name.strip())
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise UserError(
                f"{path} must be text in UTF-8, but it cannot be read: {reason_of(error)}; write it again in UTF-8"
            ) from error
    columns = {"product_id": pa.array(names, pa.string()), "title": pa.array(names.values(), pa.string())}
    return pa.table({**columns, "line": pa.array(range(len(names)), pa.int64())})
