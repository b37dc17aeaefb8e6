"""Hides features of some training rows, so that unknown has a learned meaning: what is right on average.

A category's code 0 and a number's missing flag may be in no training row, and yet a new brand, an anonymous visitor or
a request that leaves a number out has them: a network would score it by weights that were drawn and never trained,
trees by a branch that no such row decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Num, UInt64

from shelfrank.core.hashing import mixed_bits
from shelfrank.core.schema import Side
from shelfrank.data.prepared import MISSING_SUFFIX, Column, Split

COUNTED_ROWS = 200_000
"""Rows, evenly spread over a split, on which the share of unknown values is counted."""
MIN_ROWS = 1_000
"""Unknown rows of a feature that small splits aim at, up to `MAX_SHARE` of all: trees need some per level."""
MAX_SHARE = 0.1
MAX_TOGETHER = 0.15
"""Share of the searches, and of the rows, that have anything hidden at most, however many features there are."""
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
        whole: Whether this is a side as a whole, of which nothing is known, and not a feature whose value is unknown.
        share: Of the searches, or of the rows, in which they are hidden.
    """

    name: str
    numerical: tuple[int, ...]
    categorical: tuple[int, ...]
    by_search: bool
    whole: bool = False
    share: float = 0.0


class Hiding:
    """Which values of a training split are hidden in which epoch (Paper: Sec. 4.3).

    Each categorical feature and each number with a missing flag is hidden by itself, together with what history and
    page compute of it: with the brand the share of a query's clicks that went to it, as of a brand that no row had
    before. The customer, with history and session, and the product's declared features are also hidden as a whole, as
    an anonymous visitor and a new product come. The category of a feature that is hidden alone gets code 0, whatever
    the default, so that the default's category keeps its own meaning; those of a side as a whole get what a missing one
    becomes, as in the service. Hidden numbers get what a missing one became. What is unknown in as many training rows
    anyway is left as it is.

    In each epoch at most one of what all rows of a search share is hidden in it, and at most one of what is a row's
    own, so that what is left tells the rest. Where the shares of either kind exceed `MAX_TOGETHER`, all are
    scaled down.

    What is hidden follows a hash of seed, epoch and search, or the row's tie key, which depends neither on the batches,
    nor on the processes, nor on the order in which a page was shown.

    Args:
        train: The rows.
        share: Share of rows in which each feature shall be unknown; 0 hides nothing.
        seed: Decides which.

    Attributes:
        units: The features that are hidden together, and how often.
        missing: The value of a hidden number, by column.
    """

    def __init__(self, train: Split, share: float, seed: int) -> None:
        self.seed, self._offsets, self._tie_keys = seed, np.asarray(train.search_offsets), train.tie_keys
        self.missing = np.array([column.missing for column in train.numerical_columns], np.float32)
        self._codes = np.array([column.missing for column in train.categorical_columns], np.int32)
        self.units: tuple[HiddenTogether, ...] = ()
        if share and train.n_rows:
            aim = max(share, min(MIN_ROWS / train.n_rows, MAX_SHARE))
            units = _with_shares(_units(train.numerical_columns, train.categorical_columns), train, aim)
            self.units = tuple(_scaled_down(units))

    def hidden(
        self, rows: Int64[np.ndarray, " rows"], epoch: int
    ) -> tuple[Bool[np.ndarray, "rows n_num"], Int32[np.ndarray, "rows n_cat"]]:
        """Which of some rows' numbers are hidden in an epoch, and the codes that hide theirs, -1 where none does."""
        numerical = np.zeros((len(rows), len(self.missing)), bool)
        codes = np.full((len(rows), len(self._codes)), -1, np.int32)
        search = np.searchsorted(self._offsets, rows, side="right").astype(np.uint64)
        for by_search, ids in ((True, search), (False, np.asarray(self._tie_keys[rows]))):
            units = [unit for unit in self.units if unit.by_search == by_search]
            key = np.random.SeedSequence([self.seed, epoch, by_search]).generate_state(1, np.uint64)[0]
            # Each unit has its own part of [0, 1).
            ends = np.cumsum([unit.share for unit in units])
            chosen = np.searchsorted(ends, _uniform(key, ids), side="right")
            for number, unit in enumerate(units):
                places, numbers = np.flatnonzero(chosen == number), np.array(unit.numerical, np.intp)
                numerical[np.ix_(places, numbers)] = True
                categories = np.array(unit.categorical, np.intp)
                codes[np.ix_(places, categories)] = self._codes[categories] if unit.whole else 0
        return numerical, codes

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
            of_numbers, codes = self.hidden(rows[some], epoch)
            np.copyto(numerical[some], self.missing, where=of_numbers)
            np.copyto(categorical[some], codes, where=codes >= 0, casting="unsafe")

    def notes(self) -> list[str]:
        """The hidden features and their shares, for people."""
        if not self.units:
            return []
        parts = ", ".join(f"{unit.name} {unit.share:.1%}" for unit in self.units)
        whole = [1 - sum(unit.share for unit in self.units if unit.by_search == each) for each in (True, False)]
        rows = f"{1 - whole[0] * whole[1]:.1%} of the rows have something hidden"
        return [f"hidden in training, so that unknown is what is right on average: {parts}; {rows}"]


