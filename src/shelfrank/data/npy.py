"""A `.npy` file to which rows are appended."""

from pathlib import Path

import numpy as np


class NpyWriter:
    """Appends rows to a `.npy` file, whose length is written at the end.

    Args:
        file: The file.
        dtype: Type of its values.
        row_shape: Shape of each row; empty for one value per row.
    """

    def __init__(self, file: Path, dtype: np.dtype | type[np.generic], row_shape: tuple[int, ...] = ()) -> None:
        self._dtype, self._row_shape, self._n_rows = np.dtype(dtype), row_shape, 0
        self._stream = file.open("wb")
        self._write_header()
        self._header_bytes = self._stream.tell()

    def append(self, rows: np.ndarray) -> None:
        """Appends rows."""
        assert rows.shape[1:] == self._row_shape, f"rows must have the shape {self._row_shape}, not {rows.shape[1:]}"
        self._stream.write(np.ascontiguousarray(rows, self._dtype).data)
        self._n_rows += len(rows)

    def finish(self) -> int:
        """Closes the file; the number of its rows."""
        self._stream.seek(0)
        self._write_header()
        # NumPy leaves room in the header for the first axis to grow.
        assert self._stream.tell() == self._header_bytes
        self._stream.close()
        return self._n_rows

    def _write_header(self) -> None:
        shape = (self._n_rows, *self._row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
