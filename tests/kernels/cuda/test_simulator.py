"""Every CUDA kernel, entry and barriers included, gives the CPU's words on Numba's simulator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def simulate(*options: str) -> list[str]:
    """What the cases print. In a process of its own: the switch is read when numba is imported."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.kernels.cuda.simulated", *options],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines()


@pytest.mark.timeout(900)
def test_kernels_on_the_simulator_equal_the_cpu() -> None:
    assert "folds ok" in simulate()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_whole_proof_on_the_simulator_is_the_cpus_byte_for_byte() -> None:
    assert "a_whole_proof ok" in simulate("--whole-proof")
