"""The build compiles every kernel, checks a proof, and says what it did."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels import build
from workers import build as worker_build

ROOT = Path(__file__).parents[2]

REGISTERED = """
import importlib, sys
from kernels import cpu, jit
from workers import build
built = {kernel.name for kernel in jit.REGISTRY}
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted({kernel.name for kernel in jit.REGISTRY} - built))
"""

WARM_START = """
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    from kernels.backend import select
    from workers.airs.operation import OperationAir
    from workers.airs.operation_trace import operation_trace
    from workers.stark.parameters import TESTING
    from workers.stark.prover import prove
    from workers.stark.verifier import verify
    from workers.statement import OperationWitness
    witness = OperationWitness(
        task_id=b"task", agent_id=b"agent", output=b"result", salt=bytes(24), secret=bytes(24)
    )
    backend = select("cpu", 2)
    made = operation_trace(b"domain", [witness], backend=backend)
    proof = prove(OperationAir(), made.trace, made.public_values, TESTING, backend).proof
    verify(OperationAir(), proof, made.public_values, parameters=TESTING, log_rows=made.log_rows)
print(len(recorder.buffer))
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_the_build_names_each_kernel_and_leaves_a_warm_cache(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(build, "cache_state", lambda: "cold")
        worker_build.main()
    lines = capsys.readouterr().err.splitlines()
    assert any("kernels.quotient." in line for line in lines)
    assert any("kernels.fold." in line for line in lines)
    assert any("kernels.absorb." in line for line in lines)
    assert "a proof made and verified" in lines[-1]
    assert str(build.configure_cache().directory) in lines[-1]
    assert build.cache_state() == "warm"
    worker_build.main()
    assert len(capsys.readouterr().err.splitlines()) == 1, "a warm build has nothing to name"


def test_no_module_holds_a_kernel_that_the_build_does_not_know() -> None:
    found = pkgutil.iter_modules(kernels.__path__)
    modules = [f"kernels.{module.name}" for module in found if not module.ispkg]
    assert "kernels.absorb" in modules
    assert run(REGISTERED, *modules) == ""


def test_after_the_build_a_process_compiles_nothing_from_operations_to_a_verified_proof() -> None:
    worker_build.main()
    assert run(WARM_START) == "0"


def test_the_check_refuses_a_machine_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.cpu import CpuBackend
    from workers.stark.errors import VerificationError

    right = CpuBackend.combine_columns
    monkeypatch.setattr(CpuBackend, "combine_columns", lambda *args, **kwargs: right(*args, **kwargs) ^ 1)
    with pytest.raises(VerificationError):
        worker_build.check()
