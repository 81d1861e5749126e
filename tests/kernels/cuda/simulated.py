"""Small cases on Numba's CUDA simulator against the CPU backend. Run with NUMBA_ENABLE_CUDASIM=1.

The simulator runs the real entry functions, a Python thread for each GPU thread, with shared memory and
barriers: what the emulated device cannot show. It is slow, so that every case is tiny; `--whole-proof` makes a
proof besides. Prints `case ok` for each case, and fails at the first difference.
"""

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from kernels.backend import select
from kernels.cuda import backend as cuda_backend
from kernels.cuda import batches, hashing
from kernels.cuda.backend import CudaBackend
from kernels.cuda.device import HostArray, check_arguments
from kernels.cuda.entry import cuda, entry_function, sync
from kernels.cuda.quotient import SLOTS
from kernels.cuda.target import REGISTRY, Arg, Form, Kernel, Ops
from kernels.deep import Opening
from kernels.field import EXT_ONE, U32, Ext, P, to_monty
from kernels.messages import pack
from tests.kernels.programs import cube_program
from tests.workers.fib_air import FibAir, fib_trace
from workers.stark.parameters import TESTING
from workers.stark.prover import prove

POINT: Ext = (5, 1_000_000_007, 3, 2_000_000_000)
_NUMBERS = {Arg.U32: np.uint32, Arg.I64: np.int64}


@cache
def _compiled(kernel: Kernel) -> Any:
    # Helpers are plain functions here: through the simulator's own wrapper they would be ten times slower.
    return cuda.jit(entry_function(kernel, Ops(lambda fn: fn, sync)))


