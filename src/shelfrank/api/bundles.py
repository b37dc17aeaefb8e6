"""Bundles: exported, opened, asked for a page, rolled back."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import PlainValidator

from shelfrank.api.arguments import (
    Count,
    Ids,
    Location,
    Names,
    Precision,
    Share,
    VisitorId,
    checked,
    is_missing,
    optional_path,
    spoken,
)
from shelfrank.api.artifacts import Artifact
from shelfrank.core.artifact import Manifest, read_manifest
from shelfrank.core.errors import UserError

if TYPE_CHECKING:
    from shelfrank.bundle.loaded import Bundle as LoadedBundle
    from shelfrank.bundle.release import ReleaseComparison
    from shelfrank.serve.api import RankResponse


def _time(given: Any) -> Any:
    if is_missing(given):
        return None
    if isinstance(given, bool) or not isinstance(given, dt.datetime | str | int | float):
        raise ValueError("a date and time, or seconds since 1970")
    return given.isoformat(timespec="microseconds") if isinstance(given, dt.datetime) else given


Time = Annotated[dt.datetime | str | float | None, PlainValidator(_time)]


@dataclass(frozen=True)
class Bundle(Artifact):
    """One version of a bundle: everything that ranks a page, without the data it was trained on.

    Attributes:
        version: The version's name.
        precision: In which precision its graphs compute.
        comparisons: The run against what it replaces, where it was exported now.
    """

    kind: ClassVar[str] = "bundle"

    version: str = ""
    precision: Precision = "fp32"
    comparisons: "tuple[ReleaseComparison, ...]" = field(default=(), repr=False, compare=False)

    @classmethod
    @checked
    def open(cls, path: Location, precision: Precision = "fp32") -> "Bundle":
        """Opens the current version of a bundle.

        Args:
            path: The bundle's folder.
            precision: In which precision graphs compute, where they answer the golden pages in it; else in float32.

        Returns:
            The bundle, in memory.

        Raises:
            UserError: Where there is no complete version, or it does not answer its golden pages.
        """
        from shelfrank.bundle.golden import open_checked
        from shelfrank.bundle.store import BundleStore

        version = BundleStore(Path(path)).open()
        bundle = cls(Path(path), version=version.name, precision=precision)
        # Now, so that errors come when it is opened, and with files that have just been compared with the manifest.
        vars(bundle)["_loaded"] = open_checked(version.path, precision)[0]
        return bundle

    @property
    def folder(self) -> Path:
        """The version's own folder."""
        from shelfrank.bundle.store import VERSIONS

        return self.path / VERSIONS / self.version

    @property
    def manifest(self) -> Manifest:
        """The version's manifest."""
        return read_manifest(self.folder, self.kind)

    @property
    def n_bytes(self) -> int:
        """The size of the version's files."""
        return sum(entry["bytes"] for entry in self.manifest.files.values())

    @checked
    def rank(
        self,
        *,
        query: str,
        candidates: Ids,
        customer: VisitorId = None,
        session: VisitorId = None,
        timestamp: Time = None,
        customer_features: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        weight: float = 1.0,
        task_weights: Mapping[str, float] | None = None,
        top_n: int | None = None,
        explain: int = 0,
    ) -> "RankResponse":
        """Ranks a page as `POST /v1/rank` does, without a service: no deadline, and no events since the export.

        Args:
            query: What was typed.
            candidates: Product ids, or mappings with `id`, `score` (the engine's own) and `features` (such as today's
                price). Their order is the engine's, unless scores are given.
            customer: Who asks; None, or the NaN of a pandas column, is an anonymous visitor.
            session: The visit.
            timestamp: When; None is now.
            customer_features: Declared features of the customer that replace those of the bundle.
            context: Declared features of the page, such as the device.
            weight: How much the model's order counts against the engine's, from 0 to 1.
            task_weights: What fuses the tasks' scores; None takes the bundle's.
            top_n: Max results; None gives all.
            explain: Results, from the first on, that are explained.

        Returns:
            The response: `.results` are the products, best first, each with `id`, `rank`, `score` and the score of each
            task in `tasks`; `.unknown_ids`, `.missing_features` and `.unknown_features` say what the bundle did not
            know of the request.

        Raises:
            UserError: Where a value is not as it must be.
        """
        import time

        from pydantic import ValidationError

        from shelfrank.core.schema import one_sentence
        from shelfrank.serve.api import RankRequest, RankResponse
        from shelfrank.serve.pages import ranked_page, read_page
        from shelfrank.serve.ranking import rank_page

        started = time.perf_counter()
        body = {
            "query": query,
            "candidates": [_candidate(f"candidates.{place}", each) for place, each in enumerate(candidates)],
            "customer_id": customer,
            "session_id": session,
            "timestamp": timestamp,
            "customer": _features("customer_features", customer_features or {}),
            "context": _features("context", context or {}),
            "weight": weight,
            "task_weights": None if task_weights is None else dict(task_weights),
            "top_n": top_n,
            "explain": explain,
        }
        try:
            request = RankRequest.model_validate(body)
        except ValidationError as error:
            raise UserError(one_sentence("Bundle.rank", error)) from error
        page, options = read_page(request)
        ranked = rank_page(self._loaded, page, options)
        return RankResponse.model_validate(ranked_page(ranked, page.product_ids, started))

    @cached_property
    def _loaded(self) -> "LoadedBundle":
        from shelfrank.bundle.golden import open_checked
        from shelfrank.bundle.store import BundleStore

        return open_checked(BundleStore(self.path).verified(self.version).path, self.precision)[0]


