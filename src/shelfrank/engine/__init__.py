"""Engines that run the same ibis expressions: DuckDB in this process, Spark on a cluster."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from shelfrank.config import EngineConfig
from shelfrank.engine.base import Engine
from shelfrank.engine.embedded import open_embedded


@contextlib.contextmanager
def open_engine(config: EngineConfig, scratch: Path, log: Path) -> Iterator[Engine]:
    """Opens the engine that the config names.

    Args:
        config: The engine and its limits.
        scratch: A local folder for its tables.
        log: The log's folder.

    Yields:
        The engine, closed at the end of the block.

    Raises:
        UserError: Where the engine is not available, or runs out of memory or disk.
    """
    if config.name == "spark":
        from shelfrank.engine.spark import open_spark

        with open_spark(config, scratch, log) as spark:
            yield spark
    else:
        with open_embedded(config, scratch) as embedded:
            yield embedded
