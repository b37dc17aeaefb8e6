"""Prepares a log and opens its store; scores of random embeddings."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.config import PrepareConfig
from shelfrank.core.artifact import publish
from shelfrank.data.prepared import PreparedData
from shelfrank.features.build_store import build_store
from shelfrank.features.store import FeatureStore
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.pipeline import prepare
from shelfrank.text import scores


def open_store(folder: Path, log: Path, config: PrepareConfig) -> tuple[PreparedData, FeatureStore]:
    """Prepares a log under a folder and opens the store of both."""
    prepare(log, folder / "prepared", config)
    given = None if config.semantic_scores is None else Path(config.semantic_scores)
    build_store(log, folder / "prepared", folder / "store", given, config.engine)
    return PreparedData.open(folder / "prepared"), FeatureStore.open(folder / "store")


def write_random_scores(out: Path, log_path: Path, d: int = 24) -> Path:
    """Scores whose embeddings are random; every seventh product has no text."""
    log, rng = SearchLog.open(log_path), np.random.default_rng(0)
    queries = sorted({query for file in log.files("impressions") for query in column(file, "query")})
    ids = sorted({product for file in log.files("products") for product in column(file, "product_id")})
    with publish(out, scores.KIND, {"log": log.manifest.fingerprint, "tuned_on": None}) as draft:
        pq.write_table(pa.table({"query": queries}), draft.path / scores.QUERIES)
        pq.write_table(pa.table({"product_id": ids}), draft.path / scores.PRODUCTS)
        of_queries, of_products = (rng.normal(size=(len(some), d)).astype(np.float16) for some in (queries, ids))
        of_products[::7] = np.nan
        np.save(draft.path / scores.QUERY_EMBEDDINGS, of_queries)
        np.save(draft.path / scores.PRODUCT_EMBEDDINGS, of_products)
    return out


def column(file: str, name: str) -> list[str]:
    return pq.read_table(file, columns=[name])[name].to_pylist()
