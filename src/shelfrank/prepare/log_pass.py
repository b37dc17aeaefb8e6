"""The pass of the engine over a log: rows in order, their history, the sample, the pairs behind relevance labels."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int8, Num

from shelfrank.config import PrepareConfig, SamplingConfig
from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.core.schema import PRICE, TASKS
from shelfrank.core.values import CategorySpelling
from shelfrank.data.prepared import LAST_OF_SESSION
from shelfrank.engine import open_engine
from shelfrank.engine.base import ROW, Advance, Engine, Kept
from shelfrank.features.encoder import numbers
from shelfrank.features.history_features import ComputedFeature
from shelfrank.features.history_offline import StatsOfGroups, product_codes, timeline, with_numbers
from shelfrank.features.history_stats import KeyPlan, key_plans
from shelfrank.features.index import IndexedLog, index_and_collect
from shelfrank.features.levels import Levels
from shelfrank.features.page_features import grouped_features
from shelfrank.features.plan import EntityTables, Plan, entity_tables, plan_features, refuse_taken_names
from shelfrank.features.texts import SHOWN_PRODUCT_COLUMNS, TEXT_ATTRIBUTES, TextColumns, Texts
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.columns import ColumnFiles
from shelfrank.prepare.feature_seconds import DECLARED, FeatureSeconds
from shelfrank.prepare.pairs import PairTable, pair_counts
from shelfrank.prepare.relevance import RelevanceLabels, label
from shelfrank.prepare.rows import RowFiles, RowReader
from shelfrank.prepare.sampling import keys as sampling_keys
from shelfrank.prepare.sampling import sample
from shelfrank.prepare.sampling_offsets import mean_offsets, sampling_offsets
from shelfrank.prepare.split import assign_splits
from shelfrank.prepare.understanding import UnderstoodQueries
from shelfrank.prepare.voters import CTRVoter, PairTexts, SemanticVoter, UnderstandingVoter, load_voters
from shelfrank.text.scores import SemanticScores


@dataclass(frozen=True)
class LogPass:
    """The result of the pass: the row files behind a reader, and the small tables in memory."""

    reader: RowReader
    searches: pa.Table
    entities: EntityTables
    texts: Texts
    queries: UnderstoodQueries | None
    plan: Plan
    sampled: "SampledRows | None"
    relevance: tuple[RelevanceLabels, PairTable] | None


@dataclass(frozen=True)
class SampledRows:
    """What sampling took.

    Attributes:
        bins: A row per bin.
        offsets: What it added to the log-odds, by product and task.
        mean_offsets: Their mean over the kept training rows, by task.
    """

    bins: pa.Table
    offsets: Float32[np.ndarray, "n_products n_tasks"]
    mean_offsets: Mapping[str, float]


def read_log(
    log: SearchLog, config: PrepareConfig, scratch: Path, scores: SemanticScores | None, split: bool = True
) -> LogPass:
    """Runs the joins, sorts and aggregates of an engine over a log.

    Args:
        log: The log.
        config: Which features, sample and labels to compute.
        scratch: An empty folder that must exist as long as the result is used.
        scores: Semantic scores of this log.
        split: Whether searches are split; where they are not, all are training searches.

    Returns:
        The rows with their history behind a reader, and the small tables.

    Raises:
        UserError: Where the log is unusable or a setting names something that the log lacks.
    """
    n_rows = int(log.manifest.info["rows"]["impressions"])
    seconds = FeatureSeconds()
    with open_engine(config.engine, scratch, log.path) as engine:
        plan = plan_features(log, engine, config)
        groups = grouped_features(plan.history, config)
        computed = [each for group in groups.values() for each in group]
        keys = key_plans((stat for each in computed for stat in each.stats), config.history.outcome_delay_s)
        steps = 2 + len(keys) + (config.sampling is not None) + (config.relevance is not None)
        with progress("Reading the log", total=n_rows * steps, unit="rows") as advance:
            indexed, searches = _index(log, engine, config, split)
            searches = _with_session_ends(searches)
            advance(n_rows)
            entities = entity_tables(indexed, engine)
            with seconds.of("text" if config.text else DECLARED):
                texts = Texts(log, entities, config, scores)
            columns, queries = texts.columns(), None
            if config.understanding is not None:
                with seconds.of("understanding"):
                    queries = UnderstoodQueries.read(entities, plan, config.understanding)
                columns.append(TextColumns("understanding", queries.features, queries.compute))
            refuse_taken_names(
                plan,
                [*(each.feature for each in computed), *(feature for each in columns for feature in each.features)],
            )
            rows = _rows(indexed, engine, plan, config, advance, n_rows)
            if rows.n_rows != n_rows:
                raise UserError(
                    f"every impression must have a product and a search of the log, but {n_rows - rows.n_rows:,} of "
                    f"{n_rows:,} have not; run `shelfrank validate`"
                )
            if queries is not None:
                with seconds.of("understanding"):
                    queries.learn(rows, plan, config)
            kept, sampled, relevance = np.ones(rows.n_rows, dtype=bool), None, None
            if config.sampling is not None:
                kept, sampled = _sample(rows, indexed, engine, plan, config.sampling)
                advance(n_rows)
            if split and config.split.by == "forward":
                kept &= _column(rows, "split") >= 0
            if config.relevance is not None:
                relevance = _relevance(rows, engine, plan, config, texts, queries, entities)
                advance(n_rows)
            moments = timeline(
                indexed,
                with_numbers(rows.table, indexed, engine, plan),
                product_codes(indexed, engine, plan),
                plan.history,
                (measure for key in keys.values() for measure in key.measures),
            )
            # One query per key reads it, and ibis takes longer over each than the engine over a small log.
            moments = engine.view(moments, "moments")
            everything = np.ones(rows.n_rows, dtype=bool)
            whole = frozenset(stat.key for each in computed if each.whole_pages for stat in each.stats)
            files: dict[str, ColumnFiles] = {}
            for plans in by_first_column(keys.values()):
                chosen = [everything if key.key in whole else kept for key in plans]
                with seconds.of_shares(stats_by_group(plans, groups)):
                    files |= _history(engine, moments, plans, chosen, scratch / "history" / plans[0].key_columns[0])
                advance(n_rows * len(plans))
    splits = searches["split"].to_numpy()
    in_products = plan.history.has_price and not plan.price_in_rows
    of_products = {PRICE: numbers(entities.products[PRICE])} if in_products else {}
    of_products |= Levels.of_catalogue(entities.products, plan.history.levels, plan.product_features).of_products(
        entities.products, plan.product_features
    )
    in_rows = plan.history.has_price and plan.price_in_rows
    row_files = RowFiles(rows, kept, files, whole)
    kept_features, threads = scratch / "features", config.engine.threads
    reader = RowReader(row_files, splits, groups, columns, of_products, in_rows, seconds, kept_features, threads)
    return LogPass(reader, searches, entities, texts, queries, plan, sampled, relevance)


def _index(log: SearchLog, engine: Engine, config: PrepareConfig, split: bool) -> tuple[IndexedLog, pa.Table]:
    """Integer keys, and the searches with their split."""
    also = (*SHOWN_PRODUCT_COLUMNS, *TEXT_ATTRIBUTES)
    also += () if config.sampling is None else (config.sampling.category,)

    def complete(searches: pa.Table) -> pa.Table:
        ids = searches["search_id"].to_pylist()
        splits = np.zeros(len(ids), dtype=np.int8)
        if split:
            splits = assign_splits(searches["ts_us"].to_numpy(), ids, config.split)
        searches = searches.append_column("split", pa.array(splits, pa.int8()))
        if config.sampling is None:
            return searches
        return searches.append_column("search_key", pa.array(sampling_keys(ids, config.sampling.seed, "search")))

    return index_and_collect(log, engine, also, complete)


def _with_session_ends(searches: pa.Table) -> pa.Table:
    """Marks the last search of each session, over the whole log; null where a search has no session."""
    sessions = searches["session_idx"].to_numpy()
    known = sessions >= 0
    if not known.any():
        return searches
    last = np.zeros(len(sessions), dtype=bool)
    last[len(sessions) - 1 - np.unique(sessions[::-1], return_index=True)[1]] = True
    return searches.append_column(LAST_OF_SESSION, pa.array(last, mask=~known))


def _rows(
    indexed: IndexedLog, engine: Engine, plan: Plan, config: PrepareConfig, advance: Advance, n_rows: int
) -> Kept:
    declared = [feature.name for feature in plan.row_features]
    price = [PRICE] if plan.history.has_price and plan.price_in_rows else []
    keys = ["search_idx", "ts_us", "product_idx", "query_idx", "customer_idx", "session_idx", "position", "split"]
    keys += ["search_key"] if config.sampling is not None else []
    rows = indexed.rows.select(*keys, *TASKS, *dict.fromkeys([*declared, *price]))
    return engine.keep(rows, "rows", ("search_idx", "position"), advance, n_rows)


def _sample(
    rows: Kept, indexed: IndexedLog, engine: Engine, plan: Plan, config: SamplingConfig
) -> tuple[Bool[np.ndarray, " rows"], SampledRows]:
    narrow = ("search_idx", "product_idx", "position", "split", "search_key", *plan.tasks)
    products = _sampling_products(indexed, engine, plan, config)
    shared = engine.share(products, "sampling_products")
    sampled = sample(rows.table.select(ROW, *narrow), shared, config, plan.tasks)
    kept = np.zeros(rows.n_rows, dtype=bool)
    for part in engine.stream(sampled.rows.filter(sampled.rows.kept).select(ROW)):
        kept[part[ROW].to_numpy()] = True
    in_train = _column(rows, "split") == 0
    if not kept[in_train].any():
        raise UserError("sampling must keep training rows, but it keeps none; raise sampling.beta")
    product_idx, kept_of_train = _column(rows, "product_idx")[in_train], kept[in_train]
    labels = [_labels(rows, task)[in_train] for task in plan.tasks]
    offsets = sampling_offsets(sampled.strata, product_idx, labels, kept_of_train, products.num_rows)
    means = mean_offsets(offsets, product_idx[kept_of_train], plan.tasks)
    return kept, SampledRows(sampled.bins, offsets, means)


def _labels(rows: Kept, task: str) -> Int8[np.ndarray, " rows"]:
    """A task's labels, -1 where one is missing."""
    parts = [part[task].cast(pa.int8()).fill_null(-1).to_numpy() for part in rows.batches([task])]
    return np.concatenate(parts)


