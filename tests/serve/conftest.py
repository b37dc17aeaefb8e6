"""A bundle exported once, and services on it."""

import asyncio
import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import HOSTILE_QUERY, HOSTILE_TITLES, SERVED, ready_client, shared_client
from starlette.testclient import TestClient

from shelfrank.bundle.spec import Precision
from shelfrank.bundle.store import BundleStore
from shelfrank.serve.journal import Journal
from shelfrank.serve.service import Overload, Service


@pytest.fixture(scope="session")
def bundle_path(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle with one version, which tests must only read."""
    from shelfrank.bundle.export import ExportSettings, export
    from shelfrank.rankers.run import train
    from tiny import tiny

    folder = tmp_path_factory.mktemp("served")
    train(small_prepared, SERVED, tiny(SERVED), folder / "run")
    export(folder / "run", folder / "bundle", ExportSettings(int8=False, golden_pages=3, replayed=0))
    return folder / "bundle"


@pytest.fixture(scope="session")
def shop_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a shop with enough products a query to rank, some of whose texts are hostile; only to be read."""
    from shelfrank.bundle.export import ExportSettings, export
    from shelfrank.config import PrepareConfig
    from shelfrank.prepare.pipeline import prepare
    from shelfrank.rankers.run import train
    from small_log import small_tables, write_small_log
    from tiny import tiny

    folder = tmp_path_factory.mktemp("shop")
    tables = small_tables(300, n_products=75)
    for product, title in zip(tables["products"], HOSTILE_TITLES, strict=False):
        product["title"] = f"{title} sofa"
    for row in tables["impressions"]:
        if row["search_id"].endswith("7"):
            row["query"] = HOSTILE_QUERY
    write_small_log(folder / "log", tables)
    prepare(folder / "log", folder / "prepared", PrepareConfig())
    train(folder / "prepared", "mmoe_dcn_v2", tiny("mmoe_dcn_v2"), folder / "run")
    export(folder / "run", folder / "bundle", ExportSettings(int8=False, golden_pages=3, replayed=0))
    return folder / "bundle"


@pytest.fixture(scope="session", autouse=True)
def collect_new_objects_only() -> Iterator[None]:
    """A service that loads has the collector pass over everything, which is much where other tests' modules are."""

    def freeze() -> None:
        gc.collect()
        gc.freeze()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shelfrank.serve.service._freeze_objects", freeze)
        yield


@pytest.fixture(scope="session", autouse=True)
def start_no_children() -> Iterator[None]:
    """A service in this process checks what it loads in this process alone: each child takes a second or more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shelfrank.serve.version_checks.VersionChecks._run", lambda self, version: (None, None))
        yield


@pytest.fixture
def own_bundle(bundle_path: Path, tmp_path: Path) -> BundleStore:
    """A copy that a test may change."""
    shutil.copytree(bundle_path, tmp_path / "bundle")
    return BundleStore(tmp_path / "bundle")


@pytest.fixture(scope="session")
def client(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service that is ready, which tests must send no events and ask for no counts."""
    with shared_client(bundle_path, tmp_path_factory.mktemp("state")) as ready:
        yield ready


@pytest.fixture(scope="session")
def shop_client(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The same of a service with the page."""
    with shared_client(shop_bundle, tmp_path_factory.mktemp("state"), has_page=True) as ready:
        yield ready


@pytest.fixture
def make_service(bundle_path: Path, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes loaded services: `make_service(deadline_s=0.1)`."""
    made: list[Service] = []

    def make(
        store: BundleStore | None = None,
        load: bool = True,
        deadline_s: float = 30.0,
        has_page: bool = False,
        precision: Precision = "fp32",
        overload: Overload = "refuse",
    ) -> Service:
        service = Service(
            store or BundleStore(bundle_path),
            Journal(tmp_path / "state"),
            precision=precision,
            deadline_s=deadline_s,
            has_page=has_page,
            overload=overload,
        )
        if load:
            asyncio.run(service.start())
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


@pytest.fixture
def own_client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    """A client of a service that no other test calls."""
    with ready_client(make_service()) as ready:
        yield ready
