"""Everything that only a machine with a GPU can say, in one call: `make gpu-check`.

    1. every kernel compiled and loaded, its code kept
    2. the tests of kernels, CUDA backend and prover, on the card instead of the emulated device
    3. compute-sanitizer over the CUDA tests: memcheck, then racecheck on the kernels that share memory
    4. bare kernels against registers and bandwidth, whole proofs by batch size, and Plonky3 on the same host's cores
       where cargo is installed

Writes `bench/results/gpu.json` with the card, versions and date: what docs/benchmarks.md may then say. Exit status 1 if
a step fails, and a step that could not be run is named as such.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.cli.measure import write_results
from kernels.cuda.errors import DeviceError

ROOT = Path(__file__).resolve().parent.parent
SANITIZER_PLACES = ("/usr/local/cuda/bin/compute-sanitizer", "/opt/cuda/bin/compute-sanitizer")
TESTS = ("tests/kernels/cuda", "tests/workers/stark/test_prover.py", "tests/workers/airs")
SHARING = "extensions or merkle or grinding or opened or matrices"
"""Tests of the kernels whose threads share memory."""
SHAPES = tuple((log_rows, per_row) for per_row in (1, 8) for log_rows in (13, 15, 16, 17, 18))
"""(log2 of the rows, permutations a row)."""
STEP_TIMEOUT_S = 3_600
_PYTEST = (sys.executable, "-m", "pytest", "-q")


@dataclass(frozen=True)
class Step:
    """One command, or the reason why there is none."""

    name: str
    command: tuple[str, ...] = ()
    reason: str | None = None


def find_sanitizer() -> str | None:
    """compute-sanitizer, of the path or of a CUDA toolkit."""
    found = shutil.which("compute-sanitizer")
    return found or next((place for place in SANITIZER_PLACES if Path(place).exists()), None)


def steps(sanitizer: str | None) -> list[Step]:
    """What is run before the figures are taken."""
    tests = Step("tests on the card", (*_PYTEST, *TESTS))
    if sanitizer is None:
        missing = "compute-sanitizer is not installed: it comes with the CUDA toolkit"
        return [tests, Step("memcheck", reason=missing), Step("racecheck", reason=missing)]
    watched = (*_PYTEST, "tests/kernels/cuda/test_backend.py", "-m", "not long")
    checked = (sanitizer, "--error-exitcode", "9", "--target-processes", "all", "--tool")
    return [
        tests,
        Step("memcheck", (*checked, "memcheck", *watched)),
        Step("racecheck", (*checked, "racecheck", *watched, "-k", SHARING)),
    ]


def run(step: Step) -> str:
    """`ok`, `failed`, or why it was not run."""
    print(f"--- {step.name}", flush=True)
    if step.reason is not None:
        print(step.reason)
        return f"not run: {step.reason}"
    environment = os.environ | {"AGENC_TEST_GPU": "1"}
    outcome = subprocess.run(step.command, cwd=ROOT, env=environment, timeout=STEP_TIMEOUT_S, check=False)
    return "ok" if outcome.returncode == 0 else "failed"


def figures() -> dict[str, Any]:
    """Bare kernels, and whole proofs of both widths by height: the best batch is the highest rate."""
    from bench.gpu_measure import bare_kernels
    from coordinator.cli.bench import measure_proofs
    from kernels.cuda.backend import CudaBackend, open_backend
    from kernels.cuda.errors import DeviceMemoryError
    from workers.stark.parameters import STANDARD

    backend: CudaBackend = open_backend()
    kernels = bare_kernels(backend)
    for name, value in kernels.items():
        print(f"{name:32} {value:,.4g}")
    proofs: dict[str, Any] = {}
    for log_rows, per_row in SHAPES:
        name = f"{per_row}x2^{log_rows}"
        try:
            made = measure_proofs(
                log_rows=log_rows, per_row=per_row, repeats=5, parameters=STANDARD, backend=backend
            )
        except DeviceMemoryError as error:
            proofs[name] = {"not_run": str(error)}
            continue
        proofs[name] = {
            "permutations_per_s": made.permutations_per_s,
            "prove_s": made.prove_s,
            "phases_s": made.phases_s,
        }
        print(f"{name:32} {made.permutations_per_s:,.0f} permutations proved per second", flush=True)
    return {"device": backend.device.description, "kernels": kernels, "proofs": proofs, "peer": _peer()}


def _peer() -> dict[str, Any]:
    """Plonky3 on all of this host's cores, at its own best shape."""
    from bench import plonky3
    from kernels.threads import available_threads

    threads = available_threads()
    try:
        made = plonky3.prove_poseidon2(
            parameters="standard", seed=1, log_rows=16, per_row=8, threads=threads, repeat=4
        )
    except plonky3.PeerUnavailable as reason:
        return {"not_run": str(reason)}
    return {"threads": threads, "permutations_per_s": max(each.permutations_per_s for each in made[1:])}


def versions() -> Mapping[str, str]:
    """Of what compiles and runs the kernels."""
    found = {}
    for name in ("numba-cuda", "cupy-cuda13x", "nvidia-nvvm", "numba"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Test, check and measure the CUDA backend on this GPU.")
    parser.add_argument("--no-tests", action="store_true", help="only take the figures")
    options = parser.parse_args(arguments)
    from kernels.cuda.device import compile_ahead

    try:
        device = compile_ahead()
    except DeviceError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 1
    if device is None:
        print("gpu-check: no GPU is here; nothing was checked", file=sys.stderr)
        return 1
    print(device)
    outcomes = {} if options.no_tests else {step.name: run(step) for step in steps(find_sanitizer())}
    print(f"written: {write_results('gpu', {'steps': outcomes, 'versions': versions()} | figures())}")
    print(*(f"{name}: {outcome}" for name, outcome in outcomes.items()), sep="\n")
    return 1 if "failed" in outcomes.values() else 0


if __name__ == "__main__":
    sys.exit(main())
