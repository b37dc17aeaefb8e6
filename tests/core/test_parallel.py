import threading

import pytest

from shelfrank.core.parallel import ordered_map


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
