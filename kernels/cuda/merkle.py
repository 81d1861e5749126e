"""Merkle trees in device memory; caps and openings come to the host. See `kernels.merkle`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.cuda import hashing
from kernels.cuda.device import Buffer, Device
from kernels.cuda.matrix import Matrix
from kernels.field import U32
from kernels.poseidon2 import DIGEST_LEN

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DeviceMerkleTree:
    """As `kernels.merkle.MerkleTree`; `layers` is one buffer, U32[2 * leaves - 1, 8], the leaves first."""

    matrices: tuple[Matrix, ...]
    layers: Buffer
    depth: int

    @property
    def device(self) -> Device:
        return self.matrices[0].device

    def cap(self, height: int) -> U32:
        """U32[2^min(height, depth), 8], the commitment."""
        height = min(height, self.depth)
        first = layer_start(self.depth, self.depth - height) * DIGEST_LEN
        return self.device.download(self.layers[first : first + (DIGEST_LEN << height)]).reshape(
            -1, DIGEST_LEN
        )

    def open_rows(self, index: int) -> list[U32]:
        """The row of each matrix at that leaf index: one 2^k times shorter opens row index >> k."""
        return [rows[0] for rows in self.open_many(np.array([index]), self.depth)[0]]

    def path(self, index: int, cap_height: int) -> U32:
        """U32[k, 8]: siblings bottom-up, up to but not including the cap layer."""
        paths: U32 = self.open_many(np.array([index]), cap_height)[1][0]
        return paths

    def open_many(self, indices: I64, cap_height: int) -> tuple[list[U32], U32]:
        """Rows of each matrix, U32[q, w], and paths, U32[q, k, 8], at q leaf indices."""
        indices = np.ascontiguousarray(indices, dtype=np.int64)
        assert indices.ndim == 1, indices.shape
        assert ((indices >= 0) & (indices < 1 << self.depth)).all(), "an index lies outside the tree"
        count, levels = len(indices), self.depth - min(cap_height, self.depth)
        if count == 0:
            empty = np.empty((0, levels, DIGEST_LEN), np.uint32)
            return [np.empty((0, m.columns), np.uint32) for m in self.matrices], empty
        places = self.device.upload(indices)
        widths = [matrix.columns for matrix in self.matrices]
        parts = np.cumsum([0, *(count * width for width in widths), count * levels * DIGEST_LEN]).tolist()
        out = self.device.empty(max(parts[-1], 1))
        for matrix, start, stop in zip(self.matrices, parts, parts[1:], strict=False):
            if matrix.columns:
                self._gather(matrix, places, out[start:stop])
        if levels:
            self.device.launch(
                hashing.gather_paths,
                count * levels * DIGEST_LEN,
                self.layers,
                1 << self.depth,
                levels,
                places,
                out[parts[-2] :],
            )
        words = self.device.download(out)
        rows = [
            words[start:stop].reshape(count, width)
            for start, stop, width in zip(parts, parts[1:], widths, strict=False)
        ]
        return rows, words[parts[-2] : parts[-1]].reshape(count, levels, DIGEST_LEN)

    def _gather(self, matrix: Matrix, places: Buffer, out: Buffer) -> None:
        shift = self.depth - (matrix.rows.bit_length() - 1)
        self.device.launch(hashing.gather_rows, out.size, *matrix.layout, matrix.columns, places, shift, out)


def layer_start(depth: int, level: int) -> int:
    """Digests before the layer of 2^(depth - level) in the buffer of all layers."""
    return (2 << depth) - (2 << (depth - level))


def merkle_tree(device: Device, matrices: Sequence[Matrix]) -> DeviceMerkleTree:
    """Commit to matrices with power-of-two heights, in commit order."""
    assert matrices, "a tree needs at least one matrix"
    for matrix in matrices:
        assert len(matrix).bit_count() == 1, f"a height of {len(matrix)} is no power of two"
    height = max(len(matrix) for matrix in matrices)
    depth = height.bit_length() - 1
    layers = device.empty((2 * height - 1) * DIGEST_LEN)
    hash_rows(device, beside(device, [m for m in matrices if len(m) == height]), layers)
    for level in range(1, depth + 1):
        height //= 2
        below = layers[layer_start(depth, level - 1) * DIGEST_LEN :]
        here = layers[layer_start(depth, level) * DIGEST_LEN :][: height * DIGEST_LEN]
        shorter = [m for m in matrices if len(m) == height]
        if not shorter:
            _compress(device, below, below[DIGEST_LEN:], here, 2 * DIGEST_LEN)
            continue
        pairs, injected = device.empty(height * DIGEST_LEN), device.empty(height * DIGEST_LEN)
        _compress(device, below, below[DIGEST_LEN:], pairs, 2 * DIGEST_LEN)
        hash_rows(device, beside(device, shorter), injected)
        _compress(device, pairs, injected, here, DIGEST_LEN)
    return DeviceMerkleTree(tuple(matrices), layers, depth)


def _compress(device: Device, left: Buffer, right: Buffer, out: Buffer, stride: int) -> None:
    device.launch(hashing.compress, out.size // DIGEST_LEN, left, right, out, stride)


def hash_rows(device: Device, rows: Matrix, out: Buffer) -> None:
    """`sponge_24` of every row into the first words of `out`."""
    device.launch(hashing.sponge_24, rows.rows, *rows.layout, rows.columns, out)


def beside(device: Device, matrices: Sequence[Matrix]) -> Matrix:
    """Matrices of one height as one, their columns in order; copied unless there is only one."""
    if len(matrices) == 1:
        return matrices[0]
    rows, columns = matrices[0].rows, sum(matrix.columns for matrix in matrices)
    joined = Matrix.column_major(device, device.empty(rows * columns), rows, columns)
    start = 0
    for matrix in matrices:
        copy(device, matrix, joined[:, start : start + matrix.columns])
        start += matrix.columns
    return joined


def copy(device: Device, source: Matrix, target: Matrix) -> None:
    """Element by element, whatever the strides."""
    assert source.shape == target.shape, (source.shape, target.shape)
    if source.rows * source.columns:
        device.launch(
            hashing.copy_matrix, source.rows * source.columns, *source.layout, source.rows, *target.layout
        )
