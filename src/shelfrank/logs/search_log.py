"""SearchLog: the data contract between a shop's raw logs and everything that follows.

A folder with Parquet tables, each a folder of part files:

- `impressions`: one row per product shown. `search_id`, `timestamp` (UTC), `customer_id` (null = anonymous),
  `session_id` (optional), `query`, `product_id`, `position` (1-based), the labels of `TASKS` (0, 1, or null where
  the source has no such signal), `randomised` (optional: 1 where the page was shown in random order, 0 where it was
  ranked, null where that is not known), and context columns.
- `products`: `product_id`, `title`, and product features.
- `customers`: `customer_id` and customer features.
- `events` (optional): actions of customers outside the results pages. `timestamp`, `product_id`, `customer_id` and/or
  `session_id`, `action` (text). They are history, never labels.

`schema.yaml` declares the features and the spelling of ids, categories and queries. A simulator may add `truth/`, from
which no feature is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from shelfrank.core.artifact import Manifest, read_manifest, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.schema import AS_WRITTEN, RANDOMISED, TASKS, Schema
from shelfrank.logs.spelling import SPELLING_VERSION

KIND = "search_log"
TABLES = ("impressions", "products", "customers", "events")
TRUTH_TABLES = ("truth/impressions", "truth/searches", "truth/products", "truth/customers")
SCHEMA_FILE = "schema.yaml"
REQUIRED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "impressions": ("search_id", "timestamp", "customer_id", "query", "product_id", "position", *TASKS),
    "products": ("product_id", "title"),
    "customers": ("customer_id",),
    "events": ("timestamp", "product_id", "action"),
}

COLUMN_TYPES: Mapping[str, pa.DataType] = {
    "search_id": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "customer_id": pa.string(),
    "session_id": pa.string(),
    "query": pa.string(),
    "product_id": pa.string(),
    "position": pa.int32(),
    "title": pa.string(),
    "action": pa.string(),
    RANDOMISED: pa.int8(),
    **{task: pa.int8() for task in TASKS},
}
"""Types of the reserved columns; writers cast to these."""


@dataclass(frozen=True)
class SearchLog:
    """A finished, validated search log on disk."""

    path: Path
    schema: Schema
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "SearchLog":
        """Opens a finished log.

        Args:
            path: Its folder.

        Returns:
            The log.

        Raises:
            UserError: Where it is missing, incomplete or truncated, or its ids follow another version of the spelling.
        """
        manifest = read_manifest(path, KIND)
        schema = Schema.load(path / SCHEMA_FILE)
        # Each version gives other ids for the same spelling in schema.yaml; a log without a spelling is unaffected.
        version = manifest.inputs.get("spelling")
        if schema.spelling not in (None, AS_WRITTEN) and version != SPELLING_VERSION:
            raise UserError(
                f"{path} must be a search log whose ids are spelled by version {SPELLING_VERSION} of the rules, but "
                f"it is of {'none' if version is None else f'version {version}'}; import it again"
            )
        return cls(path=path, schema=schema, manifest=manifest)

    def verify(self) -> None:
        """Compares every file with the hash in the manifest; a difference is a `UserError`."""
        verify_files(self.path, self.manifest)

    def has(self, table: str) -> bool:
        """Whether the log has this table."""
        return has_table(self.path, table)

    def files(self, table: str) -> list[str]:
        """The part files of a table, in their written order."""
        return table_files(self.path, table)


def has_table(folder: Path, table: str) -> bool:
    """Whether a log's folder, finished or not, has this table."""
    return (folder / table).is_dir() and any((folder / table).glob("*.parquet"))


def table_files(folder: Path, table: str) -> list[str]:
    """The part files of a table of a log's folder, in their written order."""
    return [str(file) for file in sorted((folder / table).glob("*.parquet"))]
