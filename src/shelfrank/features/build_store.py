"""Writes the files of a `FeatureStore`: the running sums of every key, and the encoded catalogue and customers."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Num

from shelfrank.config import EngineConfig, PrepareConfig
from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.core.schema import AS_WRITTEN, PRICE, Feature, Kind
from shelfrank.data.npy import NpyWriter
from shelfrank.data.prepared import PreparedData
from shelfrank.engine import open_engine
from shelfrank.engine.base import ROW, Engine, whole_groups
from shelfrank.features.encoder import Encoder, encode_entities, numbers
from shelfrank.features.history_offline import product_codes, timeline, with_numbers
from shelfrank.features.history_stats import KeyPlan, key_plans
from shelfrank.features.history_table import NEVER
from shelfrank.features.ids import save_ids
from shelfrank.features.index import IndexedLog, index_and_collect
from shelfrank.features.levels import Levels
from shelfrank.features.page_features import computed_features
from shelfrank.features.plan import Plan, entity_tables, plan_features, product_documents
from shelfrank.features.store import STORE_FILE, STORE_VERSION
from shelfrank.features.texts import SHOWN_PRODUCT_COLUMNS, TEXT_ATTRIBUTES
from shelfrank.features.understanding import UNDERSTANDING
from shelfrank.logs.search_log import SearchLog
from shelfrank.text.scores import SemanticScores

ROWS_AT_ONCE = 1_048_576


def build_store(
    log_path: Path,
    prepared_path: Path,
    out: Path,
    semantic_scores: Path | None = None,
    engine: EngineConfig | None = None,
) -> None:
    """Writes the tables behind `FeatureStore` into a new folder, which another artifact may hold.

    Everything is a plain `.npy`, Parquet or JSON file. A page at the time of a search of the log equals its rows in
    prepared data.

    Args:
        log_path: The log.
        prepared_path: The data prepared from it, which decides the encoder and the features.
        out: The folder; it must not exist.
        semantic_scores: The semantic scores of the prepared data; None where it has none.
        engine: Limits of the embedded engine, which sorts.

    Raises:
        UserError: Where log, prepared data and scores do not belong together.
    """
    log, prepared = SearchLog.open(log_path), PreparedData.open(prepared_path)
    scores = _scores(log, prepared, semantic_scores)
    # Data of an earlier version names neither understanding nor taste, and has none.
    given = prepared.manifest.inputs["config"]
    history = {"taste": False, **given.get("history", {})}
    config = PrepareConfig.model_validate({"understanding": None, **given, "history": history})
    limits = (engine or EngineConfig()).model_copy(update={"name": "duckdb"})
    config = config.model_copy(update={"sampling": None, "relevance": None, "engine": limits})
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch, open_engine(limits, Path(scratch), log.path) as opened:
        _write(out, log, prepared, scores, config, opened)


def _scores(log: SearchLog, prepared: PreparedData, path: Path | None) -> SemanticScores | None:
    if prepared.manifest.inputs["log"] != log.manifest.fingerprint:
        raise UserError(f"{prepared.path} must be prepared from {log.path}, but it was prepared from another log")
    wanted = prepared.manifest.inputs["semantic_scores"]
    if wanted is None:
        return None
    if path is None:
        raise UserError(f"{prepared.path} was prepared with semantic scores, so their folder must be given")
    scores = SemanticScores.open(path)
    if scores.fingerprint != wanted:
        raise UserError(f"{path} must be the scores that {prepared.path} was prepared with, but it holds others")
    return scores


def _write(
    out: Path,
    log: SearchLog,
    prepared: PreparedData,
    scores: SemanticScores | None,
    config: PrepareConfig,
    engine: Engine,
) -> None:
    plan = plan_features(log, engine, config)
    stats = (stat for each in computed_features(plan.history, config) for stat in each.stats)
    keys = key_plans(stats, config.history.outcome_delay_s)
    with progress("Writing online features", total=len(keys) + 2, unit="tables") as advance:
        indexed, _ = index_and_collect(log, engine, (*SHOWN_PRODUCT_COLUMNS, *TEXT_ATTRIBUTES))
        entities = entity_tables(indexed, engine)
        encoder = Encoder.load(prepared.path / "encoder.json")
        encoder.save(out / "encoder.json")
        _write_entities(out / "products", entities.products, "product_id", plan.product_features, encoder)
        _write_entities(out / "customers", entities.customers, "customer_id", plan.customer_features, encoder)
        _write_products(out / "products", log, entities.products, plan, indexed, engine)
        save_ids(out / "queries", entities.queries["query"].to_pylist())
        if "session" in keys and indexed.sessions is not None:
            sessions = engine.collect(indexed.sessions.order_by("session_idx"))
            save_ids(out / "sessions", sessions["session_id"].to_pylist())
        _write_embeddings(
            out, scores, entities.queries["query"].to_pylist(), entities.products["product_id"].to_pylist()
        )
        if config.understanding is not None:
            shutil.copytree(prepared.path / UNDERSTANDING, out / UNDERSTANDING)
        advance(1)
        rows = with_numbers(indexed.rows.mutate(**{ROW: ibis.literal(0, "int64")}), indexed, engine, plan)
        measures = (measure for key in keys.values() for measure in key.measures)
        moments = timeline(indexed, rows, product_codes(indexed, engine, plan), plan.history, measures)
        kept = engine.keep(moments.drop(ROW), "moments", ("ts_us",), lambda _: None, 0.0)
        moments = kept.table
        times = np.unique(np.concatenate([np.empty(0, np.int64), *_column(engine, moments.select("ts_us").distinct())]))
        np.save(out / "times.npy", times)
        advance(1)
        n_groups = {
            "product": entities.products.num_rows,
            "query": entities.queries.num_rows,
            "customer": entities.customers.num_rows,
        }
        for number, key in enumerate(keys.values()):
            _write_history(out / "past" / str(number), _sorted(engine, moments, key), key, times, n_groups.get(key.key))
            advance(1)
    _write_facts(out, log, prepared, config, plan, list(keys), scores is not None)


def _column(engine: Engine, table: ibis.Table) -> Iterator[Num[np.ndarray, " rows"]]:
    for part in engine.stream(table):
        yield part[0].to_numpy(zero_copy_only=False)


def _write_entities(
    folder: Path, table: pa.Table, id_column: str, features: tuple[Feature, ...], encoder: Encoder
) -> None:
    """Ids and encoded features of a table; the last row is that of an unknown entity."""
    save_ids(folder, table[id_column].to_pylist())
    names = {feature.name for feature in features}
    for kind, encodings in (("numerical", encoder.numerical), ("categorical", encoder.categorical)):
        blocks = [encode_entities(encoding, table) for encoding in encodings if encoding.name in names]
        if blocks:
            np.save(folder / f"{kind}.npy", np.column_stack(blocks))


def _write_products(
    folder: Path, log: SearchLog, products: pa.Table, plan: Plan, indexed: IndexedLog, engine: Engine
) -> None:
    if plan.history.has_price and not plan.price_in_rows:
        np.save(folder / "prices.npy", np.append(numbers(products[PRICE]), np.nan))
    if plan.history.levels:
        levels = Levels.of_catalogue(products, plan.history.levels, plan.product_features)
        levels.save(folder / "levels", products, plan.product_features)
    if plan.history.affinity:
        codes = engine.collect(product_codes(indexed, engine, plan).order_by("product_idx"))
        columns = [codes[f"{name}_code"].to_numpy() for name in plan.history.affinity]
        np.save(
            folder / "codes.npy", np.append(np.stack(columns, axis=1), [[-1] * len(columns)], axis=0).astype(np.int32)
        )
        spellings = {feature.name: feature.spelling for feature in plan.product_features}
        values = [
            pa.table({"code": codes[f"{name}_code"], "value": spellings[name].column(products[name])})
            .group_by(["code", "value"])
            .aggregate([])
            .append_column("feature", pa.array([name] * len(np.unique(codes[f"{name}_code"].to_numpy()))))
            for name in plan.history.affinity
        ]
        pq.write_table(pa.concat_tables(values), folder / "code_values.parquet")
    titles = [title or "" for title in products["title"].to_pylist()]
    texts = {"title": titles, "document": product_documents(log.schema, products, titles)}
    named = {
        f"attribute.{name}": products[name].cast(pa.string())
        for name in TEXT_ATTRIBUTES
        if name in products.column_names
    }
    pq.write_table(pa.table({**texts, **named}), folder / "texts.parquet")


def _write_embeddings(out: Path, scores: SemanticScores | None, queries: list[str], product_ids: list[str]) -> None:
    if scores is None:
        return
    aligned = scores.align(queries, product_ids)
    for name, embeddings, rows in (
        ("queries", aligned.query_embeddings, aligned.query_rows),
        ("products", aligned.product_embeddings, aligned.product_rows),
    ):
        file = out / name / "embeddings.npy"
        made = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(len(rows), embeddings.shape[1]))
        for start in range(0, len(rows), ROWS_AT_ONCE // 16):
            some = slice(start, start + ROWS_AT_ONCE // 16)
            made[some] = embeddings[rows[some]]
        made.flush()


def _sorted(engine: Engine, moments: ibis.Table, plan: KeyPlan) -> Iterator[dict[str, np.ndarray]]:
    """The moments of a key's groups in order of key and time, all of one time together."""
    names = plan.key_columns
    # An anonymous visitor has no past that another search could share.
    moments = moments.filter(*(moments[name] >= 0 for name in names))
    moments = moments.select("ts_us", *names, *(measure.name for measure in plan.measures))
    order = (*names, "ts_us")
    for part in whole_groups(engine.stream(moments.order_by(*order)), order):
        yield {name: part[name].to_numpy(zero_copy_only=False) for name in part.schema.names}


