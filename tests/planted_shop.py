"""A shop whose click rates are known: what is right where a feature is unknown can be computed."""

from dataclasses import dataclass

import numpy as np

from shelfrank.core.schema import Side
from shelfrank.data.prepared import Column, Split

MAKER_RATES = np.array([0.45, 0.35, 0.25, 0.18, 0.1, 0.04])
"""What customers click of each maker whose favourite it is not."""
FAVOURITE = 0.45
"""What a customer whose favourite it is clicks more."""
N_SEGMENTS = 4
ROWS_PER_SEARCH = 15
DEVICES = np.array([0.8, 1.0, 1.4])
"""By what a device multiplies clicks."""
PRICES = np.array([-1.0, 1.0])
"""Standardised prices: none is near the mean, which a missing price is filled with."""
DEAR = 0.6
"""By what the higher price multiplies clicks."""
COLUMNS = (
    Column("price", Side.PRODUCT, 0, -3.0, 0.0, 0.0),
    Column("price__missing", Side.PRODUCT, 0, 0.0, 0.0, 1.0),
    # A raw zero and a missing age lie far from every age of a training row.
    Column("age", Side.CUSTOMER, 0, -4.0, 0.0, -4.0),
    Column("age__missing", Side.CUSTOMER, 0, 0.0, 0.0, 1.0),
)
CODES = (
    Column("maker", Side.PRODUCT, 7, 0.0, 0.0),
    Column("segment", Side.CUSTOMER, 5, 0.0, 0.0),
    Column("device", Side.CONTEXT, 4, 0.0, 0.0),
)


@dataclass(frozen=True)
class Shop:
    """Rows, and what each of them is clicked.

    Attributes:
        rows: The rows; every feature is known in all of them.
        rates: The probability of each row's click.
    """

    rows: Split
    rates: np.ndarray


def planted(n_searches: int, seed: int, name: str = "train") -> Shop:
    """A shop whose customers are all known, each of one of four segments with a favourite maker.

    Args:
        n_searches: Searches of fifteen rows.
        seed: Decides them.
        name: Which split.

    Returns:
        The shop.
    """
    rng = np.random.default_rng(seed)
    n = n_searches * ROWS_PER_SEARCH
    maker = rng.integers(6, size=n)
    segment, device = (np.repeat(rng.integers(k, size=n_searches), ROWS_PER_SEARCH) for k in (N_SEGMENTS, 3))
    age = np.repeat(rng.normal(size=n_searches), ROWS_PER_SEARCH)
    dear = rng.integers(2, size=n)
    rates = MAKER_RATES[maker] + FAVOURITE * (maker == segment + 2)
    rates = np.minimum(rates * DEVICES[device] * np.where(dear, DEAR, 1.0), 0.95)
    numbers = np.stack([PRICES[dear], np.zeros(n), age, np.zeros(n)], axis=1).astype(np.float32)
    places = np.arange(n)
    return Shop(
        Split(
            name=name,
            tasks=("click",),
            numerical=numbers,
            categorical=np.stack([maker + 1, segment + 1, device + 1], axis=1).astype(np.int32),
            labels=(rng.random(n) < rates).astype(np.int8)[:, None],
            query_idx=np.zeros(n, np.int32),
            product_idx=places.astype(np.int32),
            customer_idx=np.zeros(n, np.int32),
            position=(places % ROWS_PER_SEARCH + 1).astype(np.int32),
            tie_keys=rng.permutation(n).astype(np.uint64),
            search_offsets=np.arange(n_searches + 1, dtype=np.int64) * ROWS_PER_SEARCH,
            numerical_columns=COLUMNS,
            categorical_columns=CODES,
        ),
        rates,
    )
