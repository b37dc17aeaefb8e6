"""The texts of a search log: its queries, its products' documents, and their positive pairs."""

# ibis's own annotations reject its operators and column methods.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.logs.engine import Table, read_parquet
from shelfrank.logs.search_log import SearchLog

GRADES = "truth/impressions"


@dataclass(frozen=True)
class Documents:
    """Products and the texts that describe them.

    Attributes:
        product_ids: In ascending order.
        attributes: Each product's texts in the order of `columns`, without the blank ones.
        columns: The columns of the texts.
        missing_columns: Requested columns that the log lacks.
    """

    product_ids: list[str]
    attributes: list[tuple[str, ...]]
    columns: tuple[str, ...]
    missing_columns: tuple[str, ...]

    def joined(self) -> list[str]:
        """Each product's texts joined by spaces; empty where it has none."""
        return [" ".join(texts) for texts in self.attributes]


def read_documents(log: SearchLog, engine: Backend, columns: Sequence[str]) -> Documents:
    """Reads every product's document.

    Args:
        log: The log.
        engine: The engine.
        columns: Product columns, in the order of joining.

    Returns:
        The documents.

    Raises:
        UserError: Where the log's products have none of the columns.
    """
    products = read_parquet(engine, log.files("products"))
    known = tuple(column for column in columns if column in products.columns)
    if not known:
        raise UserError(
            f"document must name a column of the products, but it names {', '.join(columns)}; "
            f"they have {', '.join(products.columns)}"
        )
    texts = {f"text_{index}": products[column].cast("string") for index, column in enumerate(known)}
    table = engine.to_pyarrow(products.select(product_id=products.product_id, **texts).order_by("product_id"))
    rows = zip(*(table[name].to_pylist() for name in texts), strict=True)
    attributes = [tuple(" ".join(text.split()) for text in row if text and text.strip()) for row in rows]
    missing = tuple(column for column in columns if column not in known)
    return Documents(table["product_id"].to_pylist(), attributes, known, missing)


def read_queries(log: SearchLog, engine: Backend) -> list[str]:
    """Reads the unique queries in ascending order."""
    queries = read_parquet(engine, log.files("impressions")).select("query").distinct()
    return engine.to_pyarrow(queries.order_by("query"))["query"].to_pylist()


def shown_pairs(log: SearchLog, engine: Backend, queries: Path, products: Path) -> Table:
    """The unique pairs of a query and a shown product, sorted by their indices.

    Args:
        log: The log.
        engine: The engine.
        queries: A Parquet file with `query_idx` and `query`.
        products: A Parquet file with `product_idx` and `product_id`.

    Returns:
        `query`, `product_id`, `query_idx`, `product_idx`, as an expression.
    """
    pairs = read_parquet(engine, log.files("impressions")).select("query", "product_id").distinct()
    of_query = read_parquet(engine, [queries]).select("query", "query_idx")
    of_product = read_parquet(engine, [products]).select("product_id", "product_idx")
    return pairs.inner_join(of_query, "query").inner_join(of_product, "product_id").order_by("query_idx", "product_idx")


def read_searches(log: SearchLog, engine: Backend) -> pa.Table:
    """Reads `search_id` and `ts_us` of every search, by time, then id."""
    impressions = read_parquet(engine, log.files("impressions"))
    searches = impressions.group_by("search_id").aggregate(timestamp=impressions.timestamp.min())
    table = engine.to_pyarrow(searches.order_by("timestamp", "search_id"))
    ts_us = table["timestamp"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return pa.table({"search_id": table["search_id"], "ts_us": ts_us})


def chosen_pairs(log: SearchLog, engine: Backend, search_ids: pa.Array, positive_grade: float | None) -> pa.Table:
    """Reads the products that searches chose, by query.

    Args:
        log: The log.
        engine: The engine.
        search_ids: The searches to read.
        positive_grade: Minimum human grade of a chosen product; None takes products with a click, cart or purchase.

    Returns:
        `query`, `product_id` and the count `n`, sorted.

    Raises:
        UserError: Where `positive_grade` is set and the log has no grades.
    """
    impressions = _impressions_of(log, engine, search_ids)
    if positive_grade is None:
        chosen = impressions.filter(ibis.or_(*((impressions[task] == 1).fill_null(False) for task in TASKS)))
    else:
        grades = _grades(log, engine)
        if grades is None:
            raise UserError(
                f"positive_grade needs a log with human grades ({GRADES}.grade), but {log.path} has none; "
                "leave positive_grade out to learn from clicks"
            )
        high = grades.filter(grades.grade >= positive_grade).select("search_id", "product_id")
        chosen = impressions.semi_join(high, ["search_id", "product_id"])
    counted = chosen.group_by("query", "product_id").aggregate(n=chosen.count())
    return engine.to_pyarrow(counted.order_by("query", "product_id"))


def graded_pairs(log: SearchLog, engine: Backend, search_ids: pa.Array) -> pa.Table:
    """Reads the human grades of what searches showed.

    Args:
        log: The log.
        engine: The engine.
        search_ids: The searches to read.

    Returns:
        `query`, `product_id` and the mean `grade`, sorted.

    Raises:
        UserError: Where the log has no grades.
    """
    grades = _grades(log, engine)
    if grades is None:
        raise UserError(
            f"graded_weight needs a log with human grades ({GRADES}.grade), but {log.path} has none; name prepared "
            "data with relevance labels in grades"
        )
    shown = _impressions_of(log, engine, search_ids).select("search_id", "product_id", "query")
    judged = shown.inner_join(grades.select("search_id", "product_id", "grade"), ["search_id", "product_id"])
    judged = judged.filter(judged.grade.notnull())
    means = judged.group_by("query", "product_id").aggregate(grade=judged.grade.cast("float64").mean())
    return engine.to_pyarrow(means.order_by("query", "product_id"))


def _impressions_of(log: SearchLog, engine: Backend, search_ids: pa.Array) -> Table:
    searches = ibis.memtable(pa.table({"search_id": search_ids}))
    return read_parquet(engine, log.files("impressions")).semi_join(searches, "search_id")


def _grades(log: SearchLog, engine: Backend) -> Table | None:
    grades = read_parquet(engine, log.files(GRADES)) if log.has(GRADES) else None
    return None if grades is None or "grade" not in grades.columns else grades
