"""The build compiles every kernel, checks a proof, and says what it did."""

import pytest

from kernels import build
from workers import build as worker_build


def test_the_build_names_each_kernel_and_leaves_a_warm_cache(capsys: pytest.CaptureFixture[str]) -> None:
    worker_build.main()
    lines = capsys.readouterr().err.splitlines()
    assert any("kernels.quotient." in line for line in lines)
    assert any("kernels.fold." in line for line in lines)
    assert "a proof made and verified" in lines[-1]
    assert str(build.configure_cache().directory) in lines[-1]
    assert build.cache_state() == "warm"


def test_the_check_refuses_a_machine_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.cpu import CpuBackend
    from workers.stark.errors import VerificationError

    right = CpuBackend.combine_columns
    monkeypatch.setattr(CpuBackend, "combine_columns", lambda *args, **kwargs: right(*args, **kwargs) ^ 1)
    with pytest.raises(VerificationError):
        worker_build.check()
