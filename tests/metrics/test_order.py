import numpy as np
import pytest
from hypothesis import given
from metric_cases import Pages, few_pages, no_pages, page, simulated

from shelfrank.core.errors import UserError
from shelfrank.metrics import order as order_module
from shelfrank.metrics.order import ranking_order, served_order


def order_by_sorted(pages: Pages) -> list[int]:
    order = []
    for rows in pages.pages:
        of_page = range(rows.start, rows.stop)
        order += sorted(of_page, key=lambda row: (-pages.scores[row], int(pages.tie_keys[row])))
    return order


@given(few_pages())
def test_sorts_each_page_by_score_and_then_by_key(pages: Pages) -> None:
    order = ranking_order(pages.scores, pages.search_offsets, pages.tie_keys)
    assert order.tolist() == order_by_sorted(pages)


def test_pages_sorted_in_blocks_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = simulated(n_searches=50, seed=1)
    monkeypatch.setattr(order_module, "MAX_BLOCK_ROWS", 7)
    order = ranking_order(pages.scores, pages.search_offsets, pages.tie_keys)
    assert order.tolist() == order_by_sorted(pages)


def test_no_search_has_an_empty_order() -> None:
    pages = no_pages()
    assert ranking_order(pages.scores, pages.search_offsets, pages.tie_keys).shape == (0,)


def test_equal_keys_matter_only_where_scores_tie() -> None:
    apart = page([0.1, 0.2], [0, 0], keys=[7, 7])
    assert ranking_order(apart.scores, apart.search_offsets, apart.tie_keys).tolist() == [1, 0]
    tied = page([0.2, 0.1, 0.2], [0, 0, 0], keys=[7, 8, 7])
    with pytest.raises(UserError, match="1 rows share both score and key"):
        ranking_order(tied.scores, tied.search_offsets, tied.tie_keys)


@pytest.mark.usefixtures("unchecked_shapes")
def test_refuses_keys_that_may_have_been_rounded() -> None:
    with pytest.raises(UserError, match="unsigned 64-bit integers, but their type is float64"):
        ranking_order(np.zeros(2), np.array([0, 2]), np.array([1.0, 2.0]))


@given(few_pages())
def test_served_pages_keep_the_engines_order_where_scores_tie(pages: Pages) -> None:
    positions = np.random.default_rng(0).permutation(len(pages.scores)) + 1
    wanted = []
    for rows in pages.pages:
        wanted += sorted(range(rows.start, rows.stop), key=lambda row: (-pages.scores[row], positions[row]))
    assert served_order(pages.scores, pages.search_offsets, positions).tolist() == wanted


def test_served_order_refuses_what_cannot_be_sorted() -> None:
    with pytest.raises(UserError, match="scores must be finite"):
        served_order(np.array([np.nan, 1.0]), np.array([0, 2]), np.array([1, 2]))