def _write_history(
    folder: Path,
    parts: Iterable[dict[str, np.ndarray]],
    plan: KeyPlan,
    times: Int64[np.ndarray, " times"],
    n_groups: int | None,
) -> None:
    names = plan.key_columns
    folder.mkdir(parents=True)
    keys = NpyWriter(folder / "keys.npy", np.int64) if len(names) == 2 else None
    moments = NpyWriter(folder / "moments.npy", np.int64)
    sums = NpyWriter(folder / "sums.npy", np.int64, (len(plan.measures),))
    running = np.zeros((1, len(plan.measures)), np.int64)
    sums.append(running)
    last_key, group = -1, -1
    for columns in parts:
        key = columns[names[0]].astype(np.int64)
        if len(names) == 2:
            key = key << 32 | columns[names[1]]
        begins = np.ones(len(key), bool)
        begins[1:] = (key[1:] != key[:-1]) | (columns["ts_us"][1:] != columns["ts_us"][:-1])
        starts = np.flatnonzero(begins)
        if not len(starts):
            continue
        key, rank = key[starts], np.searchsorted(times, columns["ts_us"][starts])
        if keys is None:
            groups = key
        else:
            new = np.append(key[0] != last_key, key[1:] != key[:-1])
            groups = group + np.cumsum(new)
            keys.append(key[new])
        last_key, group = int(key[-1]), int(groups[-1])
        moments.append(groups << 32 | rank)
        added = [np.add.reduceat(columns[measure.name].astype(np.int64), starts) for measure in plan.measures]
        running = running[-1:] + np.cumsum(np.stack(added, axis=1), axis=0)
        sums.append(running)
    n_moments = moments.finish()
    if keys is not None:
        n_groups = keys.finish()
    elif n_groups is None:
        n_groups = group + 1
    sums.finish()
    numbered = np.load(folder / "moments.npy", mmap_mode="r" if n_moments else None)
    starts = np.searchsorted(numbered, np.arange(n_groups + 1, dtype=np.int64) << 32)
    np.save(folder / "starts.npy", starts.astype(np.int64))
    if plan.latest:
        _write_last(folder, numbered, starts, plan, times)


