"""The CUDA backend: `kernels.backend.Backend` on matrices in device memory.

A method takes host arrays or `Matrix` and gives `Matrix` for what is as tall as the trace: between two calls
nothing leaves the device but what the transcript observes (caps, opened values) and the openings. Small work
whose operands are on the host, above all the transcript's own permutations, is done there: a launch would
take longer. Every result equals the CPU backend's bit for bit.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from kernels import field
from kernels.cpu import CpuBackend
from kernels.cuda import absorb, hashing, merkle, opening, quotient, transform
from kernels.cuda.batches import Batches
from kernels.cuda.device import CupyDevice, Device
from kernels.cuda.matrix import Matrix
from kernels.cuda.tables import Tables
from kernels.deep import Opening
from kernels.extension import powers as ext_powers
from kernels.field import EXT_DEGREE, U32, Ext
from kernels.grind import MAX_BITS, duplex_input
from kernels.hashing import I64
from kernels.messages import U8
from kernels.poseidon2 import DIGEST_LEN, RATE_24, TRACE_WIDTH
from kernels.program import SymbolicProgram

Array: TypeAlias = Any
"""A `Matrix`, or U32 on the host: a prover passes on what it got, and need not know which."""

_COLUMN_MAJOR_FROM = 2 * EXT_DEGREE + 1  # columns; narrower matrices keep their rows together
_SUM_BLOCKS = 1024  # blocks that fill a GPU when columns are summed
_GRIND_BLOCKS = 1024  # of `hashing.GRIND_CANDIDATES` each, between two looks at what was found


def open_backend(threads: int | None = None) -> "CudaBackend":
    """The backend of the first GPU, once a kernel is seen to run there.

    Raises:
        DeviceError: there is no GPU, no driver, or no code for it and no compiler.
    """
    backend = CudaBackend(threads=threads)
    trace, _ = backend.new_trace(1, TRACE_WIDTH, log_blowup=0)
    backend.permutation_trace(np.zeros((1, 16), np.uint32), out=trace)
    return backend


class CudaBackend:
    """One device, and `threads` CPU threads for what stays on the host (None: all)."""

    name = "cuda"

    def __init__(self, device: Device | None = None, *, threads: int | None = None) -> None:
        """
        Raises:
            NoDevice: no device was given, and none is there.
        """
        self.device: Device = device if device is not None else CupyDevice()
        self.host = CpuBackend(threads)
        self.batches = Batches(self.device, self.host)
        self._tables = Tables(self.device)

    @property
    def threads(self) -> int:
        return self.host.threads

    def upload(self, values: Array) -> Array:
        """A `Matrix`."""
        if isinstance(values, Matrix):
            return values
        assert values.ndim == 2, values.shape
        assert values.dtype == np.uint32, values.dtype
        rows, columns = values.shape
        matrix = Matrix.row_major(self.device, self.device.upload(values), rows, columns)
        return matrix if columns < _COLUMN_MAJOR_FROM else self._transposed(matrix)

    def new_trace(self, rows: int, width: int, *, log_blowup: int) -> tuple[Array, None]:
        return Matrix.column_major(self.device, self.device.empty(rows * width), rows, width), None

    def write_columns(self, trace: Array, start: int, values: U32) -> None:
        source = Matrix.row_major(self.device, self.device.upload(values), *values.shape)
        merkle.copy(self.device, source, trace[:, start : start + source.columns])

    def take(self, trace: Array, rows: I64, columns: slice) -> U32:
        window = trace[:, columns]
        out = self.device.empty(max(1, len(rows) * window.columns))
        if len(rows):
            places = self.device.upload(rows.astype(np.int64))
            self.device.launch(hashing.gather_rows, out.size, *window.layout, window.columns, places, 0, out)
        return self.device.download(out)[: len(rows) * window.columns].reshape(len(rows), window.columns)

    def permute(self, states: U32) -> U32:
        return self.batches.permute(states)

    def hash_tagged(self, elements: U32, offsets: I64, tags: U32) -> U32:
        return self.batches.hash_tagged(elements, offsets, tags)

    def absorb(self, elements: U32, offsets: I64, tags: U32, *, out: Array, rows: I64) -> U32:
        if isinstance(out, np.ndarray):
            return self.host.absorb(elements, offsets, tags, out=out, rows=rows)
        return absorb.absorb(self.device, self.host.pool, elements, offsets, tags, out=out, rows=rows)

    def hash_rows(self, rows: Array) -> U32:
        if isinstance(rows, np.ndarray):
            return self.batches.hash_rows(rows)
        matrix = self.upload(rows)
        out = self.device.empty(len(matrix) * DIGEST_LEN)
        merkle.hash_rows(self.device, matrix, out)
        return self.device.download(out).reshape(-1, DIGEST_LEN)

    def compress_pairs(self, left: U32, right: U32) -> U32:
        return self.batches.compress_pairs(left, right)

    def sha256(self, data: U8, offsets: I64) -> U8:
        return self.batches.sha256(data, offsets)

    def blake3(self, data: U8, offsets: I64) -> U8:
        return self.batches.blake3(data, offsets)

    def permutation_trace(self, inputs: U32, *, out: Array) -> Array:
        """As `Backend.permutation_trace`; a `Matrix` as `out` may hold several permutations a row, its width
        a multiple of 164."""
        count = len(inputs)
        if isinstance(out, Matrix):
            per_row = count // out.rows
            assert count == per_row * out.rows, (count, out.rows)
            assert out.columns >= per_row * TRACE_WIDTH, (out.columns, per_row)
            self._trace(inputs, out, per_row)
            return out
        return self.batches.permutation_trace(inputs, out=out)

    def _trace(self, inputs: U32, out: Matrix, per_row: int) -> None:
        assert inputs.shape == (len(inputs), 16), inputs.shape
        self.device.launch(
            hashing.permutation_trace, len(inputs), self.device.upload(inputs), *out.layout, per_row
        )

    def to_montgomery(self, elements: U32) -> U32:
        return self.host.to_montgomery(elements)

    def coset_lde(
        self,
        values: Array,
        *,
        log_blowup: int,
        out_shift: int = 3,
        in_shift: int = 1,
        out: U32 | None = None,
    ) -> Array:
        """As `Backend.coset_lde`; the extension stays on the device, whatever memory `out` is."""
        return self._coset_lde(values, log_blowup, out_shift, in_shift)

    def _coset_lde(self, values: Array, log_blowup: int, out_shift: int, in_shift: int) -> Array:
        matrix = self.upload(values)
        n, width = matrix.shape
        log_n = n.bit_length() - 1
        assert n == 1 << log_n, f"{n} rows are no power of two"
        assert log_n <= transform.MAX_LOG_ROWS, f"2^{log_n} rows"
        assert 0 <= log_blowup <= field.TWO_ADICITY - log_n, (n, log_blowup)
        assert out_shift % field.P != 0, "a coset's shift is not zero"
        assert in_shift % field.P != 0, "a coset's shift is not zero"
        rows = n << log_blowup
        out = Matrix.column_major(self.device, self.device.empty(rows * width), rows, width)
        if width == 0:
            return out
        log_low = (log_n + 1) // 2
        log_high = log_n - log_low
        forward, backward = (self._tables.roots(log_n, inverted=inverted) for inverted in (False, True))
        scales = self._tables.scales(log_n, log_blowup, out_shift % field.P, in_shift % field.P)
        target = (out.buffer, out.column_stride)
        sizes = (log_low, log_high)
        tile = min(transform.MAX_LOG_TILE, transform.LOG_SHARED - log_low, log_high)
        blocks = width << (log_high - tile)
        self.device.launch(transform.interpolate, blocks, *matrix.layout, *target, backward, *sizes, tile)
        tile = min(transform.MAX_LOG_TILE, transform.LOG_SHARED - 1 - log_high, log_low)
        blocks = width << (log_low - tile)
        self.device.launch(
            transform.cross, blocks, *target, backward, forward, scales, 1 << log_blowup, *sizes, tile
        )
        log_blocks = log_high + log_blowup
        tile = min(transform.LOG_SHARED - log_low, log_blocks)
        blocks = width << (log_blocks - tile)
        self.device.launch(transform.evaluate, blocks, *target, forward, log_low, log_blocks, tile)
        return out

    def merkle_tree(self, matrices: Sequence[Array]) -> Any:
        """A `DeviceMerkleTree`, which answers as a `kernels.merkle.MerkleTree` does."""
        return merkle.merkle_tree(self.device, [self.upload(matrix) for matrix in matrices])

    def grind(self, state: U32, pending: U32, bits: int) -> int:
        assert state.shape == (24,), state.shape
        assert pending.shape == (pending.size,), pending.shape
        assert pending.size < RATE_24, "the challenger permutes before so many inputs wait"
        assert 0 <= bits <= MAX_BITS, bits
        if bits == 0:
            return 0
        before = self.device.upload(duplex_input(state, pending))
        found = self.device.empty(_GRIND_BLOCKS)
        squared = field.monty(field.MONTY_R)
        for first in range(0, field.P, _GRIND_BLOCKS * hashing.GRIND_CANDIDATES):
            arguments = (before, pending.size, squared, (1 << bits) - 1, first, found)
            self.device.launch(hashing.grind, _GRIND_BLOCKS, *arguments)
            places = self.device.download(found)
            blocks = np.flatnonzero(places != hashing.NOT_FOUND)
            if blocks.size:
                witness = first + int(blocks[0]) * hashing.GRIND_CANDIDATES + int(places[blocks[0]])
                if witness < field.P:
                    return witness
        raise ArithmeticError(f"no field element grinds {bits} bits from this state")

    def quotient(
        self,
        program: SymbolicProgram,
        trace_lde: Array,
        *,
        log_rows: int,
        public_values: Sequence[int],
        alpha: Ext,
    ) -> Array:
        """As `Backend.quotient`; the chunks are a list of matrices."""
        lde = self.upload(trace_lde)
        rows, chunks = 1 << log_rows, program.num_quotient_chunks
        log_chunks = chunks.bit_length() - 1
        size = rows * chunks
        assert len(lde) >= size, (len(lde), size)
        assert lde.columns == program.width, (lde.columns, program.width)
        loaded = self._tables.tape(program)
        root, power = field.two_adic_generator(log_chunks), field.power(field.GENERATOR, rows)
        vanishing = [field.sub(field.mul(power, field.power(root, chunk)), 1) for chunk in range(chunks)]
        upload = self.device.upload
        scalars = field.to_monty(loaded.tape.scalar_values(public_values) or [0])
        weights = np.concatenate(
            (ext_powers(alpha, len(program.roots))[::-1], np.zeros((1, EXT_DEGREE), np.uint32))
        )
        out = self.device.empty(size * EXT_DEGREE)
        self.device.launch(
            loaded.kernel,
            size,
            loaded.instructions,
            len(loaded.tape.instructions),
            upload(scalars),
            upload(weights),
            *lde.layout,
            self._selectors(log_rows, log_chunks, vanishing),
            size,
            upload(field.to_monty([field.inverse(z) for z in vanishing])),
            log_rows,
            log_chunks,
            out,
        )
        words = rows * EXT_DEGREE
        return [
            Matrix.row_major(self.device, out[chunk * words : (chunk + 1) * words], rows, EXT_DEGREE)
            for chunk in range(chunks)
        ]

    def _selectors(self, log_rows: int, log_chunks: int, vanishing: Sequence[int]) -> Any:
        size = 1 << (log_rows + log_chunks)
        last = field.monty(field.inverse(field.two_adic_generator(log_rows)))
        out = self.device.empty(3 * size)
        self.device.launch(
            quotient.selectors,
            size,
            self._tables.coset(log_rows + log_chunks),
            self.device.upload(field.to_monty(vanishing)),
            log_rows,
            field.MONTY_R,
            last,
            size,
            out,
        )
        return out

    def open_columns(self, values: Array, *, point: Ext, shift: int = 1, with_next: bool = False) -> U32:
        matrix = self.upload(values)
        rows = len(matrix)
        log_rows = rows.bit_length() - 1
        assert rows == 1 << log_rows, f"{rows} rows"
        assert rows >= 2, "rows are summed by twos"
        unshifted = field.ext_scale(field.inverse(shift), point)
        weights = self._weights(unshifted, self._tables.subgroup(log_rows), rows)
        steps = (0, 1) if with_next else (0,)
        return self._sums(matrix, [(weights, step) for step in steps], unshifted)

    def open_extended(self, lde: Array, *, log_rows: int, point: Ext, with_next: bool = False) -> U32:
        matrix = self.upload(lde)[: 1 << log_rows]
        # The weights of the next row's point are those of this one a row before: at x / h in place of x.
        shifts = [field.GENERATOR]
        if with_next:
            shifts.append(field.mul(field.GENERATOR, field.inverse(field.two_adic_generator(log_rows))))
        weights = [
            (self._weights(point, self._tables.coset(log_rows, shift), matrix.rows), 0) for shift in shifts
        ]
        return self._sums(matrix, weights, field.ext_scale(field.inverse(field.GENERATOR), point))

    def _weights(self, point: Ext, xs: Any, rows: int) -> Any:
        weights = self.device.empty(rows * EXT_DEGREE)
        target = self.device.upload(field.to_monty(point))
        self.device.launch(opening.barycentric_weights, rows, target, xs, weights)
        return weights

    def _sums(self, matrix: Matrix, weights: Sequence[tuple[Any, int]], unshifted: Ext) -> U32:
        """The columns' values, given weights and the step each is taken at: U32[len(weights), w, 4]."""
        vanishing = field.ext_sub(field.ext_power(unshifted, matrix.rows), field.EXT_ONE)
        factor = self.device.upload(field.to_monty(field.ext_scale(field.inverse(matrix.rows), vanishing)))
        words = matrix.columns * EXT_DEGREE
        out = self.device.empty(len(weights) * words)
        for place, (each, step) in enumerate(weights):
            self._sum_columns(matrix, each, step, factor, out[place * words : (place + 1) * words])
        return self.device.download(out).reshape(len(weights), matrix.columns, EXT_DEGREE)

    def _sum_columns(self, matrix: Matrix, weights: Any, step: int, factor: Any, out: Any) -> None:
        wanted = max(1, _SUM_BLOCKS // matrix.columns)
        allowed = max(1, matrix.rows // (2 * opening.SUM_THREADS))
        segments = 1 << (min(wanted, allowed).bit_length() - 1)
        sums = self.device.empty(matrix.columns * segments * EXT_DEGREE)
        self.device.launch(
            opening.column_sums,
            matrix.columns * segments,
            *matrix.layout,
            matrix.rows,
            matrix.rows // segments,
            weights,
            step,
            sums,
        )
        self.device.launch(opening.sum_segments, matrix.columns, sums, segments, factor, out)

    def combine_columns(self, values: Array, *, coefficients: U32) -> Array:
        matrix = self.upload(values)
        rows, width = matrix.shape
        assert coefficients.shape == (width, EXT_DEGREE), (coefficients.shape, width)
        assert width >= 1, "a combination has columns"
        even = np.zeros((width + width % 2, EXT_DEGREE), np.uint32)
        even[:width] = coefficients
        out = self.device.empty(rows * EXT_DEGREE)
        self.device.launch(
            opening.combine_columns, rows, *matrix.layout, width, self.device.upload(even), out
        )
        return Matrix.row_major(self.device, out, rows, EXT_DEGREE)

    def combine_extended(self, lde: Array, *, log_rows: int, coefficients: U32) -> Array:
        # Reading the second half costs a GPU less than extending the combination of the first.
        return self.combine_columns(lde, coefficients=coefficients)

    def reduced_opening(self, openings: Sequence[Opening]) -> Array:
        size = len(openings[0].combined)
        assert size.bit_count() == 1, f"{size} rows"
        xs = self._tables.coset(size.bit_length() - 1)
        out = self.device.zeros(size * EXT_DEGREE)
        for each in openings:
            combined = self.upload(each.combined)
            assert combined.shape == (size, EXT_DEGREE), combined.shape
            parameters = self.device.upload(field.to_monty([each.value, each.point, each.scale]))
            self.device.launch(opening.add_opening, size, *combined.layout, xs, parameters, out)
        return Matrix.row_major(self.device, out, size, EXT_DEGREE)

    def fold(self, values: Array, *, beta: Ext, log_arity: int) -> Array:
        vector = self.upload(values)
        log_size = len(vector).bit_length() - 1
        assert vector.shape == (1 << log_size, EXT_DEGREE), vector.shape
        assert (vector.row_stride, vector.column_stride) == (EXT_DEGREE, 1), "elements are contiguous"
        assert 1 <= log_arity <= log_size, (log_arity, log_size)
        halves = self._tables.halves_over_x(log_size)
        for _ in range(log_arity):
            rows = len(vector) // 2
            out = self.device.empty(rows * EXT_DEGREE)
            challenge = self.device.upload(field.to_monty(beta))
            self.device.launch(opening.fold, rows, vector.buffer, challenge, halves, out)
            vector, beta = Matrix.row_major(self.device, out, rows, EXT_DEGREE), field.ext_mul(beta, beta)
        return vector

    def _transposed(self, matrix: Matrix) -> Matrix:
        """The same matrix, column-major."""
        rows, columns = matrix.shape
        out = Matrix.column_major(self.device, self.device.empty(rows * columns), rows, columns)
        size = transform.TRANSPOSE_TILE
        blocks = -(-rows // size) * -(-columns // size)
        if blocks:
            self.device.launch(
                transform.transpose, blocks, matrix.buffer, rows, columns, out.buffer, out.column_stride
            )
        return out
