"""`python -m workers.build`: compile every kernel for this machine, once, and check that they prove.

AIRs need no compilation of their own: an AIR's constraints are data to the quotient kernel (`kernels.tape`).
So one build serves every AIR, and a process that starts later compiles nothing.
"""

import sys
import time

import numpy as np

from kernels import build
from kernels.backend import select
from kernels.cuda.device import compile_ahead
from kernels.cuda.errors import DeviceError
from workers.airs.poseidon2 import COLUMNS, STATE_WIDTH, Poseidon2Air
from workers.stark.parameters import TESTING
from workers.stark.prover import MIN_LOG_ROWS, prove
from workers.stark.verifier import verify


def check() -> None:
    """Prove a few permutations and verify the proof. Raises VerificationError if this machine computes
    wrongly."""
    backend, air, count = select("cpu", 1), Poseidon2Air(), 1 << MIN_LOG_ROWS
    inputs = np.arange(count * STATE_WIDTH, dtype=np.uint32).reshape(count, STATE_WIDTH)
    trace = backend.permutation_trace(inputs, out=np.empty((count, COLUMNS), dtype=np.uint32))
    outcome = prove(air, trace, (), TESTING, backend)
    verify(air, outcome.proof, (), parameters=TESTING, log_rows=MIN_LOG_ROWS, backend=backend)


def compile_for_gpu() -> None:
    """The GPU's kernels too, where there is one; what hinders that is said, and the CPU proves all the same."""
    try:
        if (device := compile_ahead()) is not None:
            print(f"kernels for {device} ready", file=sys.stderr)
    except DeviceError as error:
        print(f"warning: the GPU's kernels: {error}", file=sys.stderr)


def main() -> None:
    """Compile with a line of progress a kernel on standard error, when there is anything to compile; the last line says
    where and how long.
    """
    started = time.perf_counter()
    cold = build.cache_state() == "cold"
    if warning := build.cache_warning():
        print(f"warning: {warning}", file=sys.stderr)

    def progress(name: str, done: int, total: int) -> None:
        if done < total:
            print(f"[{done + 1:3}/{total}] {name}", file=sys.stderr, flush=True)

    build.compile_all(progress if cold else None)
    check()
    compile_for_gpu()
    seconds = time.perf_counter() - started
    directory = build.configure_cache().directory
    print(
        f"kernels ready in {seconds:.1f} s, a proof made and verified; cached in {directory}", file=sys.stderr
    )


if __name__ == "__main__":
    main()