@checked
def export(
    run: Location,
    *,
    out: Location,
    evaluation: Location | None = None,
    semantic: Location | None = None,
    int8: bool = True,
    vectors: Literal["fp32", "fp16"] = "fp32",
    replayed: Count = 500,
    require_better_than: Names = (),
    margin: Share = 0.0,
    compared: Count = 1000,
) -> Bundle:
    """Writes a run as a version of a bundle, checks it and points the bundle at it.

    Args:
        run: A finished run.
        out: The bundle's folder; older versions in it are kept.
        evaluation: An evaluation of the run, for the model card.
        semantic: The semantic scores of the data, where they are not beside it.
        int8: Adds graphs in 8-bit integers.
        vectors: Numbers in which the products' text vectors are kept.
        replayed: Test searches on which each precision is measured; 0 measures none.
        require_better_than: Publishes nothing unless the run's MRR@10 is above each of these, `shown_order` or
            `current`, by its whole interval.
        margin: Of MRR@10, by which `require_better_than` must be exceeded.
        compared: Test searches on which the run is compared with what it replaces; 0 compares none.

    Returns:
        The version that the bundle points at now; `.comparisons` has how the run compares with what it replaces.

    Raises:
        UserError: Where the run or its data cannot be read, a value is not as it must be, or the run is not better than
            it must be.
    """
    from shelfrank.bundle.export import ExportSettings
    from shelfrank.bundle.export import export as write
    from shelfrank.bundle.release import Gate, references

    required = references(require_better_than)
    if margin and not required:
        raise UserError("margin says by how much a run must be better, so it needs require_better_than; give both")
    exported = write(
        Path(run),
        Path(out),
        ExportSettings(int8=int8, vectors=vectors, replayed=replayed),
        optional_path(evaluation),
        optional_path(semantic),
        Gate(required, margin, compared),
    )
    return Bundle(Path(out), exported.changed, exported.version, comparisons=exported.comparisons)


@dataclass(frozen=True)
class BundleVersion:
    """A complete version of a bundle.

    Attributes:
        version: Its name.
        current: Whether it is the one that serves.
        label: How tables name its ranker.
        run: The run that it was exported from.
    """

    version: str
    current: bool
    label: str | None
    run: str | None


@checked
def bundle_versions(bundle: Location) -> Sequence[BundleVersion]:
    """Lists a bundle's complete versions, the oldest first.

    Args:
        bundle: A bundle's folder.

    Returns:
        The versions.

    Raises:
        UserError: Where no version is complete.
    """
    from shelfrank.bundle.store import BundleStore

    store = BundleStore(Path(bundle))
    current = store.open().name
    return [
        BundleVersion(each.name, each.name == current, each.manifest.info.get("label"), each.manifest.info.get("run"))
        for each in store.versions()
    ]


@checked
def rollback(bundle: Location, *, to: str | None = None) -> str:
    """Points a bundle at an older version; running services follow within seconds.

    Args:
        bundle: A bundle's folder.
        to: The version; None takes the one before the current.

    Returns:
        The version that serves now.

    Raises:
        UserError: Where there is no such version.
    """
    from shelfrank.bundle.store import BundleStore

    return BundleStore(Path(bundle)).rollback(to)


def _candidate(place: str, given: Any) -> Any:
    from pydantic import ValidationError

    from shelfrank.core.schema import one_sentence
    from shelfrank.serve.api import Candidate

    if not isinstance(given, Mapping):
        if isinstance(given, bool) or is_missing(given) or not isinstance(given, str | int | float):
            raise _wrong(place, "an id, or a dictionary with `id`", given)
        return given
    features = given.get("features", {})
    if not isinstance(features, Mapping):
        raise _wrong(f"{place}.features", "a dictionary", features)
    try:
        return Candidate.model_validate({**given, "features": _features(f"{place}.features", features)})
    except ValidationError as error:
        raise UserError(one_sentence(f"Bundle.rank: {place}", error)) from error


def _features(place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Feature values with None for the NaN of a pandas column."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str | int | float):
            raise _wrong(f"{place}.{name}", "a text, a number, or True or False", value)
    return {name: None if is_missing(value) else value for name, value in given.items()}


def _wrong(place: str, what: str, given: Any) -> UserError:
    return UserError(f"Bundle.rank: {place} must be {what}, but it is {spoken(given)}")
