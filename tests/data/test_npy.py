"""A file that grows row by row is the file that NumPy writes at once."""

from pathlib import Path

import numpy as np
import pytest

from shelfrank.data.npy import NpyWriter


@pytest.mark.parametrize("row_shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("sizes", [(), (0, 1), (5, 0, 7), (123_456, 1)], ids=str)
def test_the_file_is_what_numpy_writes(row_shape: tuple[int, ...], sizes: tuple[int, ...], tmp_path: Path) -> None:
    parts = [np.arange(n * np.prod(row_shape, dtype=int), dtype=np.int32).reshape(n, *row_shape) for n in sizes]
    writer = NpyWriter(tmp_path / "grown.npy", np.int32, row_shape)
    for part in parts:
        writer.append(part)
    assert writer.finish() == sum(sizes)
    whole = np.concatenate([np.empty((0, *row_shape), np.int32), *parts])
    np.save(tmp_path / "whole.npy", whole)
    np.testing.assert_array_equal(np.load(tmp_path / "grown.npy"), whole)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    writer = NpyWriter(tmp_path / "grown.npy", np.int64, (2,))
    with pytest.raises(AssertionError, match=r"must have the shape \(2,\), not \(\)"):
        writer.append(np.zeros(4, np.int64))
    writer.finish()
