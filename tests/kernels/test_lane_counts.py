"""The other lane count and the plainest CPU: what this machine would not choose must be right too."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.lanes import LANES

REPOSITORY = Path(__file__).parents[2]
OTHER = {8: 16, 16: 8}[LANES]


def run_kernel_tests(root: Path, *modules: str, **environment: str) -> None:
    """This folder's tests against the kernels under `root`, with a cache of their own."""
    folder = root / "tests" / "kernels"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--timeout", "3000"]
    command += [str(folder / name) for name in modules]
    inherited = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    local = {"PYTHONPATH": str(root), "AGENC_CACHE_DIR": str(root / "cache")}
    finished = subprocess.run(
        command, cwd=root, env=inherited | local | environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout[-4000:]


def copy_of_repository(root: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("kernels", "workers", "tests/kernels", "tests/workers", "tests/vectors"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=ignored)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(REPOSITORY / file, root / file)
    return root


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_all_kernels_with_the_other_number_of_lanes(tmp_path: Path) -> None:
    root = copy_of_repository(tmp_path)
    source = root / "kernels" / "lanes.py"
    changed, count = re.subn(r"(?m)^LANES = .*$", f"LANES = {OTHER}", source.read_text())
    assert count == 1
    source.write_text(changed)
    own = {"test_build.py", "test_lane_counts.py"}
    modules = sorted(path.name for path in (root / "tests" / "kernels").glob("test_*.py"))
    run_kernel_tests(root, *[name for name in modules if name not in own])


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_hashes_and_transforms_without_any_vector_extension(tmp_path: Path) -> None:
    root = copy_of_repository(tmp_path)
    modules = (
        "test_poseidon2.py",
        "test_merkle.py",
        "test_lde.py",
        "test_grind.py",
        "test_sha256.py",
        "test_blake3.py",
    )
    run_kernel_tests(root, *modules, NUMBA_CPU_NAME="generic")
