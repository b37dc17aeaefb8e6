"""Every source that a search log can be imported from."""

from collections.abc import Callable, Mapping
from pathlib import Path

from shelfrank.core.errors import UserError, unknown_name
from shelfrank.logs.bestbuy import import_bestbuy
from shelfrank.logs.custom import import_custom
from shelfrank.logs.homedepot import import_homedepot
from shelfrank.logs.kuaisearch import import_kuaisearch
from shelfrank.logs.trivago import import_trivago
from shelfrank.logs.ubi import import_ubi

Importer = Callable[[Path, Path], bool]
"""Reads the first path (a file or folder of the source, or a mapping) and writes the log at the second.

Returns whether it wrote; False means that the finished log of the same bytes is already there. What it left
out, by reason, is in the log's manifest under `left_out`.
"""

SOURCES: Mapping[str, Importer] = {
    "bestbuy": import_bestbuy,
    "custom": import_custom,
    "homedepot": import_homedepot,
    "kuaisearch": import_kuaisearch,
    "trivago": import_trivago,
    "ubi": import_ubi,
}


def import_source(name: str, path: Path, out: Path, first_ordinal: int | None = None) -> bool:
    """Imports a log from the source of this name.

    Args:
        name: A key of `SOURCES`.
        path: The source's file or folder.
        out: The folder of the log.
        first_ordinal: For `ubi` alone; see `import_ubi`.

    Returns:
        Whether the log was written.

    Raises:
        UserError: Where there is no such source, or its file is wrong.
    """
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    if name == "ubi":
        return import_ubi(path, out, first_ordinal)
    if first_ordinal is not None:
        raise UserError(f"`first_ordinal` must be given with the source ubi only, but the source is {name}")
    return SOURCES[name](path, out)
