"""The one interface through which a prover computes, and the choice of what stands behind it.

Every method is pure: arrays in, arrays out, Montgomery form. The CPU backend (`kernels.cpu`) is the
definition that any other target must equal bit for bit; where the field's own Python definition
exists (`kernels.field`, `kernels.poseidon2`), the CPU backend must equal that.

How to add a kernel:

1. Write `kernels/<subject>.py`: the compiled functions, each decorated with
   `@jit.kernel(args...)` (explicit types: that is what lets `kernels.build.compile_all` compile it
   ahead), helpers with `@jit.inline`, and one plain function `subject(pool, arrays..., *, options)`
   that checks shapes with assertions, allocates the output, and calls the kernel on row ranges
   with `pool.run_ranges(lambda start, stop: _kernel(array, out, start, stop), n, min_chunk)`.
2. Import the module in `kernels/cpu.py` and give `CpuBackend` a method that passes `self.pool`.
3. Add the method to `Backend` below, shapes in its docstring.
4. Test it against Python integers in `tests/kernels/test_<subject>.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from kernels.field import U32, Ext
from kernels.program import SymbolicProgram

if TYPE_CHECKING:
    from kernels.deep import Opening
    from kernels.merkle import MerkleTree

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]


class Backend(Protocol):
    """What the proof system needs computed. `threads` bounds the CPU threads any method may use."""

    @property
    def name(self) -> str:
        """`cpu` or `cuda`."""

    @property
    def threads(self) -> int: ...

    def upload(self, values: U32) -> U32:
        """The matrix U32[n, w] where the backend computes. What is there already stays as it is, and no method copies
        it again. On a device this is no NumPy array: it has a shape, can be sliced, and is read by `numpy.asarray`."""

    def new_trace(self, rows: int, width: int, *, log_blowup: int) -> "tuple[U32, U32 | None]":
        """A trace U32[rows, width] to be filled where the backend computes, and the memory that it and its extension
        may share (`coset_lde`'s `out`), if any. The contents are arbitrary."""

    def write_columns(self, trace: U32, start: int, values: U32) -> None:
        """Columns `start` ... of such a trace from U32[rows, k]."""

    def take(self, trace: U32, rows: I64, columns: slice) -> U32:
        """These columns of these rows of such a trace, on the host: U32[len(rows), columns]."""

    def permute(self, states: U32) -> U32:
        """Poseidon2 of every row of U32[n, 16] or U32[n, 24]."""

    def hash_tagged(self, elements: U32, offsets: I64, tags: U32) -> U32:
        """H_t of n inputs: U32[n, 8].

        Input i is `elements[offsets[i]:offsets[i + 1]]` (Montgomery); `offsets` is int64[n + 1], rising
        from 0 to `elements.size`; `tags` is uint32[n] of plain integers below p.
        """

    def absorb(self, elements: U32, offsets: I64, tags: U32, *, out: U32, rows: I64) -> U32:
        """As `hash_tagged` for inputs of at least one element, with every permutation's trace row kept.

        Block by block, input by input, the rows go to `out[rows[k], :164]`, as `permutation_trace` would write
        them; `out` is as it is there, and no two of `rows` are equal.
        """

    def hash_rows(self, rows: U32) -> U32:
        """`poseidon2.sponge24` of every row of U32[q, w]: U32[q, 8]."""

    def compress_pairs(self, left: U32, right: U32) -> U32:
        """`poseidon2.compress` of U32[q, 8] with U32[q, 8]: U32[q, 8]."""

    def sha256(self, data: U8, offsets: I64) -> U8:
        """SHA-256 of n messages: U8[n, 32]. Message i is `data[offsets[i]:offsets[i + 1]]`, data U8[total],
        `offsets` int64[n + 1] rising from 0 to its size (`kernels.messages.pack` makes both)."""

    def blake3(self, data: U8, offsets: I64) -> U8:
        """BLAKE3 of n messages, 32 bytes each: U8[n, 32]. See `sha256`."""

    def permutation_trace(self, inputs: U32, *, out: U32) -> U32:
        """Poseidon2 AIR rows (`poseidon2.trace_row`) of U32[n, 16] into `out[:, :164]`; returns `out`.

        `out` is U32[n, >= 164] with contiguous columns and any row stride, so that it may be a window
        of a wider trace; its other columns are left as they are. U32[n / k, 164 k], without a gap between its rows,
        takes k of them side by side.
        """

    def to_montgomery(self, elements: U32) -> U32:
        """Montgomery form of canonical U32[n]."""

    def coset_lde(
        self,
        values: U32,
        *,
        log_blowup: int,
        out_shift: int = 3,
        in_shift: int = 1,
        out: U32 | None = None,
    ) -> U32:
        """Low-degree extension of every column of U32[n, w], n a power of two: U32[n << log_blowup, w].

        The column's values lie on in_shift * H in natural order; the result lies on out_shift * K,
        |K| = n << log_blowup, rows bit-reversed. The shifts are canonical integers, not zero. `out` is
        memory that the result may take; the values may be its last n rows, and are lost then.
        """

    def merkle_tree(self, matrices: Sequence[U32]) -> "MerkleTree":
        """Commit to matrices of power-of-two heights (any mixture), given in commit order."""

    def grind(self, state: U32, pending: U32, bits: int) -> int:
        """The smallest canonical w whose observation makes the next `bits` sampled bits zero.

        `state` is the duplex challenger's U32[24], `pending` its U32[k] inputs that wait, k <= 15;
        0 <= bits <= 30, and no bits give 0 untried. Raises `ArithmeticError` if no element does.
        """

    def quotient(
        self,
        program: SymbolicProgram,
        trace_lde: U32,
        *,
        log_rows: int,
        public_values: Sequence[int],
        alpha: Ext,
    ) -> U32:
        """The chunks of the folded constraints' quotient by x^n - 1: U32[chunks, n, 4], n = 2^log_rows.

        `trace_lde` is `coset_lde` of the trace, U32[n << log_blowup, w]; chunk i is given on 3 g^i H in
        natural order, g generating the subgroup of order n * chunks. Public values, alpha canonical.
        """

    def open_columns(self, values: U32, *, point: Ext, shift: int = 1, with_next: bool = False) -> U32:
        """Every column's value at `point`, and at the point one row on if `with_next`: U32[1 or 2, w, 4].

        `values` is U32[n, w] on shift * H in natural order; `point`, `shift` are canonical.
        """

    def open_extended(self, lde: U32, *, log_rows: int, point: Ext, with_next: bool = False) -> U32:
        """As `open_columns` of 2^log_rows values on H, given their extension `coset_lde` instead."""

    def combine_columns(self, values: U32, *, coefficients: U32) -> U32:
        """Of every row of U32[m, w] the combination with coefficients U32[w, 4]: U32[m, 4]."""

    def combine_extended(self, lde: U32, *, log_rows: int, coefficients: U32) -> U32:
        """As `combine_columns` of an extension `coset_lde` of 2^log_rows values a column."""

    def reduced_opening(self, openings: "Sequence[Opening]") -> U32:
        """Sum of scale * (value - combined(x)) / (point - x), x on 3 * K bit-reversed: U32[m, 4]."""

    def fold(self, values: U32, *, beta: Ext, log_arity: int) -> U32:
        """One FRI round on U32[m, 4], bit-reversed on the subgroup: U32[m >> log_arity, 4]."""


@dataclass(frozen=True)
class Selection:
    """The backend that was chosen and why, in one sentence for the log."""

    backend: Backend
    reason: str


def select(name: str = "auto", threads: int | None = None) -> Backend:
    """The backend called `auto`, `cpu` or `cuda`, on at most `threads` CPU threads (None: all)."""
    return choose(name, threads).backend


def choose(name: str = "auto", threads: int | None = None) -> Selection:
    """As `select`, with the reason. Raises ValueError for a name or a device that is not there."""
    from kernels.cpu import CpuBackend  # numba is imported only by a process that computes

    if name == "cpu":
        return Selection(CpuBackend(threads), "the CPU backend was asked for by name")
    if name not in ("auto", "cuda"):
        raise ValueError(f"no backend is called {name!r}: use auto, cpu or cuda")
    from kernels.cuda.backend import open_backend
    from kernels.cuda.errors import DeviceError

    try:
        cuda = open_backend(threads)
    except DeviceError as error:
        if name == "cuda":
            raise ValueError(f"the CUDA backend cannot be used: {error}") from error
        return Selection(CpuBackend(threads), f"no GPU can be used: {error}")
    asked = "the CUDA backend was asked for by name" if name == "cuda" else "a GPU is there"
    return Selection(cuda, f"{asked}: {cuda.device.description}")
