import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from shelfrank.core.parallel import end_with_parent, ordered_map


def test_results_come_in_order_while_later_items_run() -> None:
    second_started = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_started.wait(10), "the second item must run while the first does"
        elif item == 1:
            second_started.set()
        return item * item

    assert list(ordered_map(work, range(6), threads=2)) == [0, 1, 4, 9, 16, 25]


def test_an_error_comes_in_its_turn_and_ends_it() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    results = ordered_map(work, iter(range(10)), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


def test_items_are_taken_no_faster_than_results() -> None:
    taken: list[int] = []

    def items() -> object:
        for item in range(100):
            taken.append(item)
            yield item

    results = ordered_map(lambda item: item, items(), threads=2)
    next(results)
    assert len(taken) <= 4


def work_for_a_minute(pid: Path) -> None:
    pid.with_suffix(".part").write_text(str(os.getpid()))
    pid.with_suffix(".part").rename(pid)
    time.sleep(60)


def start_a_worker(pid: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        pool.submit(work_for_a_minute, pid).result()


def wait_until(condition) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(target=start_a_worker, args=(tmp_path / "pid",))
    parent.start()
    assert wait_until((tmp_path / "pid").exists)
    worker = int((tmp_path / "pid").read_text())
    assert is_alive(worker)

    os.kill(parent.pid, signal.SIGKILL)
    parent.join()

    assert wait_until(lambda: not is_alive(worker))
