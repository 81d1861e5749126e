"""Every CUDA kernel, entry and barriers included, gives the CPU's words on Numba's simulator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(900)
def test_kernels_on_the_simulator_equal_the_cpu() -> None:
    # The switch is read when numba is imported: hence a process of its own.
    run = subprocess.run(
        [sys.executable, "-m", "tests.kernels.cuda.simulated"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "a_whole_proof ok" in run.stdout