class SimulatedDevice:
    """The simulator as a device."""

    description = "Numba's CUDA simulator"

    def __init__(self) -> None:
        self.launched: set[str] = set()

    def empty(self, words: int) -> HostArray:
        return np.full(words, 0xDEAD_BEEF, np.uint32)

    def zeros(self, words: int) -> HostArray:
        return np.zeros(words, np.uint32)

    def upload(self, values: HostArray) -> HostArray:
        return np.array(values).reshape(-1)

    def download(self, buffer: HostArray) -> U32:
        return buffer.copy()

    def launch(self, kernel: Kernel, size: int, *arguments: Any) -> None:
        check_arguments(kernel, size, arguments)
        self.launched.add(kernel.name)
        packed = [
            _NUMBERS[kind](argument) if kind in _NUMBERS else argument
            for kind, argument in zip(kernel.arguments, arguments, strict=True)
        ]
        threads = kernel.threads
        if kernel.form is Form.MAP:
            packed.insert(0, np.int64(size))
            threads = min(threads, 4)  # more would only be started to see that there is nothing for them
        blocks = -(-size // threads) if kernel.form is Form.MAP else size
        _compiled(kernel)[blocks, threads](*packed)


CPU = select("cpu", 1)
DEVICE = SimulatedDevice()
CUDA = CudaBackend(DEVICE, threads=1)


def random(seed: int, *shape: int) -> U32:
    return to_monty(np.random.default_rng(seed).integers(0, P, shape))


def same(actual: object, expected: object) -> None:
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def permutations_and_hashes() -> None:
    batches.HOST_ROWS = 0
    for width in (16, 24):
        same(CUDA.permute(random(1, 2, width)), CPU.permute(random(1, 2, width)))
    offsets = np.array([0, 0, 9])
    elements, tags = random(2, 9), np.array([1, 2], np.uint32)
    same(CUDA.hash_tagged(elements, offsets, tags), CPU.hash_tagged(elements, offsets, tags))
    same(
        CUDA.compress_pairs(random(1, 2, 8), random(2, 2, 8)),
        CPU.compress_pairs(random(1, 2, 8), random(2, 2, 8)),
    )
    batches.HOST_BYTES = 0
    messages = pack([b"", b"abc", bytes(1_030)])
    same(CUDA.sha256(*messages), CPU.sha256(*messages))
    same(CUDA.blake3(*messages), CPU.blake3(*messages))
    batches.HOST_ROWS = 4096


def traces() -> None:
    ours, _ = CUDA.new_trace(2, 330, log_blowup=1)
    CUDA.permutation_trace(random(1, 4, 16), out=ours[:, :328])
    theirs = CPU.permutation_trace(random(1, 4, 16), out=np.empty((4, 164), np.uint32))
    same(np.asarray(ours)[:, :328], theirs.reshape(2, 328))
    same(CUDA.take(ours, np.array([1, 0]), slice(5, 9)), theirs.reshape(2, 328)[[1, 0], 5:9])
    inputs = random(2, 11), np.array([0, 2, 11]), np.array([1, 2], np.uint32)
    ours, _ = CUDA.new_trace(3, 164, log_blowup=1)
    theirs, rows = np.empty((3, 164), np.uint32), np.array([2, 0, 1])
    same(CUDA.absorb(*inputs, out=ours, rows=rows), CPU.absorb(*inputs, out=theirs, rows=rows))
    same(ours, theirs)


def extensions() -> None:
    for log_rows, width, log_blowup in ((0, 1, 1), (1, 2, 0), (2, 2, 2), (3, 9, 1)):
        values = random(log_rows, 1 << log_rows, width)
        same(CUDA.coset_lde(values, log_blowup=log_blowup), CPU.coset_lde(values, log_blowup=log_blowup))


def trees() -> None:
    matrices = [random(1, 8, 17), random(2, 4, 3), random(3, 8, 2)]
    ours, theirs = CUDA.merkle_tree(matrices), CPU.merkle_tree(matrices)
    same(ours.cap(1), theirs.cap(1))
    for mine, other in zip(
        ours.open_many(np.arange(8), 1)[0], theirs.open_many(np.arange(8), 1)[0], strict=True
    ):
        same(mine, other)
    same(ours.open_many(np.arange(8), 1)[1], theirs.open_many(np.arange(8), 1)[1])


def quotients() -> None:
    program, lde = cube_program(3), random(1, 32, 3)
    for chunk, expected in zip(
        CUDA.quotient(program, lde, log_rows=4, public_values=[], alpha=POINT),
        CPU.quotient(program, lde, log_rows=4, public_values=[], alpha=POINT),
        strict=True,
    ):
        same(chunk, expected)


def openings() -> None:
    values = random(1, 8, 5)
    case = {"point": POINT, "shift": 7, "with_next": True}
    same(CUDA.open_columns(values, **case), CPU.open_columns(values, **case))
    lde = random(4, 16, 5)
    case = {"log_rows": 3, "point": POINT, "with_next": True}
    same(CUDA.open_extended(lde, **case), CPU.open_extended(lde, **case))
    coefficients = random(2, 5, 4)
    same(
        CUDA.combine_columns(values, coefficients=coefficients),
        CPU.combine_columns(values, coefficients=coefficients),
    )
    opening = Opening(combined=random(3, 16, 4), value=POINT, point=POINT, scale=EXT_ONE)
    same(CUDA.reduced_opening([opening, opening]), CPU.reduced_opening([opening, opening]))


def folds() -> None:
    values = random(1, 16, 4)
    same(CUDA.fold(values, beta=POINT, log_arity=3), CPU.fold(values, beta=POINT, log_arity=3))


def grinding() -> None:
    state, pending = random(1, 24), random(2, 3)
    assert CUDA.grind(state, pending, 2) == CPU.grind(state, pending, 2)


def a_whole_proof() -> None:
    trace, public_values = fib_trace(3, 2_000_000_000, log_rows=4)
    proofs = [
        prove(FibAir(), to_monty(trace), public_values, TESTING, backend).proof for backend in (CUDA, CPU)
    ]
    assert proofs[0] == proofs[1]


CASES: tuple[Callable[[], None], ...] = (
    permutations_and_hashes,
    traces,
    extensions,
    trees,
    quotients,
    openings,
    folds,
    grinding,
)


def main() -> None:
    assert os.environ.get("NUMBA_ENABLE_CUDASIM") == "1", "the simulator is not switched on"
    # uint32 wraps around here as it does in the machine
    warnings.filterwarnings("ignore", "overflow encountered in scalar", RuntimeWarning)
    hashing.GRIND_CANDIDATES = 8
    cuda_backend._GRIND_BLOCKS = 2
    whole = sys.argv[1:] == ["--whole-proof"]
    for case in (*CASES, a_whole_proof) if whole else CASES:
        case()
        print(case.__name__, "ok", flush=True)
    missed = set(REGISTRY) - DEVICE.launched
    assert missed == {f"quotient_{SLOTS[-1]}"}, missed  # the same body with more local memory


if __name__ == "__main__":
    main()
