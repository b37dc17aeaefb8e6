"""Hides features of some training rows, so that unknown has a learned meaning: what is right on average.

A category's code 0 and a number's missing flag may be in no training row, and yet a new brand, an anonymous visitor or
a request that leaves a number out has them: a network would score it by weights that were drawn and never trained,
trees by a branch that no such row decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Num, UInt64

from shelfrank.data.prepared import MISSING_SUFFIX, Column, Split
from shelfrank.schema import Side

COUNTED_ROWS = 200_000
"""Rows, evenly spread over a split, on which the share of unknown values is counted."""
FEWEST_ROWS = 1_000
"""Unknown rows of a feature that small splits aim at, up to `MOST_SHARE` of all: trees need some per level."""
MOST_SHARE = 0.1
ROWS_AT_ONCE = 65_536
SHARED_BY_SEARCH = (Side.CUSTOMER, Side.QUERY, Side.CONTEXT)
"""Sides that are the same for every row of a search, and are hidden in all of them at once."""


@dataclass(frozen=True)
class HiddenTogether:
    """Columns that become unknown at once.

    Attributes:
        name: What becomes unknown: a feature, or a side as a whole.
        numerical: Places of the numerical columns.
        categorical: Places of the categorical columns.
        by_search: Whether all rows of a search are hidden at once.
        share: Of the searches, or of the rows, in which they are hidden.
    """

    name: str
    numerical: tuple[int, ...]
    categorical: tuple[int, ...]
    by_search: bool
    share: float = 0.0


class Hiding:
    """Which values of a training split are hidden in which epoch.

    Each categorical feature and each number with a missing flag is hidden by itself; the customer, with history and
    session, and the product's declared features are also hidden as a whole, as an anonymous visitor and a new product
    come. Hidden categories get code 0, whatever the default, so that the default's category keeps its own meaning;
    hidden numbers get what a missing one became. What is unknown in as many training rows anyway is left as it is.

    A value is hidden by a hash of seed, epoch, search and the row's tie key, which depends neither on the batches, nor
    on the processes, nor on the order in which a page was shown.

    Args:
        train: The rows.
        share: Share of rows in which each feature shall be unknown; 0 hides nothing.
        seed: Decides which.

    Attributes:
        units: What is hidden, and how often.
        missing: What a hidden number becomes, by column.
    """

    def __init__(self, train: Split, share: float, seed: int) -> None:
        self.seed, self._offsets, self._tie_keys = seed, np.asarray(train.search_offsets), train.tie_keys
        self.missing = np.array([column.missing for column in train.numerical_columns], np.float32)
        self._n_categorical = len(train.categorical_columns)
        self.units: tuple[HiddenTogether, ...] = ()
        if share and train.n_rows:
            aim = max(share, min(FEWEST_ROWS / train.n_rows, MOST_SHARE))
            self.units = tuple(_with_shares(_units(train.numerical_columns, train.categorical_columns), train, aim))

    def masks(
        self, rows: Int64[np.ndarray, " rows"], epoch: int
    ) -> tuple[Bool[np.ndarray, "rows n_num"], Bool[np.ndarray, "rows n_cat"]]:
        """Which of some rows' values are hidden in an epoch."""
        numerical = np.zeros((len(rows), len(self.missing)), bool)
        categorical = np.zeros((len(rows), self._n_categorical), bool)
        search = np.searchsorted(self._offsets, rows, side="right").astype(np.uint64)
        product = np.asarray(self._tie_keys[rows])
        for number, unit in enumerate(self.units):
            key = np.random.SeedSequence([self.seed, epoch, number]).generate_state(1, np.uint64)[0]
            hidden = np.flatnonzero(_uniform(key, search if unit.by_search else product) < unit.share)
            numerical[np.ix_(hidden, np.array(unit.numerical, np.intp))] = True
            categorical[np.ix_(hidden, np.array(unit.categorical, np.intp))] = True
        return numerical, categorical

    def hide(
        self,
        numerical: Float32[np.ndarray, "rows n_num"],
        categorical: Num[np.ndarray, "rows n_cat"],
        rows: Int64[np.ndarray, " rows"],
        epoch: int = 0,
    ) -> None:
        """Hides an epoch's values of some rows of the split, in place."""
        for start in range(0, len(rows) if self.units else 0, ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            of_numbers, of_codes = self.masks(rows[some], epoch)
            np.copyto(numerical[some], self.missing, where=of_numbers)
            np.copyto(categorical[some], 0, where=of_codes)

    def told(self) -> list[str]:
        """What was hidden how often, for people."""
        if not self.units:
            return []
        parts = ", ".join(f"{unit.name} {unit.share:.1%}" for unit in self.units)
        return [f"hidden in training, so that unknown is what is right on average: {parts}"]


def _units(numerical: Sequence[Column], categorical: Sequence[Column]) -> list[HiddenTogether]:
    flagged = {column.name.removesuffix(MISSING_SUFFIX) for column in numerical if column.name.endswith(MISSING_SUFFIX)}
    numbers: dict[str, list[int]] = {}
    for place, column in enumerate(numerical):
        name = column.name.removesuffix(MISSING_SUFFIX)
        if name in flagged:
            numbers.setdefault(name, []).append(place)
    singles = [
        (numerical[places[0]].side, HiddenTogether(name, tuple(places), (), _is_shared(numerical[places[0]])))
        for name, places in numbers.items()
    ]
    singles += [
        (column.side, HiddenTogether(column.name, (), (place,), _is_shared(column)))
        for place, column in enumerate(categorical)
    ]
    of_product = [unit for side, unit in singles if side is Side.PRODUCT]
    wholes = [
        HiddenTogether(
            "the customer",
            tuple(place for place, column in enumerate(numerical) if column.side is Side.CUSTOMER),
            tuple(place for place, column in enumerate(categorical) if column.side is Side.CUSTOMER),
            by_search=True,
        ),
        HiddenTogether(
            "the product",
            tuple(place for unit in of_product for place in unit.numerical),
            tuple(place for unit in of_product for place in unit.categorical),
            by_search=False,
        ),
    ]
    alone = {(unit.numerical, unit.categorical) for _, unit in singles}
    wholes = [
        unit
        for unit in wholes
        if (unit.numerical or unit.categorical) and (unit.numerical, unit.categorical) not in alone
    ]
    return [*wholes, *(unit for _, unit in singles)]


def _with_shares(units: Sequence[HiddenTogether], train: Split, aim: float) -> list[HiddenTogether]:
    """The units that are unknown in fewer rows than aimed at, with the share that is wanting."""
    rows = slice(None, None, -(-train.n_rows // COUNTED_ROWS))
    numbers = np.asarray(train.numerical[rows]) == np.array([c.missing for c in train.numerical_columns], np.float32)
    codes = np.asarray(train.categorical[rows])
    unknown = codes == 0
    # A missing value of a declared default has its code; an anonymous visitor has it of every customer feature.
    absent = unknown | (codes == np.array([column.missing for column in train.categorical_columns], codes.dtype))
    wanting = []
    for unit in units:
        of_codes = absent if len(unit.numerical) + len(unit.categorical) > 1 else unknown
        seen = numbers[:, unit.numerical].all(axis=1) & of_codes[:, unit.categorical].all(axis=1)
        share = float(seen.mean())
        if share < aim:
            wanting.append(
                HiddenTogether(
                    unit.name, unit.numerical, unit.categorical, unit.by_search, (aim - share) / (1.0 - share)
                )
            )
    return wanting


def _is_shared(column: Column) -> bool:
    return column.side in SHARED_BY_SEARCH


def _uniform(key: np.uint64, ids: UInt64[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """A fixed number in [0, 1) for each id (the finalizer of SplitMix64)."""
    mixed = (ids + key) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
