"""Simulates a small shop and prints a hash of every number and text of its log, truth included.

Usage: python hash_log.py
"""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shelfrank.logs.search_log import SearchLog
from shelfrank.simulator import StorefrontConfig, simulate

CONFIG = StorefrontConfig(searches=1_200, products=1_500, customers=300, days=21)
TABLES = (
    "products", "customers", "impressions",
    "truth/products", "truth/customers", "truth/searches", "truth/impressions",
)  # fmt: skip


def hash_log(path: Path) -> str:
    """The hash of a log's values, whatever files they lie in and however these are compressed."""
    log, digest = SearchLog.open(path), hashlib.sha256()
    for table in TABLES:
        rows = pa.concat_tables([pq.read_table(file) for file in log.files(table)])
        for column in sorted(rows.column_names):
            digest.update(f"{table}.{column}".encode())
            digest.update(_bytes(rows[column].combine_chunks()))
    return digest.hexdigest()


def _bytes(values: pa.Array) -> bytes:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        content = "\0".join(values.fill_null("").to_pylist()).encode()
    else:
        if pa.types.is_timestamp(values.type):
            values = pc.cast(values, pa.int64())
        zero = pa.scalar(0).cast(values.type)
        content = np.ascontiguousarray(values.fill_null(zero).to_numpy(zero_copy_only=False)).tobytes()
    return np.packbits(missing).tobytes() + content


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder) / "log", CONFIG)
        print(hash_log(Path(folder) / "log"))
