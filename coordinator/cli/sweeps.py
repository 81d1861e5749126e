"""Kernels over growing inputs: Poseidon2 permutations, low-degree extension, Merkle trees.

Each point counts the field multiplications and the bytes that must cross the memory bus at least once, so
that points of different kernels fit one roofline: below `multiplications / bytes * bandwidth` no kernel runs
slower for want of memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.cli.measure import Timing, timed
from kernels.backend import Backend
from kernels.field import P

TRACE_WIDTH = 164
"""Columns of the matrices: those of the Poseidon2 AIR."""

# Multiplications of one permutation: a cube is two, divisions by powers of two are shifts.
_MULTIPLICATIONS = {16: 2 * (8 * 16 + 20), 24: 2 * (8 * 24 + 23)}
_RATE_24 = 16
_ELEMENT_BYTES = 4
_DIGEST_BYTES = 32
_COPY_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Point:
    """One size of one kernel. `units` of work are what `unit` names."""

    kernel: str
    size: int
    unit: str
    units: int
    multiplications: int
    min_bytes: int
    wall_s: float
    cpu_s: float
    best_s: float

    @property
    def units_per_s(self) -> float:
        """By the fastest run: what the machine can do when it is not doing something else."""
        return self.units / self.best_s

    @property
    def multiplications_per_byte(self) -> float:
        return self.multiplications / self.min_bytes


def _elements(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]":
    return np.random.default_rng(1).integers(0, P, shape, dtype=np.uint32)


def _point(
    kernel: str, size: int, unit: str, units: int, multiplications: int, min_bytes: int, timing: Timing
) -> Point:
    return Point(
        kernel=kernel,
        size=size,
        unit=unit,
        units=units,
        multiplications=multiplications,
        min_bytes=min_bytes,
        wall_s=timing.wall_s,
        cpu_s=timing.cpu_s,
        best_s=timing.best_s,
    )


def sweep_hash(backend: Backend, *, log_sizes: Sequence[int], repeats: int) -> Iterator[Point]:
    """Bare permutations of both widths, batches of 2^log_size."""
    for width in (16, 24):
        for log_size in log_sizes:
            states = _elements(1 << log_size, width)
            timing = timed(lambda states=states: backend.permute(states), repeats=repeats)  # type: ignore[misc]  # mypy cannot infer a lambda's default
            count = 1 << log_size
            yield _point(
                f"poseidon2-{width}",
                count,
                "permutations",
                count,
                count * _MULTIPLICATIONS[width],
                2 * count * width * _ELEMENT_BYTES,
                timing,
            )


def sweep_lde(backend: Backend, *, log_sizes: Sequence[int], repeats: int) -> Iterator[Point]:
    """Extensions of 2^log_size rows of `TRACE_WIDTH` columns to twice as many."""
    for log_size in log_sizes:
        values = _elements(1 << log_size, TRACE_WIDTH)
        timing = timed(lambda values=values: backend.coset_lde(values, log_blowup=1), repeats=repeats)  # type: ignore[misc]  # as above
        cells = values.size
        # Half a multiplication a cell and layer, in three transforms, and the coset's factor twice.
        yield _point(
            "lde",
            1 << log_size,
            "cells",
            cells,
            cells * (3 * log_size // 2 + 2),
            3 * cells * _ELEMENT_BYTES,
            timing,
        )


def sweep_merkle(backend: Backend, *, log_sizes: Sequence[int], repeats: int) -> Iterator[Point]:
    """Trees over 2^log_size rows of `TRACE_WIDTH` columns."""
    leaf = -(-TRACE_WIDTH // _RATE_24)
    for log_size in log_sizes:
        rows = 1 << log_size
        matrix = _elements(rows, TRACE_WIDTH)
        timing = timed(lambda matrix=matrix: backend.merkle_tree([matrix]), repeats=repeats)  # type: ignore[misc]  # as above
        yield _point(
            "merkle",
            rows,
            "rows",
            rows,
            rows * (leaf * _MULTIPLICATIONS[24] + _MULTIPLICATIONS[16]),
            matrix.nbytes + 2 * rows * _DIGEST_BYTES,
            timing,
        )


SWEEPS: dict[str, Callable[..., Iterator[Point]]] = {
    "hash": sweep_hash,
    "lde": sweep_lde,
    "merkle": sweep_merkle,
}


def copy_bandwidth_bytes_per_s() -> float:
    """Bytes read and written a second by one thread that copies far more than the caches hold."""
    source = np.ones(_COPY_BYTES, dtype=np.uint8)  # zeros would all be one page of the system's
    target = np.empty_like(source)
    return 2 * source.nbytes / timed(lambda: np.copyto(target, source), repeats=3).best_s
