"""`make gpu-check`: what it would run, and what it says where there is no GPU."""

import pytest

from bench import gpu_check
from bench.gpu_measure import bare_kernels
from kernels.cuda.backend import CudaBackend
from tests.kernels.cuda.emulated import EmulatedDevice
from tests.kernels.cuda.fake_cupy import FakeCupy, installed


def test_without_a_gpu_nothing_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    with installed(FakeCupy(devices=0)):
        assert gpu_check.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no GPU is here" in captured.err


def test_the_suites_and_the_tests_that_it_names_are_there() -> None:
    for path in gpu_check.TESTS:
        assert (gpu_check.ROOT / path).exists(), path
    written = (gpu_check.ROOT / "tests/kernels/cuda/test_backend.py").read_text()
    for word in gpu_check.SHARING.split(" or "):
        assert any(word in line for line in written.splitlines() if line.startswith("def test_")), word


@pytest.mark.long  # the kernels are compiled for the host
def test_the_figures_are_those_of_the_kernels() -> None:
    backend = CudaBackend(EmulatedDevice(), threads=1)
    found = bare_kernels(backend, permutations=256, copy_words=1 << 16, log_rows=4)
    assert all(value > 0 for value in found.values())
    assert found["permutations_ratio"] == pytest.approx(
        found["permutations_per_s"] / found["permutations_in_registers_per_s"]
    )


def test_what_cannot_be_checked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tests, *checks = gpu_check.steps(None)
    assert tests.reason is None
    assert [gpu_check.run(step) for step in checks] == [f"not run: {step.reason}" for step in checks]
    assert "compute-sanitizer" in capsys.readouterr().out
    named = {step.name: step.command for step in gpu_check.steps("/cuda/compute-sanitizer")}
    assert {"memcheck", "racecheck"} < named.keys()
    assert named["racecheck"][0] == "/cuda/compute-sanitizer"
