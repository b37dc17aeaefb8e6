"""Small logs, and what is made of them, that tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from small_log import prepare_small_log, small_tables, write_small_log

# Before any numerical library starts its threads: tests run side by side, and the sums must not depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def make_log(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small log under the test's folder: `make_log(n_searches=200, name="log", seed=0)`."""

    def make(n_searches: int = 200, name: str = "log", seed: int = 0) -> Path:
        return write_small_log(tmp_path / name, small_tables(n_searches, seed))

    return make


@pytest.fixture(scope="session")
def small_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log prepared once for all tests, which must only read it; the log lies beside it."""
    return prepare_small_log(tmp_path_factory.mktemp("small"), small_tables(300, n_products=40))


@pytest.fixture(scope="session")
def click_only_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a shop that records clicks only."""
    tables = small_tables(200, seed=1)
    for row in tables["impressions"]:
        row.update(add_to_cart=None, purchase=None)
    return prepare_small_log(tmp_path_factory.mktemp("click_only"), tables)


@pytest.fixture(scope="session")
def small_runs(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every ranker trained once for all tests, which must only read the runs."""
    from shelfrank.rankers import RANKERS
    from shelfrank.rankers.run import train
    from tiny import tiny

    folder = tmp_path_factory.mktemp("runs")
    for name in RANKERS:
        train(small_prepared, name, tiny(name), folder / name)
    return {name: folder / name for name in RANKERS}