def _units(numerical: Sequence[Column], categorical: Sequence[Column]) -> list[HiddenTogether]:
    flagged = {column.name.removesuffix(MISSING_SUFFIX) for column in numerical if column.name.endswith(MISSING_SUFFIX)}
    numbers: dict[str, list[int]] = {}
    for place, column in enumerate(numerical):
        name = column.name.removesuffix(MISSING_SUFFIX)
        if name in flagged:
            numbers.setdefault(name, []).append(place)
    computed: dict[str, list[int]] = {}
    for place, column in enumerate(numerical):
        for name in column.made_of:
            computed.setdefault(name, []).append(place)
    singles = [
        (
            numerical[places[0]].side,
            HiddenTogether(name, _sorted(places, computed.get(name, [])), (), _is_shared(numerical[places[0]])),
        )
        for name, places in numbers.items()
    ]
    singles += [
        (column.side, HiddenTogether(column.name, _sorted(computed.get(column.name, [])), (place,), _is_shared(column)))
        for place, column in enumerate(categorical)
    ]
    of_product = [unit for side, unit in singles if side is Side.PRODUCT]
    wholes = [
        HiddenTogether(
            "the customer",
            tuple(place for place, column in enumerate(numerical) if column.side is Side.CUSTOMER),
            tuple(place for place, column in enumerate(categorical) if column.side is Side.CUSTOMER),
            by_search=True,
            whole=True,
        ),
        HiddenTogether(
            "the product",
            _sorted(*(unit.numerical for unit in of_product), *computed.values()),
            tuple(place for unit in of_product for place in unit.categorical),
            by_search=False,
            whole=True,
        ),
    ]
    alone = {(unit.numerical, unit.categorical) for _, unit in singles}

    def is_other(unit: HiddenTogether) -> bool:
        """Whether nothing hides the same alone: a default's code is hidden with the whole only."""
        has_default = any(categorical[place].missing for place in unit.categorical)
        return has_default or (unit.numerical, unit.categorical) not in alone

    wholes = [unit for unit in wholes if (unit.numerical or unit.categorical) and is_other(unit)]
    return [*wholes, *(unit for _, unit in singles)]


def _with_shares(units: Sequence[HiddenTogether], train: Split, aim: float) -> list[HiddenTogether]:
    """The units that are unknown in fewer rows than aimed at, with the share that is wanting."""
    rows = slice(None, None, -(-train.n_rows // COUNTED_ROWS))
    numbers = np.asarray(train.numerical[rows]) == np.array([c.missing for c in train.numerical_columns], np.float32)
    codes = np.asarray(train.categorical[rows])
    unknown = codes == 0
    # A missing value of a declared default has its code; an anonymous visitor has it of every customer feature.
    absent = codes == np.array([column.missing for column in train.categorical_columns], codes.dtype)
    wanting = []
    for unit in units:
        of_codes = absent if unit.whole else unknown
        seen = numbers[:, unit.numerical].all(axis=1) & of_codes[:, unit.categorical].all(axis=1)
        share = float(seen.mean())
        if share < aim:
            wanting.append(replace(unit, share=(aim - share) / (1.0 - share)))
    return wanting


def _scaled_down(units: Sequence[HiddenTogether]) -> list[HiddenTogether]:
    together = {
        by_search: sum(unit.share for unit in units if unit.by_search == by_search) for by_search in (True, False)
    }
    return [replace(unit, share=unit.share * min(1.0, MAX_TOGETHER / together[unit.by_search])) for unit in units]


def _sorted(*places: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted({place for some in places for place in some}))


def _is_shared(column: Column) -> bool:
    return column.side in SHARED_BY_SEARCH


def _uniform(key: np.uint64, ids: UInt64[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """A fixed number in [0, 1) for each id."""
    return (mixed_bits((ids + key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * 2.0**-53