def _sampling_products(indexed: IndexedLog, engine: Engine, plan: Plan, config: SamplingConfig) -> pa.Table:
    if config.category not in indexed.products.columns:
        raise UserError(
            f"sampling.category must name a column of the products table, but {config.category!r} is none of "
            f"{', '.join(sorted(set(indexed.products.columns) - {'product_idx'}))}"
        )
    products = indexed.products.select("product_idx", "product_id", category=indexed.products[config.category])
    products = engine.collect(products)
    declared = [feature.spelling for feature in plan.product_features if feature.name == config.category]
    categories = (declared or [CategorySpelling()])[0].column(products["category"])
    products = products.set_column(products.schema.get_field_index("category"), "category", categories)
    keys = sampling_keys(products["product_id"].to_pylist(), config.seed, "product")
    return products.drop_columns("product_id").append_column("product_key", pa.array(keys))


def _column(rows: Kept, name: str) -> Num[np.ndarray, " rows"]:
    return np.concatenate([part[name].to_numpy(zero_copy_only=False) for part in rows.batches([name])])


def _relevance(
    rows: Kept,
    engine: Engine,
    plan: Plan,
    config: PrepareConfig,
    texts: Texts,
    queries: UnderstoodQueries | None,
    entities: EntityTables,
) -> tuple[RelevanceLabels, PairTable]:
    assert config.relevance is not None
    if "click" not in plan.tasks:
        raise UserError("relevance labels must come from clicks, but the log has none; set relevance to null")
    counts, clicked = pair_counts(rows.table.filter(rows.table.split == 0), plan.tasks)
    pairs = PairTable.from_arrow(engine.collect(counts), engine.collect(clicked))
    voters: list[Any] = [CTRVoter(config.relevance.position_weight)]
    if texts.semantic is not None:
        voters.append(SemanticVoter(texts.semantic.cosine, config.relevance.semantic_scale))
    if queries is not None and queries.understanding.stages:
        voters.append(UnderstandingVoter(queries.relevance))
    voters += load_voters(config.relevance.voters, PairTexts(texts.queries, texts.table(entities.products)))
    return label(pairs, voters, config.relevance), pairs


