"""Columns of numbers on disk, filled in any order and read by ranges of rows."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Num


class ColumnFiles:
    """One raw file per column; reading copies a range, so that memory never grows with the files."""

    def __init__(self, folder: Path, dtypes: Mapping[str, type[np.generic] | np.dtype], n_rows: int) -> None:
        self.dtypes, self.n_rows = {name: np.dtype(dtype) for name, dtype in dtypes.items()}, n_rows
        self._folder = folder
        self._files = {name: folder / f"{index:03d}.bin" for index, name in enumerate(dtypes)}
        self._maps: dict[str, np.memmap] = {}
        folder.mkdir(parents=True)
        for name, file in self._files.items():
            allocate(file, n_rows * self.dtypes[name].itemsize)

    def put(self, rows: Int64[np.ndarray, " some"], values: Mapping[str, Num[np.ndarray, " some"]]) -> None:
        """Sets some rows of every column."""
        if not self.n_rows:
            return
        for name, file in self._files.items():
            if name not in self._maps:
                self._maps[name] = np.memmap(file, self.dtypes[name], "r+", shape=(self.n_rows,))
            self._maps[name][rows] = values[name]

    def write(self, start: int, values: Mapping[str, Num[np.ndarray, " some"]]) -> None:
        """Sets a range of rows of every column, from one row on; threads may write other ranges at the same time."""
        for name, file in self._files.items():
            own = values[name]
            assert own.dtype == self.dtypes[name], f"{name} must be {self.dtypes[name]}, not {own.dtype}"
            with file.open("r+b") as stream:
                stream.seek(start * own.itemsize)
                own.tofile(stream)

    def finish(self) -> None:
        """Lets go of the memory that filling took."""
        self._maps.clear()

    def remove(self) -> None:
        """Deletes the files."""
        self.finish()
        shutil.rmtree(self._folder)

    def read(self, start: int, end: int) -> dict[str, Num[np.ndarray, " rows"]]:
        """A range of rows of every column."""
        read = {}
        for name, file in self._files.items():
            dtype = self.dtypes[name]
            read[name] = np.fromfile(file, dtype, end - start, offset=start * dtype.itemsize)
        return read


def allocate(file: Path, n_bytes: int) -> None:
    """Makes a file of zeros; a full disk is an error here and not where a map is written to."""
    with file.open("wb") as stream:
        # Writing into a map of a full disk kills the process; taking the room first is an error that can be told.
        if hasattr(os, "posix_fallocate") and n_bytes:
            os.posix_fallocate(stream.fileno(), 0, n_bytes)
        else:
            stream.truncate(n_bytes)
