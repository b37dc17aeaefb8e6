"""Search logs: simulated, imported from files or tables in memory, validated."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from shelfrank.api.arguments import Location, Ordinal, checked, optional_path
from shelfrank.api.artifacts import Artifact
from shelfrank.config import resolve

if TYPE_CHECKING:
    from shelfrank.logs.violation import Violation


@dataclass(frozen=True)
class SearchLog(Artifact):
    """A validated search log."""

    kind: ClassVar[str] = "search_log"

    @classmethod
    @checked
    def from_frames(
        cls,
        *,
        impressions: Any,
        out: Location,
        products: Any = None,
        customers: Any = None,
        events: Any = None,
        columns: Mapping[str, Mapping[str, Any]] | None = None,
        features: Mapping[str, Any] | None = None,
        name: str = "log",
        **settings: Any,
    ) -> "SearchLog":
        """Imports tables in memory by the rules of `import_log("custom", ...)`.

        A table is of pandas, Polars or Arrow, or of any library that exports an Arrow stream. A column that is called
        like a role, such as `search_id`, `timestamp`, `query`, `product_id`, `position` or `click`, has this role;
        `columns` and `features` say what other columns are; any other is not used.

        Args:
            impressions: One row per product shown.
            out: The folder of the log.
            products: One row per product; None takes what the impressions say of products.
            customers: One row per customer; None takes what the impressions say of customers.
            events: What customers did outside the results pages; None has none.
            columns: By table and column, its use or uses as in a `mapping.yaml`, such as
                `{"impressions": {"page": "search_id"}}`.
            features: By column, the feature that it is, such as
                `{"brand": {"side": "product", "kind": "categorical"}}`.
            name: What the log is called.
            **settings: Other keys of a `mapping.yaml`, such as `timestamp_unit="s"`.

        Returns:
            The log.

        Raises:
            UserError: Where a table cannot be read, a column is unknown, or the rows break the data contract.

        Example:
            >>> SearchLog.from_frames(impressions=clicks, out="log")  # doctest: +SKIP
            SearchLog(path=PosixPath('log'), changed=True)
        """
        from shelfrank.logs.frames import import_frames

        given = {"impressions": impressions, "products": products, "customers": customers, "events": events}
        frames = {table: frame for table, frame in given.items() if frame is not None or table == "impressions"}
        return cls(Path(out), import_frames(frames, Path(out), name, columns or {}, features or {}, settings))


@checked
def simulate(*, out: Location, config: Location | None = None, **settings: Any) -> SearchLog:
    """Simulates the log of a shop whose truth is known.

    Args:
        out: The folder of the log.
        config: YAML with any keys of `StorefrontConfig`.
        **settings: The same keys, such as `searches=3000`; they win over `config`.

    Returns:
        The log.

    Raises:
        UserError: Where a setting is not as it must be, or `out` holds something else.
    """
    from shelfrank.simulator.config import StorefrontConfig
    from shelfrank.simulator.simulate import simulate as run

    return SearchLog(Path(out), run(Path(out), resolve(StorefrontConfig, optional_path(config), settings=settings)))


@checked
def import_log(source: str, path: Location, *, out: Location, first_ordinal: Ordinal | None = None) -> SearchLog:
    """Turns raw logs into a validated search log.

    Args:
        source: Name of the source's format, such as `custom`, `trivago` or `ubi`.
        path: The source's file or folder, or the `mapping.yaml` of a custom one.
        out: The folder of the log.
        first_ordinal: Ordinal of the topmost product in UBI's impression events.

    Returns:
        The log.

    Raises:
        UserError: Where there is no such source, or its files break the data contract.
    """
    from shelfrank.logs.sources import import_source

    return SearchLog(Path(out), import_source(source, Path(path), Path(out), first_ordinal))


@checked
def validate(log: Location, *, strict: bool = False) -> "list[Violation]":
    """Finds every violation of the data contract; it writes nothing.

    Args:
        log: A search log, finished or not.
        strict: Purchases and carts without a click are errors.

    Returns:
        The violations, each with `severity`, `count` and `examples`; none where the log is as it must be.

    Raises:
        UserError: Where there is no such folder.
    """
    from shelfrank.logs.validate import validate as run

    return run(Path(log), "error" if strict else "warning")
