"""What is hidden in training: which columns together, how often, and the same whatever the batches are."""

from dataclasses import replace

import numpy as np
import pytest

from planted_shop import ROWS_PER_SEARCH, planted
from shelfrank.data.batch import Rows, ShuffledBatches
from shelfrank.data.hiding import FEWEST_ROWS, MOST_SHARE, Hiding
from shelfrank.data.prepared import Column
from shelfrank.schema import Side

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
    assert {unit.share for unit in units.values()} == {SHARE}


def test_hidden_values_are_those_of_unknown_ones_and_the_rest_stays() -> None:
    hiding = Hiding(SHOP, SHARE, seed=3)
    numerical, codes = SHOP.numerical.copy(), SHOP.categorical.copy()
    hiding.hide(numerical, codes, np.arange(SHOP.n_rows))
    of_numbers, of_codes = hiding.masks(np.arange(SHOP.n_rows), 0)
    missing = np.broadcast_to([column.missing for column in SHOP.numerical_columns], numerical.shape)
    np.testing.assert_array_equal(numerical, np.where(of_numbers, missing, SHOP.numerical).astype(np.float32))
    np.testing.assert_array_equal(codes, np.where(of_codes, 0, SHOP.categorical))
    # A value and its flag go together; alone and as a whole give nearly twice the share.
    np.testing.assert_array_equal(of_numbers[:, AGE], of_numbers[:, AGE_MISSING])
    np.testing.assert_allclose(of_codes.mean(axis=0), [0.0975, 0.0975, 0.05], atol=0.025)
    by_search = of_codes[:, SEGMENT].reshape(-1, ROWS_PER_SEARCH)
    assert (by_search.all(axis=1) == by_search.any(axis=1)).all()
    assert not (of_codes[:, MAKER].reshape(-1, ROWS_PER_SEARCH).all(axis=1)).any()
    # Of a customer as a whole nothing is left.
    whole = of_numbers[:, AGE] & of_codes[:, SEGMENT]
    assert 0.03 < whole.mean() < 0.08


def test_what_is_unknown_often_enough_is_left_as_it_is() -> None:
    codes = SHOP.categorical.copy()
    codes[: SHOP.n_rows // 10, DEVICE] = 0
    codes[: SHOP.n_rows // 50, MAKER] = 0
    shares = {unit.name: unit.share for unit in Hiding(replace(SHOP, categorical=codes), SHARE, seed=0).units}
    assert "device" not in shares
    assert shares["maker"] == pytest.approx((0.05 - 0.02) / 0.98)
    assert shares["segment"] == SHARE


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
    codes = SHOP.categorical.copy()
    hiding = Hiding(replace(SHOP, categorical_columns=columns), SHARE, seed=0)
    hiding.hide(SHOP.numerical.copy(), codes, np.arange(SHOP.n_rows))
    hidden = codes[:, SEGMENT] != SHOP.categorical[:, SEGMENT]
    assert hidden.any()
    assert set(codes[hidden, SEGMENT].tolist()) == {0}


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


@pytest.mark.parametrize(("n_searches", "aim"), [(10, MOST_SHARE), (1_000, FEWEST_ROWS / 15_000), (4_000, 0.02)])
def test_small_splits_hide_more(n_searches: int, aim: float) -> None:
    hiding = Hiding(planted(n_searches, seed=0).rows, 0.02, seed=0)
    assert [unit.share for unit in hiding.units] == [pytest.approx(aim)] * 7


def test_nothing_is_hidden_where_nothing_shall_be() -> None:
    hiding = Hiding(SHOP, 0.0, seed=0)
    assert hiding.units == ()
    assert hiding.told() == []
    assert not any(mask.any() for mask in hiding.masks(np.arange(50), 0))
    assert Hiding(planted(0, seed=0).rows, SHARE, seed=0).units == ()


def test_batches_of_any_size_and_share_hide_the_same_values_and_another_epoch_others() -> None:
    def epoch_of(batch_size: int, epoch: int, seed: int = 0, first_step: int = 0) -> dict[int, tuple[float, ...]]:
        batches = ShuffledBatches(Rows(SHOP), batch_size, seed=5, hiding=Hiding(SHOP, SHARE, seed))
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
    halves = [Hiding(SHOP, SHARE, 0).masks(rows, 1)[1] for rows in np.array_split(np.arange(SHOP.n_rows), 3)]
    np.testing.assert_array_equal(np.concatenate(halves), Hiding(SHOP, SHARE, 0).masks(np.arange(SHOP.n_rows), 1)[1])
