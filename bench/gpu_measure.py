"""What a GPU does at bare kernels, without transfers: permutations against a kernel that only keeps registers busy,
the extension and trees against the memory's bandwidth. For `bench.gpu_check`."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cuda import hashing
from kernels.cuda.backend import CudaBackend
from kernels.cuda.field import i64, u32
from kernels.cuda.target import Arg, Body, Form, Kernel, Ops
from kernels.field import P

COLUMNS = 164
PERMUTATIONS = 1 << 22
CHAINED = 64
"""Permutations that a thread of the register-only kernel makes one after the other."""
COPY_WORDS = 1 << 28
LOG_ROWS = 16


def _chained(ops: Ops) -> Body:
    """(out U32[n], permutations): from a state made of i, one word written at the end, nothing read."""
    permute = ops.permutation_16.permute

    def body(i: Any, out: Any, permutations: Any) -> None:
        x = u32(i & 0x3FFFFFFF)
        s = (x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x)
        for _ in range(permutations):
            s = permute(s)
        out[i64(i)] = s[0]

    return body


PERMUTE_CHAINED = Kernel("bench_permute_chained", Form.MAP, (Arg.U32S, Arg.I64), _chained, threads=128)
"""No kernel of the product, and so not among its registered ones."""


def seconds(backend: CudaBackend, run: Callable[[], object], *, repeats: int = 5) -> float:
    """The fastest of several runs, each waited for; one more before them is not counted."""
    marker = backend.device.zeros(1)
    best = float("inf")
    for attempt in range(repeats + 1):
        backend.device.download(marker)
        started = time.perf_counter()
        run()
        backend.device.download(marker)
        if attempt:
            best = min(best, time.perf_counter() - started)
    return best


def bare_kernels(
    backend: CudaBackend,
    *,
    permutations: int = PERMUTATIONS,
    copy_words: int = COPY_WORDS,
    log_rows: int = LOG_ROWS,
) -> dict[str, float]:
    """Rates a second, and what part they are of what bounds them."""
    moved, held = permutation_rates(backend, permutations)
    bandwidth = copy_bandwidth(backend, copy_words)
    extended, hashed = tree_rates(backend, log_rows)
    return {
        "permutations_per_s": moved,
        "permutations_in_registers_per_s": held,
        "permutations_ratio": moved / held,
        "copy_bytes_per_s": bandwidth,
        "lde_min_bytes_per_s": extended,
        "lde_share_of_copy": extended / bandwidth,
        "merkle_rows_per_s": hashed,
    }


def permutation_rates(backend: CudaBackend, count: int) -> tuple[float, float]:
    """Permutations of width 16 a second, from memory and back; and in registers alone."""
    device = backend.device
    states = device.upload(np.random.default_rng(1).integers(0, P, 16 * count, dtype=np.uint32))
    out = device.empty(16 * count)
    moved = seconds(backend, lambda: device.launch(hashing.permute_16, count, states, out))
    threads = count // CHAINED
    held = seconds(backend, lambda: device.launch(PERMUTE_CHAINED, threads, out, CHAINED))
    return count / moved, threads * CHAINED / held


def copy_bandwidth(backend: CudaBackend, words: int) -> float:
    """Bytes read and written a second by a plain copy."""
    source, target = backend.device.zeros(words), backend.device.zeros(words)

    def copy() -> None:
        target[:] = source

    return 8 * words / seconds(backend, copy)


def tree_rates(backend: CudaBackend, log_rows: int) -> tuple[float, float]:
    """Bytes a second that an extension to twice the rows moves at least, and rows hashed a second into a tree."""
    rows = 1 << log_rows
    values = backend.upload(np.random.default_rng(2).integers(0, P, (rows, COLUMNS), dtype=np.uint32))
    extending = seconds(backend, lambda: backend.coset_lde(values, log_blowup=1))
    extension = backend.coset_lde(values, log_blowup=1)
    hashing_s = seconds(backend, lambda: backend.merkle_tree([extension]))
    return 4 * COLUMNS * 3 * rows / extending, 2 * rows / hashing_s