def _write_last(
    folder: Path,
    moments: Int64[np.ndarray, " moments"],
    starts: Int64[np.ndarray, " groups_plus_1"],
    plan: KeyPlan,
    times: Int64[np.ndarray, " times"],
) -> None:
    """The latest time up to each moment at which a measure of its group was above 0, for each of the plan's latest."""
    sums = np.load(folder / "sums.npy", mmap_mode="r")
    of = [plan.measures.index(measure) for measure in plan.latest]
    last = NpyWriter(folder / "last.npy", np.int64, (len(plan.latest),))
    latest = [-1] * len(of)
    for start in range(0, len(moments), ROWS_AT_ONCE):
        some = moments[start : start + ROWS_AT_ONCE]
        known = np.full((len(some), len(of)), NEVER)
        at = np.arange(start, start + len(some))
        for place, column in enumerate(of):
            counts = np.diff(sums[start : start + len(some) + 1, column]) > 0
            newest = np.maximum(np.maximum.accumulate(np.where(counts, at, -1)), latest[place])
            latest[place] = int(newest[-1])
            own = newest >= starts[some >> 32]
            known[own, place] = times[moments[newest[own]] & 0xFFFFFFFF]
        last.append(known)
    last.finish()


def _write_facts(
    out: Path,
    log: SearchLog,
    prepared: PreparedData,
    config: PrepareConfig,
    plan: Plan,
    keys: list[str],
    semantic: bool,
) -> None:
    features = {"product": plan.product_features, "customer": plan.customer_features, "row": plan.row_features}
    facts: dict[str, Any] = {
        "version": STORE_VERSION,
        "log": log.manifest.fingerprint,
        "prepared": prepared.manifest.fingerprint,
        "config": config.model_dump(mode="json", exclude={"engine", "semantic_scores"}),
        "history": {**vars(plan.history)},
        "price_in_rows": plan.price_in_rows,
        "semantic": semantic,
        "keys": keys,
        "features": {home: [each.name for each in some] for home, some in features.items()},
        "spelling": (log.schema.spelling or AS_WRITTEN).model_dump(mode="json"),
        "categories": {
            each.name: vars(each.spelling) for each in plan.product_features if each.kind is Kind.CATEGORICAL
        },
        "numbers": {
            each.name: {"null_words": each.missing_words, "log1p": each.log1p}
            for some in features.values()
            for each in some
            if each.kind is Kind.NUMERICAL
        },
    }
    (out / STORE_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