def by_first_column(keys: Iterable[KeyPlan]) -> list[tuple[KeyPlan, ...]]:
    """Keys that begin with the same column together: one sort by this column and time serves them all."""
    found: dict[str, tuple[KeyPlan, ...]] = {}
    for key in keys:
        first = key.key_columns[0]
        found[first] = (*found.get(first, ()), key)
    return list(found.values())


def stats_by_group(keys: Sequence[KeyPlan], groups: Mapping[str, Sequence[ComputedFeature]]) -> dict[str, float]:
    """How many of the keys' statistics each group of features reads; one that several read counts for the first."""
    shares: dict[str, float] = {}
    for stat in (stat for key in keys for stat in key.stats):
        first = next(name for name, group in groups.items() if any(stat in each.stats for each in group))
        shares[first] = shares.get(first, 0.0) + 1.0
    return shares


def _history(
    engine: Engine,
    moments: ibis.Table,
    plans: tuple[KeyPlan, ...],
    chosen: Sequence[Bool[np.ndarray, " rows"]],
    folder: Path,
) -> dict[str, ColumnFiles]:
    """The statistics of some keys that begin with the same column, each for the rows that are chosen for it."""
    first = plans[0].key_columns[0]
    if first == "query_idx":
        # Nothing outside the results pages has a query.
        moments = moments.filter(moments[ROW] >= 0)
    others = {column: None for plan in plans for column in plan.key_columns[1:]}
    measures = sorted({measure.name for plan in plans for measure in plan.measures})
    moments = moments.select(ROW, "ts_us", first, *others, *measures)
    compute = StatsOfGroups(plans)
    columns = [
        ColumnFiles(
            folder / str(index), {each.column: each.stat.dtype for each in plan.stats}, int(np.count_nonzero(rows))
        )
        for index, (plan, rows) in enumerate(zip(plans, chosen, strict=True))
    ]
    places = [np.cumsum(rows) - 1 for rows in chosen]
    for part in engine.map_groups(moments, (first,), "ts_us", compute, compute.schema):
        rows = part[ROW].to_numpy()
        # Files are written fastest from their beginning to their end.
        order = np.argsort(rows)
        rows = rows[order]
        for own, is_chosen, place in zip(columns, chosen, places, strict=True):
            some = is_chosen[rows]
            at = order if some.all() else order[some]
            own.put(place[rows[some]], {name: part[name].to_numpy()[at] for name in own.dtypes})
    for own in columns:
        own.finish()
    return {plan.key: own for plan, own in zip(plans, columns, strict=True)}
