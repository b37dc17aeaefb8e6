"""Small logs, and what is made of them, that tests share."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from small_log import prepare_small_log, small_tables, write_small_log

# Before any numerical library starts its threads: tests run side by side, and the sums must not depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SharedFolder = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture
def make_log(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small log under the test's folder: `make_log(n_searches=200, name="log", seed=0)`."""

    def make(n_searches: int = 200, name: str = "log", seed: int = 0) -> Path:
        return write_small_log(tmp_path / name, small_tables(n_searches, seed))

    return make


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> SharedFolder:
    """Makes a folder once for all processes of a run: `shared_folder("logs", write_logs)`; tests must only read it."""
    base = tmp_path_factory.getbasetemp()
    # Beside the base folders of the processes that share the tests.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def share(name: str, make: Callable[[Path], object]) -> Path:
        folder, finished = shared / name, shared / f"{name}.finished"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder

    return share


@pytest.fixture(scope="session")
def small_prepared(shared_folder: SharedFolder) -> Path:
    """A small log prepared once for all tests, which must only read it; the log lies beside it."""
    tables = small_tables(300, n_products=40)
    return shared_folder("small", lambda folder: prepare_small_log(folder, tables)) / "prepared"


@pytest.fixture(scope="session")
def click_only_prepared(shared_folder: SharedFolder) -> Path:
    """The same for a shop that records clicks only."""
    tables = small_tables(200, seed=1)
    for row in tables["impressions"]:
        row.update(add_to_cart=None, purchase=None)
    return shared_folder("click_only", lambda folder: prepare_small_log(folder, tables)) / "prepared"


@pytest.fixture(scope="session")
def small_runs(small_prepared: Path, shared_folder: SharedFolder) -> dict[str, Path]:
    """Every ranker trained once for all tests, which must only read the runs."""
    from shelfrank.rankers import RANKERS
    from shelfrank.rankers.run import train
    from tiny import tiny
    from tiny_encoder import save_tiny_bert

    def make(folder: Path) -> None:
        # Named like the encoder of `tiny`, which ends with its process.
        encoder = save_tiny_bert(folder / "tiny")
        for name in RANKERS:
            text = [f"neural.text.model={encoder}"] if "text" in name else []
            train(small_prepared, name, tiny(name, *text), folder / name)

    folder = shared_folder("runs", make)
    return {name: folder / name for name in RANKERS}


@pytest.fixture(scope="session")
def small_evaluations(small_runs: dict[str, Path], shared_folder: SharedFolder) -> dict[str, Path]:
    """Each of these runs measured once as `TINY_EVALUATION` says, for all tests, which must only read it."""
    from shelfrank.evaluate.evaluation import evaluate
    from tiny import TINY_EVALUATION

    def make(folder: Path) -> None:
        for name, run in small_runs.items():
            assert evaluate(run, folder / name, TINY_EVALUATION)

    folder = shared_folder("evaluations", make)
    return {name: folder / name for name in small_runs}


@pytest.fixture(scope="session")
def small_folds(shared_folder: SharedFolder) -> Path:
    """A folder with a small log, some of its pages randomised, and its three forward folds, which tests only read.

    `log`, `prepared`, and below `runs` the rankers `shown_order` and `lambdamart`, trained on each fold.
    """
    from shelfrank.config import PrepareConfig, SplitConfig
    from shelfrank.prepare.pipeline import prepare
    from shelfrank.rankers.run import train
    from tiny import tiny

    def make(folder: Path) -> None:
        tables = small_tables(160, seed=3)
        for row in tables["impressions"]:
            # The first search of ten has no mark, and no page of the first test window is randomised.
            number = int(row["search_id"].removeprefix("s"))
            row["randomised"] = None if number % 10 == 0 else int(number % 3 == 0 and number >= 110)
        write_small_log(folder / "log", tables)
        split = SplitConfig(by="forward", train=0.4, valid=0.1, folds=3)
        prepare(folder / "log", folder / "prepared", PrepareConfig(split=split))
        for name in ("shown_order", "lambdamart"):
            train(folder / "prepared", name, tiny(name), folder / "runs" / name)

    return shared_folder("folds", make)
