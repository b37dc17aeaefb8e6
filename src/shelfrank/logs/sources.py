"""Every source that a search log can be imported from."""

from collections.abc import Callable, Mapping
from pathlib import Path

from shelfrank.core.errors import UserError, unknown_name
from shelfrank.logs.bestbuy import import_bestbuy
from shelfrank.logs.custom import import_custom
from shelfrank.logs.homedepot import import_homedepot
from shelfrank.logs.kuaisearch import import_kuaisearch
from shelfrank.logs.trivago import import_trivago
from shelfrank.logs.ubi.importer import import_ubi

Importer = Callable[[Path, Path], bool]
"""Reads the source (a file, folder or mapping) at the first path and writes the log at the second.

Returns whether the log was written; False if the finished log of the same bytes is already there. The manifest counts
what was left out, by reason, under `left_out`.
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
    """Imports a log from a source.

    Args:
        name: A key of `SOURCES`.
        path: The source's file or folder.
        out: The folder of the log.
        first_ordinal: For `ubi` alone; see `import_ubi`.

    Returns:
        Whether the log was written.

    Raises:
        UserError: Where there is no such source, or its files are invalid.
    """
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    if name == "ubi":
        return import_ubi(path, out, first_ordinal)
    if first_ordinal is not None:
        raise UserError(
            f"`first_ordinal` must be given with the source ubi only, but the source is {name}; leave it out"
        )
    return SOURCES[name](path, out)
