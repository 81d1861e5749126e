"""The CPU backend: every method passes one fixed pool of threads to the module that knows how."""

from collections.abc import Sequence

import numpy as np

from kernels import (
    absorb,
    blake3,
    buffers,
    conversion,
    deep,
    fold,
    grind,
    hashing,
    lde,
    merkle,
    permutation_trace,
    quotient,
    sha256,
)
from kernels.field import U32, Ext
from kernels.hashing import I64
from kernels.messages import U8
from kernels.poseidon2 import TRACE_WIDTH
from kernels.program import SymbolicProgram
from kernels.threads import Pool


class CpuBackend:
    """`kernels.backend.Backend` on at most `threads` threads (None: all this process may use)."""

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.pool = Pool(threads)

    @property
    def threads(self) -> int:
        return self.pool.threads

    def upload(self, values: U32) -> U32:
        return np.ascontiguousarray(values)

    def new_trace(self, rows: int, width: int, *, log_blowup: int) -> tuple[U32, U32 | None]:
        return buffers.extensible(rows, width, log_blowup)

    def write_columns(self, trace: U32, start: int, values: U32) -> None:
        trace[:, start : start + values.shape[1]] = values

    def take(self, trace: U32, rows: I64, columns: slice) -> U32:
        return trace[rows, columns]

    def permute(self, states: U32) -> U32:
        return hashing.permute(self.pool, states)

    def hash_tagged(self, elements: U32, offsets: I64, tags: U32) -> U32:
        return hashing.hash_tagged(self.pool, elements, offsets, tags)

    def absorb(self, elements: U32, offsets: I64, tags: U32, *, out: U32, rows: I64) -> U32:
        return absorb.absorb(self.pool, elements, offsets, tags, out=out, rows=rows)

    def hash_rows(self, rows: U32) -> U32:
        return hashing.hash_rows(self.pool, rows)

    def compress_pairs(self, left: U32, right: U32) -> U32:
        return hashing.compress_pairs(self.pool, left, right)

    def sha256(self, data: U8, offsets: I64) -> U8:
        return sha256.sha256(self.pool, data, offsets)

    def blake3(self, data: U8, offsets: I64) -> U8:
        return blake3.blake3(self.pool, data, offsets)

    def permutation_trace(self, inputs: U32, *, out: U32) -> U32:
        rows = out
        if len(out) != len(inputs):
            assert out.flags.c_contiguous, "several permutations a row follow one another in memory"
            rows = out.reshape(-1, TRACE_WIDTH)
        permutation_trace.permutation_trace(self.pool, inputs, out=rows)
        return out

    def to_montgomery(self, elements: U32) -> U32:
        return conversion.to_montgomery(elements)

    def coset_lde(
        self,
        values: U32,
        *,
        log_blowup: int,
        out_shift: int = 3,
        in_shift: int = 1,
        out: U32 | None = None,
    ) -> U32:
        return lde.coset_lde(
            self.pool, values, log_blowup=log_blowup, out_shift=out_shift, in_shift=in_shift, out=out
        )

    def merkle_tree(self, matrices: Sequence[U32]) -> merkle.MerkleTree:
        return merkle.merkle_tree(self.pool, matrices)

    def grind(self, state: U32, pending: U32, bits: int) -> int:
        return grind.grind(self.pool, state, pending, bits)

    def quotient(
        self,
        program: SymbolicProgram,
        trace_lde: U32,
        *,
        log_rows: int,
        public_values: Sequence[int],
        alpha: Ext,
    ) -> U32:
        return quotient.quotient(
            self.pool, program, trace_lde, log_rows=log_rows, public_values=public_values, alpha=alpha
        )

    def open_columns(self, values: U32, *, point: Ext, shift: int = 1, with_next: bool = False) -> U32:
        return deep.open_columns(self.pool, values, point=point, shift=shift, with_next=with_next)

    def open_extended(self, lde: U32, *, log_rows: int, point: Ext, with_next: bool = False) -> U32:
        return deep.open_extended(self.pool, lde, log_rows=log_rows, point=point, with_next=with_next)

    def combine_columns(self, values: U32, *, coefficients: U32) -> U32:
        return deep.combine_columns(self.pool, values, coefficients=coefficients)

    def combine_extended(self, lde: U32, *, log_rows: int, coefficients: U32) -> U32:
        return deep.combine_extended(self.pool, lde, log_rows=log_rows, coefficients=coefficients)

    def reduced_opening(self, openings: Sequence[deep.Opening]) -> U32:
        return deep.reduced_opening(self.pool, openings)

    def fold(self, values: U32, *, beta: Ext, log_arity: int) -> U32:
        return fold.fold(self.pool, values, beta=beta, log_arity=log_arity)
