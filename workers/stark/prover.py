"""The prover: from a trace to the bytes of a proof.

1. Extend the trace's columns to 3 * K and commit. The transcript takes heights, cap and public values, gives
alpha. 2. Fold the constraints with alpha, divide by x^n - 1, commit to the chunks. The transcript takes the
cap, gives zeta. 3. Open the trace at zeta, and at zeta * h if the AIR reads a next row, and the chunks at
zeta. The transcript takes all values, gives the batching challenge.
4. Combine all (f(z) - f(x)) / (z - x) into one vector and prove it of low degree
(`workers.stark.fri_prover`).

The bytes depend on the inputs alone: not on the backend, not on the number of threads. Source: proof.md
sections 3-5; Plonky3 p3-uni-stark 0.6.2 ``prove``, whose bytes these are (on one thread: its grinding witness
is then the smallest).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kernels import extension
from kernels.backend import Backend
from kernels.deep import Opening
from kernels.field import (
    EXT_ONE,
    GENERATOR,
    U32,
    Ext,
    ext_power,
    ext_scale,
    power,
    to_monty,
    two_adic_generator,
)
from kernels.merkle import MerkleTree
from kernels.program import SymbolicProgram
from workers.stark.air import Air, symbolic_program
from workers.stark.fri_prover import prove_low_degree
from workers.stark.parameters import Parameters
from workers.stark.proof import Opened, Proof, encode
from workers.stark.stopwatch import Clock, Stopwatch
from workers.stark.transcript import Transcript

MIN_LOG_ROWS = 4
PHASES = ("lde", "merkle", "quotient", "open", "fri", "grind", "encode")


@dataclass(frozen=True, kw_only=True)
class ProveOutcome:
    """A proof's bytes, the seconds spent in each of `PHASES`, and the trace's rows."""

    proof: bytes
    phases: Mapping[str, float]
    rows: int


def prove(
    air: Air,
    trace: U32,
    public_values: Sequence[int],
    parameters: Parameters,
    backend: Backend,
    clock: Clock = time.perf_counter,
    *,
    memory: U32 | None = None,
) -> ProveOutcome:
    """Prove that ``trace``, U32[n, width] in Montgomery form, satisfies the AIR for canonical
    ``public_values``.

    n is a power of two, at least 2^MIN_LOG_ROWS and at most 2^parameters.max_log_rows; the AIR's degree must
    not need more quotient chunks than the blowup gives (asserted). A trace that violates a constraint gives a
    proof that no verifier accepts, not an error. ``clock`` gives seconds and only measures. ``memory``,
    U32[n << log_blowup, width], may take the trace's extension: with the trace as its last rows
    (`kernels.buffers.extensible`) one proof needs no more memory than the extension, and the trace is lost.
    """
    program = symbolic_program(air)
    rows = len(trace)
    log_rows = rows.bit_length() - 1
    assert rows == 1 << log_rows, f"{rows} rows"
    assert MIN_LOG_ROWS <= log_rows <= parameters.max_log_rows, f"2^{log_rows} rows"
    assert trace.shape == (rows, air.width), trace.shape
    assert trace.dtype == np.uint32, trace.dtype
    assert len(public_values) == air.num_public, (len(public_values), air.num_public)
    assert program.num_quotient_chunks <= 1 << parameters.log_blowup, f"degree {program.degree}"
    watch = Stopwatch(clock, PHASES)
    run = _Run(program, parameters, backend, log_rows, watch, Transcript(backend))
    proof = run.prove(backend.upload(trace), memory, public_values)
    with watch.phase("encode"):
        data = encode(proof, program=program, parameters=parameters)
    return ProveOutcome(proof=data, phases=watch.seconds, rows=rows)


@dataclass(frozen=True)
class _Run:
    """One proof in the making: what its steps have in common."""

    program: SymbolicProgram
    parameters: Parameters
    backend: Backend
    log_rows: int
    watch: Stopwatch
    transcript: Transcript

    def prove(self, trace: U32, memory: U32 | None, public_values: Sequence[int]) -> Proof:
        transcript = self.transcript
        # The height with hiding and without, which is the same here, and no preprocessed columns.
        for value in (self.log_rows, self.log_rows, 0):
            transcript.observe(value)
        trace_lde = self._extend(trace, out=memory)
        trace_tree, trace_cap = self._commit([trace_lde])
        transcript.observe_array(to_monty(np.array(public_values, dtype=np.int64)))

        alpha = transcript.sample_ext()
        with self.watch.phase("quotient"):
            chunks = self.backend.quotient(
                self.program, trace_lde, log_rows=self.log_rows, public_values=public_values, alpha=alpha
            )
        shifted_chunks = list(zip(chunks, self._chunk_shifts(), strict=True))
        chunk_ldes = [self._extend(chunk, in_shift=shift) for chunk, shift in shifted_chunks]
        quotient_tree, quotient_cap = self._commit(chunk_ldes)

        zeta = transcript.sample_ext()
        with self.watch.phase("open"):
            opened = self._open(trace_lde, shifted_chunks, zeta)
        transcript.observe_array(opened.local)
        if opened.next is not None:
            transcript.observe_array(opened.next)
        transcript.observe_array(opened.chunks)

        batching = transcript.sample_ext()
        with self.watch.phase("open"):
            reduced = self._reduce(trace_lde, chunk_ldes, opened, zeta, batching)
        fri = prove_low_degree(
            reduced,
            trace_tree=trace_tree,
            quotient_tree=quotient_tree,
            log_rows=self.log_rows,
            parameters=self.parameters,
            transcript=transcript,
            backend=self.backend,
            watch=self.watch,
        )
        return Proof(
            log_rows=self.log_rows, trace_cap=trace_cap, quotient_cap=quotient_cap, opened=opened, fri=fri
        )

    def _chunk_shifts(self) -> list[int]:
        """Chunk i of the quotient lies on 3 g^i H."""
        chunks = self.program.num_quotient_chunks
        generator = two_adic_generator(self.log_rows + chunks.bit_length() - 1)
        return [ext_scale(GENERATOR, (power(generator, i), 0, 0, 0))[0] for i in range(chunks)]

    def _extend(self, values: U32, *, in_shift: int = 1, out: U32 | None = None) -> U32:
        log_blowup = self.parameters.log_blowup
        with self.watch.phase("lde"):
            return self.backend.coset_lde(values, log_blowup=log_blowup, in_shift=in_shift, out=out)

    def _commit(self, matrices: Sequence[U32]) -> tuple[MerkleTree, U32]:
        with self.watch.phase("merkle"):
            tree = self.backend.merkle_tree(matrices)
            cap = tree.cap(self.parameters.cap_height)
        self.transcript.observe_array(cap)
        return tree, cap

    def _open(self, trace_lde: U32, shifted_chunks: Sequence[tuple[U32, int]], zeta: Ext) -> Opened:
        backend, with_next = self.backend, self.program.reads_next
        rows = backend.open_extended(trace_lde, log_rows=self.log_rows, point=zeta, with_next=with_next)
        chunks = [backend.open_columns(chunk, point=zeta, shift=shift) for chunk, shift in shifted_chunks]
        following = rows[1] if self.program.reads_next else None
        return Opened(local=rows[0], next=following, chunks=np.concatenate(chunks))

    def _reduce(
        self, trace_lde: U32, chunk_ldes: Sequence[U32], opened: Opened, zeta: Ext, batching: Ext
    ) -> U32:
        """The vector that is of low degree only if every opened value is right."""
        width = self.program.width
        coefficients = extension.powers(batching, max(width, 4))
        combined = self.backend.combine_extended(
            trace_lde, log_rows=self.log_rows, coefficients=coefficients[:width]
        )
        openings = [
            Opening(
                combined=combined,
                value=extension.dot(opened.local, coefficients[:width]),
                point=zeta,
                scale=EXT_ONE,
            )
        ]
        taken = width
        if opened.next is not None:
            openings.append(
                Opening(
                    combined=combined,
                    value=extension.dot(opened.next, coefficients[:width]),
                    point=ext_scale(two_adic_generator(self.log_rows), zeta),
                    scale=ext_power(batching, taken),
                )
            )
            taken += width
        for lde, values in zip(chunk_ldes, opened.chunks, strict=True):
            openings.append(
                Opening(
                    combined=self.backend.combine_columns(lde, coefficients=coefficients[:4]),
                    value=extension.dot(values, coefficients[:4]),
                    point=zeta,
                    scale=ext_power(batching, taken),
                )
            )
            taken += 4
        return self.backend.reduced_opening(openings)
