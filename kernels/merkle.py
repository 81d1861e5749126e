"""Merkle trees over matrices of mixed power-of-two heights (`MerkleTreeMmcs` of Plonky3 0.6.2).

Leaf i is the sponge over row i of all matrices of the greatest height, concatenated in commit order. A
shorter matrix enters at the layer of its height: node = compress(compress(left, right), sponge(rows)).
A commitment is the layer of 2^cap_height digests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import hashing
from kernels.field import U32
from kernels.poseidon2 import DIGEST_LEN
from kernels.threads import Pool

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MerkleTree:
    """The matrices, in commit order, and all layers of digests: the leaves first, the root last."""

    matrices: tuple[U32, ...]
    layers: tuple[U32, ...]

    @property
    def depth(self) -> int:
        """log2 of the greatest height."""
        return len(self.layers) - 1

    def cap(self, height: int) -> U32:
        """U32[2^min(height, depth), 8], the commitment."""
        return self.layers[self.depth - min(height, self.depth)]

    def open_rows(self, index: int) -> list[U32]:
        """The row of each matrix at that leaf index: one 2^k times shorter opens row index >> k."""
        return [rows[0] for rows in self.open_many(np.array([index]), self.depth)[0]]

    def path(self, index: int, cap_height: int) -> U32:
        """U32[k, 8]: siblings bottom-up, up to but not including the cap layer."""
        paths: U32 = self.open_many(np.array([index]), cap_height)[1][0]
        return paths

    def open_many(self, indices: I64, cap_height: int) -> tuple[list[U32], U32]:
        """Rows of each matrix, U32[q, w], and paths, U32[q, k, 8], at q leaf indices."""
        indices = np.asarray(indices, dtype=np.int64)
        assert indices.ndim == 1, indices.shape
        assert ((indices >= 0) & (indices < len(self.layers[0]))).all(), "an index lies outside the tree"
        rows = [matrix[indices >> self._shift(matrix)] for matrix in self.matrices]
        below_cap = self.layers[: self.depth - min(cap_height, self.depth)]
        paths = np.empty((len(indices), len(below_cap), DIGEST_LEN), np.uint32)
        for level, layer in enumerate(below_cap):
            paths[:, level] = layer[(indices >> level) ^ 1]
        return rows, paths

    def _shift(self, matrix: U32) -> int:
        return self.depth - (len(matrix).bit_length() - 1)


def merkle_tree(pool: Pool, matrices: Sequence[U32]) -> MerkleTree:
    """Commit to matrices U32[height, width] with power-of-two heights, in commit order."""
    assert matrices, "a tree needs at least one matrix"
    for matrix in matrices:
        assert matrix.ndim == 2, matrix.shape
        assert len(matrix).bit_count() == 1, f"a height of {len(matrix)} is no power of two"
    height = max(len(matrix) for matrix in matrices)
    layers = [_hash_height(pool, matrices, height)]
    while height > 1:
        height //= 2
        digests = hashing.compress_adjacent(pool, layers[-1].reshape(height, 2 * DIGEST_LEN))
        if any(len(matrix) == height for matrix in matrices):
            digests = hashing.compress_pairs(pool, digests, _hash_height(pool, matrices, height))
        layers.append(digests)
    return MerkleTree(tuple(matrices), tuple(layers))


def _hash_height(pool: Pool, matrices: Sequence[U32], height: int) -> U32:
    rows = [matrix for matrix in matrices if len(matrix) == height]
    return hashing.hash_rows(pool, rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1))
