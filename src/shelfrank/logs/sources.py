"""Every source that a search log can be imported from."""

from collections.abc import Callable, Mapping
from pathlib import Path

from shelfrank.errors import unknown_name
from shelfrank.logs.custom import import_custom
from shelfrank.logs.trivago import import_trivago

Importer = Callable[[Path, Path], bool]
"""Reads the first path (a file of the source, or a mapping) and writes the log at the second.

Returns whether it wrote; False means that the finished log of the same bytes is already there. What it left
out, by reason, is in the log's manifest under `left_out`.
"""

SOURCES: Mapping[str, Importer] = {
    "custom": import_custom,
    "trivago": import_trivago,
}


def import_source(name: str, path: Path, out: Path) -> bool:
    """Imports a log from the source of this name.

    Args:
        name: A key of `SOURCES`.
        path: The source's file.
        out: The folder of the log.

    Returns:
        Whether the log was written.

    Raises:
        UserError: Where there is no such source, or its file is wrong.
    """
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    return SOURCES[name](path, out)
