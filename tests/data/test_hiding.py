"""What is hidden in training: which columns together, how often, and the same whatever the batches are."""

from dataclasses import replace

import numpy as np
import pytest

from planted_shop import ROWS_PER_SEARCH, planted
from shelfrank.core.schema import Side
from shelfrank.data.batch import ShuffledBatches, SplitRows
from shelfrank.data.hiding import MAX_SHARE, MAX_TOGETHER, MIN_ROWS, Hiding
from shelfrank.data.prepared import Column

SHOP = planted(2_000, seed=0).rows
SHARE = 0.05
PRICE, PRICE_MISSING, AGE, AGE_MISSING = range(4)
MAKER, SEGMENT, DEVICE = range(3)


def test_each_feature_is_hidden_alone_and_customer_and_product_as_a_whole() -> None:
    units = {unit.name: unit for unit in Hiding(SHOP, SHARE, seed=0).units}
    assert list(units) == ["the customer", "the product", "price", "age", "maker", "segment", "device"]
    customer, product, age, price = (units[name] for name in ("the customer", "the product", "age", "price"))
    assert (customer.numerical, customer.categorical, customer.by_search) == ((AGE, AGE_MISSING), (SEGMENT,), True)
    assert (product.numerical, product.categorical, product.by_search) == ((PRICE, PRICE_MISSING), (MAKER,), False)
    assert (age.numerical, age.categorical, age.by_search) == ((AGE, AGE_MISSING), (), True)
    assert (price.numerical, price.by_search) == ((PRICE, PRICE_MISSING), False)
    assert [units[name].by_search for name in ("maker", "segment", "device")] == [False, True, True]
    assert [unit.whole for unit in units.values()] == [True, True, *[False] * 5]
    # Four of the search and three of the row come to 20 and to 15 %.
    assert [unit.share for unit in units.values() if unit.by_search] == [pytest.approx(MAX_TOGETHER / 4)] * 4
    assert [unit.share for unit in units.values() if not unit.by_search] == [pytest.approx(SHARE)] * 3


def test_hidden_values_are_those_of_unknown_ones_and_the_rest_stays() -> None:
    hiding = Hiding(SHOP, SHARE, seed=3)
    numerical, codes = SHOP.numerical.copy(), SHOP.categorical.copy()
    hiding.hide(numerical, codes, np.arange(SHOP.n_rows))
    of_numbers, hiding_codes = hiding.hidden(np.arange(SHOP.n_rows), 0)
    of_codes = hiding_codes >= 0
    missing = np.broadcast_to([column.missing for column in SHOP.numerical_columns], numerical.shape)
    np.testing.assert_array_equal(numerical, np.where(of_numbers, missing, SHOP.numerical).astype(np.float32))
    np.testing.assert_array_equal(codes, np.where(of_codes, 0, SHOP.categorical))
    # A value and its flag go together; alone and as a whole give twice the share.
    np.testing.assert_array_equal(of_numbers[:, AGE], of_numbers[:, AGE_MISSING])
    np.testing.assert_allclose(of_codes.mean(axis=0), [0.1, 0.075, 0.0375], atol=0.015)
    by_search = of_codes[:, SEGMENT].reshape(-1, ROWS_PER_SEARCH)
    assert (by_search.all(axis=1) == by_search.any(axis=1)).all()
    assert not (of_codes[:, MAKER].reshape(-1, ROWS_PER_SEARCH).all(axis=1)).any()
    # Of a customer as a whole nothing is left.
    whole = of_numbers[:, AGE] & of_codes[:, SEGMENT]
    assert 0.025 < whole.mean() < 0.05


