"""The features that a log allows under a config: the declared ones by table, and the possible history."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from shelfrank.config import PrepareConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import PRICE, TASKS, Feature, Kind, Schema, Side
from shelfrank.data.prepared import MISSING_SUFFIX
from shelfrank.engine.base import Engine
from shelfrank.features.history_stats import HistoryPlan
from shelfrank.features.index import KEYS, IndexedLog, tasks_with_labels
from shelfrank.features.levels import CATEGORY
from shelfrank.logs.search_log import SearchLog

MAX_AFFINITIES = 6


@dataclass(frozen=True)
class Plan:
    """The features of a log.

    Attributes:
        tasks: Tasks whose labels the log has.
        product_features: Declared features in `products`.
        customer_features: Declared features in `customers`.
        row_features: Declared features in `impressions`.
        history: The history that the log allows.
        price_in_rows: Whether `price` is a column of `impressions` rather than of `products`.
        product_lists: Declared texts of `products` that are lists of values.
    """

    tasks: tuple[str, ...]
    product_features: tuple[Feature, ...]
    customer_features: tuple[Feature, ...]
    row_features: tuple[Feature, ...]
    history: HistoryPlan
    price_in_rows: bool
    product_lists: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class EntityTables:
    """Products, customers and queries in the order of their integer keys."""

    products: pa.Table
    customers: pa.Table
    queries: pa.Table


def plan_features(log: SearchLog, engine: Engine, config: PrepareConfig) -> Plan:
    """Decides the features of a log.

    Args:
        log: The log.
        engine: The engine.
        config: Which features to compute.

    Returns:
        The plan.

    Raises:
        UserError: Where the log has no label at all, or `history.affinity` names something that is no categorical
            feature of the products.
    """
    impressions = engine.read(log.files("impressions"))
    products = engine.read(log.files("products"))
    homes = declared_features(log, engine)
    tasks, partly = tasks_with_labels(impressions)
    if not tasks:
        raise UserError(
            f"a log to prepare must have labels of at least one task, but {', '.join(TASKS)} are missing in every row; "
            "a log of human judgments serves `shelfrank semantic train` with positive_grade"
        )
    possible = tuple(feature.name for feature in homes["products"] if feature.kind is Kind.CATEGORICAL)
    affinity = config.history.affinity
    if affinity is None:
        affinity = possible[:MAX_AFFINITIES]
    elif set(affinity) - set(possible):
        raise UserError(
            "history.affinity must name categorical features of the products table "
            f"({', '.join(possible) or 'there are none'}), "
            f"but it names {', '.join(sorted(set(affinity) - set(possible)))}"
        )
    numerical = {feature.name for feature in log.schema.features if feature.kind is Kind.NUMERICAL}
    price_in_rows = PRICE in impressions.columns
    has_price = PRICE in numerical and (price_in_rows or PRICE in products.columns)
    # A price of the moment has no place among the catalogue's.
    levels = (PRICE,) if config.history.taste and has_price and not price_in_rows and "click" in tasks else ()
    return Plan(
        tasks=tasks,
        product_features=homes["products"],
        customer_features=homes["customers"],
        row_features=homes["impressions"],
        price_in_rows=price_in_rows,
        product_lists=tuple(
            feature
            for feature in log.schema.select(Side.PRODUCT, Kind.TEXT)
            if feature.separator is not None and feature.name in products.columns
        ),
        history=HistoryPlan(
            tasks=tasks,
            partly=partly,
            affinity=affinity,
            has_events=log.has("events"),
            has_sessions="session_id" in impressions.columns,
            has_price=has_price,
            levels=levels,
            by_category=bool(levels) and CATEGORY in possible,
        ),
    )


def refuse_taken_names(plan: Plan, computed: Sequence[Feature]) -> None:
    """Raises a `UserError` where a declared feature has the name of a computed feature or of an engine's key."""
    declared = {feature.name for feature in (*plan.product_features, *plan.customer_features, *plan.row_features)}
    flags = {name + MISSING_SUFFIX for name in declared}
    # Engines take names for one that differ by case only.
    others = {name.lower() for name in (*KEYS, *flags, *(feature.name for feature in computed))}
    taken = sorted(name for name in declared if name.lower() in others)
    if taken:
        raise UserError(
            f"declared features must not go by the names of computed ones, but {', '.join(taken)} "
            f"{'does' if len(taken) == 1 else 'do'}; rename the columns or switch those computed features off"
        )


def declared_features(log: SearchLog, engine: Engine) -> dict[str, tuple[Feature, ...]]:
    """The declared categorical and numerical features by the table that holds them.

    A feature of products or customers is in their own table, or in `impressions` where a source states it per row.
    """
    columns = {
        table: set(engine.read(log.files(table)).columns) if log.has(table) else set()
        for table in ("products", "customers", "impressions")
    }
    homes: dict[str, list[Feature]] = {table: [] for table in columns}
    for feature in log.schema.features:
        if feature.kind is Kind.TEXT:
            continue
        own = {Side.PRODUCT: "products", Side.CUSTOMER: "customers"}.get(feature.side, "impressions")
        homes[own if feature.name in columns[own] else "impressions"].append(feature)
    return {table: tuple(features) for table, features in homes.items()}


def unread_texts(schema: Schema, products: pa.Table) -> dict[str, str]:
    """Declared texts that no feature reads, with the reason: only columns of the products are read as texts."""
    why = "a text is read only where it is a column of the products, and this one is not"
    return {
        feature.name: why
        for feature in schema.select(kind=Kind.TEXT)
        if feature.side is not Side.PRODUCT or feature.name not in products.column_names
    }


def entity_tables(indexed: IndexedLog, engine: Engine) -> EntityTables:
    """Reads products, customers and queries in the order of their integer keys."""
    return EntityTables(
        products=engine.collect(indexed.products.order_by("product_idx")),
        customers=engine.collect(indexed.customers.order_by("customer_idx")),
        queries=engine.collect(indexed.queries.order_by("query_idx")),
    )


def product_documents(schema: Schema, products: pa.Table, titles: Sequence[str]) -> list[str]:
    """Each product's title and its declared categories and texts as one string (Paper: Sec. 3.2)."""
    names = [
        feature.name
        for feature in schema.select(side=Side.PRODUCT)
        if feature.kind is not Kind.NUMERICAL and feature.name in products.column_names
    ]
    columns = [products[name].cast(pa.string()).fill_null("").to_pylist() for name in names]
    return [" ".join(texts).strip() for texts in zip(titles, *columns, strict=True)]
