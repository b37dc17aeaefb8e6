"""Train, validation and test splits of whole searches (Paper: Sec. 4.1)."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Int64

from shelfrank.config import SplitConfig
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import SPLITS


def assign_splits(
    ts_us: Int64[np.ndarray, " searches"], search_ids: Sequence[str], config: SplitConfig
) -> Int8[np.ndarray, " searches"]:
    """Gives every search one split: 0 train, 1 valid, 2 test (Paper: Sec. 4.1).

    By time, a boundary never cuts through searches of one moment: the later split starts strictly later. Of a fold, the
    searches after its test window are in no split.

    Args:
        ts_us: Microseconds since 1970, ascending.
        search_ids: The searches' ids.
        config: How to split.

    Returns:
        The split of each search, as an index into `SPLITS`, or -1 for none.

    Raises:
        UserError: Where a split would be empty, or several folds are asked for at once.
    """
    if config.is_several:
        raise UserError(
            "this step must be given one training split, but split.by is forward, which has one for each fold; set "
            "split.fold, such as 1, whose training searches are those of every fold"
        )
    n = len(ts_us)
    if n < len(SPLITS):
        raise UserError(f"a log must have at least {len(SPLITS)} searches to be split, but it has {n}; import more")
    if config.by == "forward":
        splits = _splits_of_fold(ts_us, config)
    elif config.by == "time":
        first_valid = ts_us[_cut(n, config.train)]
        first_test = ts_us[_cut(n, config.train + config.valid)]
        splits = (ts_us >= first_valid).astype(np.int8) + (ts_us >= first_test).astype(np.int8)
    else:
        shares = np.array([_unit_hash(search_id) for search_id in search_ids])
        splits = (shares >= config.train).astype(np.int8) + (shares >= config.train + config.valid).astype(np.int8)
    counts = np.bincount(splits[splits >= 0], minlength=len(SPLITS))
    if not counts.all():
        named = ", ".join(f"{name} {count}" for name, count in zip(SPLITS, counts, strict=True))
        of_fold = "" if config.fold is None else f" of fold {config.fold}"
        raise UserError(
            f"every split{of_fold} must get at least one search, but the searches are {named}; "
            "import a longer log or change split"
        )
    return splits


def _splits_of_fold(ts_us: Int64[np.ndarray, " searches"], config: SplitConfig) -> Int8[np.ndarray, " searches"]:
    """The splits of one forward fold; where its test window ends, the next fold's begins."""
    assert config.fold is not None
    before = config.train + config.valid
    window = (1 - before) / config.folds
    # The same expression for the end of a window and the start of the next, so that they are equal to the bit.
    starts = [before + number * window for number in (config.fold - 1, config.fold)]
    first_valid, first_test, first_after = (
        ts_us[_cut(len(ts_us), share)] for share in (starts[0] - config.valid, *starts)
    )
    splits = (ts_us >= first_valid).astype(np.int8) + (ts_us >= first_test).astype(np.int8)
    if config.fold < config.folds:
        splits[ts_us >= first_after] = -1
    return splits


def _cut(n: int, share: float) -> int:
    # Numerics: 0.7 + 0.1 is a little less than 0.8, and 0.8 of 10 searches must be 8.
    return min(int(n * share + 1e-6), n - 1)


def _unit_hash(search_id: str) -> float:
    digest = hashlib.blake2b(search_id.encode(), digest_size=8, person=b"split").digest()
    return int.from_bytes(digest, "little") / 2**64
