"""The CPU backend: every method passes one fixed pool of threads to the module that knows how."""

from collections.abc import Sequence

from kernels import absorb, deep, fold, grind, hashing, lde, merkle, permutation_trace, quotient
from kernels.field import U32, Ext
from kernels.hashing import I64
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

    def permute(self, states: U32) -> U32:
        return hashing.permute(self.pool, states)

    def hash_tagged(self, elements: U32, offsets: I64, tags: U32) -> U32:
        return hashing.hash_tagged(self.pool, elements, offsets, tags)

    def absorb(self, elements: U32, offsets: I64, tags: U32) -> tuple[U32, U32]:
        return absorb.absorb(self.pool, elements, offsets, tags)

    def hash_rows(self, rows: U32) -> U32:
        return hashing.hash_rows(self.pool, rows)

    def compress_pairs(self, left: U32, right: U32) -> U32:
        return hashing.compress_pairs(self.pool, left, right)

    def permutation_trace(self, inputs: U32, *, out: U32) -> U32:
        return permutation_trace.permutation_trace(self.pool, inputs, out=out)

    def coset_lde(self, values: U32, *, log_blowup: int, out_shift: int = 3, in_shift: int = 1) -> U32:
        return lde.coset_lde(self.pool, values, log_blowup=log_blowup, out_shift=out_shift, in_shift=in_shift)

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

    def combine_columns(self, values: U32, *, coefficients: U32) -> U32:
        return deep.combine_columns(self.pool, values, coefficients=coefficients)

    def reduced_opening(self, openings: Sequence[deep.Opening]) -> U32:
        return deep.reduced_opening(self.pool, openings)

    def fold(self, values: U32, *, beta: Ext, log_arity: int) -> U32:
        return fold.fold(self.pool, values, beta=beta, log_arity=log_arity)