def test_of_a_search_and_of_a_row_one_thing_is_hidden_and_most_rows_stay_whole() -> None:
    n = 30
    columns = tuple(Column(f"f{i}", Side.CUSTOMER if i % 2 else Side.PRODUCT, 5, 0.0, 0.0) for i in range(n))
    rows = replace(SHOP, categorical=np.ones((SHOP.n_rows, n), np.int32), categorical_columns=columns)
    hiding = Hiding(rows, 0.1, seed=0)
    shares = [sum(unit.share for unit in hiding.units if unit.by_search == each) for each in (True, False)]
    assert shares == [pytest.approx(MAX_TOGETHER)] * 2
    of_numbers, codes = hiding.hidden(np.arange(rows.n_rows), 0)
    touched = of_numbers.any(axis=1) | (codes >= 0).any(axis=1)
    assert touched.mean() == pytest.approx(1 - (1 - MAX_TOGETHER) ** 2, abs=0.02)
    assert "27.7% of the rows have something hidden" in hiding.notes()[0]
    # One feature, or a side as a whole.
    for side in (0, 1):
        n_hidden = (codes[:, side::2] >= 0).sum(axis=1)
        assert set(n_hidden.tolist()) == {0, 1, n // 2}
    assert hiding.units[0].share > 0


def test_a_share_of_few_features_is_not_scaled_down() -> None:
    rows = replace(SHOP.select(names=["segment", "age", "age__missing", "price", "price__missing"]))
    shares = {unit.name: unit.share for unit in Hiding(rows, 0.12, seed=0).units}
    assert shares == {"maker": pytest.approx(0.12), "device": pytest.approx(0.12)}


def test_what_is_unknown_often_enough_is_left_as_it_is() -> None:
    codes = SHOP.categorical.copy()
    codes[: SHOP.n_rows // 10, DEVICE] = 0
    codes[: SHOP.n_rows // 50, MAKER] = 0
    shares = {unit.name: unit.share for unit in Hiding(replace(SHOP, categorical=codes), SHARE, seed=0).units}
    assert "device" not in shares
    assert shares["maker"] == pytest.approx((0.05 - 0.02) / 0.98)
    assert shares["segment"] == pytest.approx(SHARE)


def test_anonymous_visitors_of_the_log_are_customers_of_whom_nothing_is_known() -> None:
    anonymous = SHOP.neutral("anonymous")
    cut = SHOP.n_rows // 5
    rows = replace(
        SHOP,
        numerical=np.concatenate([anonymous.numerical[:cut], SHOP.numerical[cut:]]),
        categorical=np.concatenate([anonymous.categorical[:cut], SHOP.categorical[cut:]]),
    )
    names = [unit.name for unit in Hiding(rows, SHARE, seed=0).units]
    assert names == ["the product", "price", "maker", "device"]


def test_a_default_category_is_not_what_is_hidden() -> None:
    columns = tuple(
        replace(column, zero=2.0, mean=2.0, missing=2.0) if column.name == "segment" else column
        for column in SHOP.categorical_columns
    )
    rows, codes = replace(SHOP, categorical_columns=columns), SHOP.categorical.copy()
    # No training row has the default: none is an anonymous visitor's.
    codes[codes[:, SEGMENT] == 2, SEGMENT] = 3
    rows = replace(rows, categorical=codes.copy())
    hiding = Hiding(rows, SHARE, seed=0)
    numerical = SHOP.numerical.copy()
    hiding.hide(numerical, codes, np.arange(SHOP.n_rows))
    hidden = codes[:, SEGMENT] != rows.categorical[:, SEGMENT]
    anonymous = numerical[:, AGE_MISSING] == 1
    # Alone it is unknown; with all else of the customer it is an anonymous visitor's.
    assert set(codes[hidden & ~anonymous, SEGMENT].tolist()) == {0}
    assert set(codes[hidden & anonymous, SEGMENT].tolist()) == {2}
    neutral = rows.neutral("anonymous")
    both = hidden & anonymous
    np.testing.assert_array_equal(codes[both, SEGMENT], neutral.categorical[both, SEGMENT])
    np.testing.assert_array_equal(numerical[both, AGE:], neutral.numerical[both, AGE:])


def test_a_customer_of_one_feature_with_a_default_is_hidden_as_a_visitor_and_as_unknown() -> None:
    columns = tuple(replace(c, missing=4.0) if c.name == "segment" else c for c in SHOP.categorical_columns)
    codes = np.minimum(SHOP.categorical, 3)
    rows = replace(SHOP, categorical_columns=columns, categorical=codes).select(names=["age", "age__missing"])
    hidden = codes.copy()
    Hiding(rows, SHARE, seed=0).hide(rows.numerical.copy(), hidden, np.arange(rows.n_rows))
    assert set(hidden[hidden[:, SEGMENT] != codes[:, SEGMENT], SEGMENT].tolist()) == {0, 4}


def test_computed_numbers_of_products_are_never_hidden_and_those_of_customers_as_a_whole() -> None:
    columns = (Column("rate", Side.PRODUCT, 0, 0.0, 0.0), Column("visits", Side.CUSTOMER, 0, -1.0, 0.0, -1.0))
    rows = replace(
        SHOP,
        numerical=np.ones((SHOP.n_rows, 2), np.float32),
        categorical=np.zeros((SHOP.n_rows, 0), np.int32),
        numerical_columns=columns,
        categorical_columns=(),
    )
    (unit,) = Hiding(rows, SHARE, seed=0).units
    assert (unit.name, unit.numerical, unit.categorical) == ("the customer", (1,), ())


@pytest.mark.parametrize(("n_searches", "aim"), [(10, MAX_SHARE), (1_000, MIN_ROWS / 15_000), (4_000, 0.02)])
def test_small_splits_hide_more(n_searches: int, aim: float) -> None:
    hiding = Hiding(planted(n_searches, seed=0).rows, 0.02, seed=0)
    for by_search, n in ((True, 4), (False, 3)):
        shares = [unit.share for unit in hiding.units if unit.by_search == by_search]
        assert shares == [pytest.approx(min(aim, MAX_TOGETHER / n))] * n


def test_nothing_is_hidden_where_nothing_shall_be() -> None:
    hiding = Hiding(SHOP, 0.0, seed=0)
    assert hiding.units == ()
    assert hiding.notes() == []
    of_numbers, codes = hiding.hidden(np.arange(50), 0)
    assert not of_numbers.any()
    assert (codes < 0).all()
    assert Hiding(planted(0, seed=0).rows, SHARE, seed=0).units == ()


def test_batches_of_any_size_and_share_hide_the_same_values_and_another_epoch_others() -> None:
    def epoch_of(batch_size: int, epoch: int, seed: int = 0, first_step: int = 0) -> dict[int, tuple[float, ...]]:
        batches = ShuffledBatches(SplitRows(SHOP), batch_size, seed=5, hiding=Hiding(SHOP, SHARE, seed))
        return {
            int(place): (*batch.numerical[i].tolist(), *batch.categorical[i].tolist())
            for batch in batches.epoch(epoch, first_step)
            for i, place in enumerate(batch.product_idx)
        }

    one = epoch_of(4_096, 1)
    assert len(one) == SHOP.n_rows
    assert epoch_of(977, 1) == one
    late = epoch_of(977, 1, first_step=20)
    assert 0 < len(late) < len(one)
    assert late == {place: one[place] for place in late}
    assert epoch_of(4_096, 2) != one
    assert epoch_of(4_096, 1, seed=1) != one
    halves = [Hiding(SHOP, SHARE, 0).hidden(rows, 1)[1] for rows in np.array_split(np.arange(SHOP.n_rows), 3)]
    np.testing.assert_array_equal(np.concatenate(halves), Hiding(SHOP, SHARE, 0).hidden(np.arange(SHOP.n_rows), 1)[1])


def test_what_is_computed_of_a_feature_is_hidden_with_it() -> None:
    share, rank, flag = (
        Column("query_maker_share", Side.INTERACTION, 0, -1.0, 0.0, -1.0, ("maker",)),
        Column("page_price_rank", Side.INTERACTION, 0, -2.0, 0.0, 0.25, ("price",)),
        SHOP.numerical_columns[PRICE_MISSING],
    )
    columns = (SHOP.numerical_columns[PRICE], flag, share, rank)
    rows = replace(SHOP, numerical=np.full((SHOP.n_rows, 4), 0.5, np.float32), numerical_columns=columns)
    hiding = Hiding(rows, SHARE, seed=0)
    units = {unit.name: unit.numerical for unit in hiding.units}
    assert (units["maker"], units["price"], units["the product"]) == ((2,), (0, 1, 3), (0, 1, 2, 3))
    numerical, codes = rows.numerical.copy(), rows.categorical.copy()
    hiding.hide(numerical, codes, np.arange(rows.n_rows))
    np.testing.assert_array_equal(numerical[:, 2] == -1.0, codes[:, MAKER] == 0)
    np.testing.assert_array_equal(numerical[:, 3] == 0.25, numerical[:, 1] == 1.0)
    assert 0 < (codes[:, MAKER] == 0).sum() < rows.n_rows
