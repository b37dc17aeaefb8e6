import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shelfrank.prepare.columns import ColumnFiles


def test_columns_filled_in_any_order_read_by_ranges(tmp_path: Path) -> None:
    columns = ColumnFiles(tmp_path / "c", {"a": np.int32, "b": np.int64}, 10)
    order = np.random.default_rng(0).permutation(10)
    for rows in (order[:4], order[4:]):
        columns.put(rows, {"a": rows * 2, "b": rows + 2**40})
    columns.finish()
    read = columns.read(3, 7)
    assert read["a"].tolist() == [6, 8, 10, 12]
    assert read["b"].tolist() == [2**40 + i for i in range(3, 7)]
    assert (read["a"].dtype, read["b"].dtype) == (np.int32, np.int64)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        ColumnFiles(tmp_path / "c", {"a": np.int32}, 10)


def test_ranges_written_at_the_same_time_are_read_as_written(tmp_path: Path) -> None:
    columns = ColumnFiles(tmp_path / "c", {"a": np.float32, "b": np.int16}, 1000)
    values = {"a": np.arange(1000, dtype=np.float32) / 3, "b": np.arange(1000, dtype=np.int16)}

    def write(start: int) -> None:
        columns.write(start, {name: array[start : start + 70] for name, array in values.items()})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(0, 1000, 70)))
    for name, array in columns.read(0, 1000).items():
        np.testing.assert_array_equal(array, values[name])
    with pytest.raises(AssertionError, match="b must be int16, not int64"):
        columns.write(0, {"a": values["a"], "b": values["b"].astype(np.int64)})
    columns.remove()
    assert not (tmp_path / "c").exists()
