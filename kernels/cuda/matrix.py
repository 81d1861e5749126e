"""A matrix of field elements in device memory: what the backend gives a prover to hold.

The prover passes it on to the backend, asks for its shape, takes rows of extension elements together
(`reshape`) and reads the few elements that the transcript needs (`numpy.asarray`, a download).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.cuda.device import Buffer, Device
from kernels.field import U32


@dataclass(frozen=True, eq=False)
class Matrix:
    """Element (r, c) is word `r * row_stride + c * column_stride` of the buffer."""

    device: Device
    buffer: Buffer
    rows: int
    columns: int
    row_stride: int
    column_stride: int

    dtype = np.dtype(np.uint32)
    ndim = 2

    @classmethod
    def row_major(cls, device: Device, buffer: Buffer, rows: int, columns: int) -> "Matrix":
        return cls(device, buffer, rows, columns, columns, 1)

    @classmethod
    def column_major(cls, device: Device, buffer: Buffer, rows: int, columns: int) -> "Matrix":
        return cls(device, buffer, rows, columns, 1, rows)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def size(self) -> int:
        return self.rows * self.columns

    def __len__(self) -> int:
        return self.rows

    @property
    def layout(self) -> tuple[Buffer, int, int]:
        """Buffer and strides, as kernels take them."""
        return self.buffer, self.row_stride, self.column_stride

    def reshape(self, rows: int, columns: int) -> "Matrix":
        """Other rows of the same words in the same order; `rows` may be -1. For row-major matrices."""
        assert (self.row_stride, self.column_stride) == (self.columns, 1), "only row-major words are in order"
        words = self.rows * self.columns
        rows = words // columns if rows == -1 else rows
        assert rows * columns == words, (rows, columns, words)
        return Matrix.row_major(self.device, self.buffer, rows, columns)

    def __getitem__(self, index: Any) -> "Matrix":
        """A window, `[rows]` or `[rows, columns]`, slices of step 1."""
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        first, last, step = rows.indices(self.rows)
        left, right, column_step = columns.indices(self.columns)
        assert step == column_step == 1, index
        start = first * self.row_stride + left * self.column_stride
        return Matrix(
            self.device, self.buffer[start:], last - first, right - left, self.row_stride, self.column_stride
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> U32:
        """The elements on the host, U32[rows, columns] (numpy's protocol); a device copy cannot be shared."""
        if copy is False:
            raise ValueError("a matrix in device memory is copied to be read")
        last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride
        if self.rows == 0 or self.columns == 0:
            return np.empty(self.shape, dtype or np.uint32)
        words = self.device.download(self.buffer[: last + 1])
        strides = (4 * self.row_stride, 4 * self.column_stride)
        view = np.lib.stride_tricks.as_strided(words, self.shape, strides, writeable=False)
        return np.array(view, dtype=dtype or np.uint32, order="C")
