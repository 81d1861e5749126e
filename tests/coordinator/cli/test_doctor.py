import socket

import pytest

from coordinator.cli import doctor
from coordinator.cli.doctor import CHECKS, Verdict
from coordinator.cli.main import invoke


def test_it_looks_at_everything_and_prices_what_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [check() for check in CHECKS]
    subjects = [finding.subject for finding in findings]
    for subject in (
        "python",
        "packages",
        "cores",
        "memory",
        "disk",
        "kernel cache",
        "backend",
        "cuda",
        "ray",
    ):
        assert subject in subjects
    assert all(finding.cost for finding in findings if finding.verdict is not Verdict.HERE)
    missing = any(finding.verdict is Verdict.MISSING for finding in findings)
    assert invoke(["doctor"]) == int(missing)
    shown = capsys.readouterr().out
    assert all(subject in shown for subject in subjects)


def test_a_taken_port_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not doctor.is_free(taken.getsockname()[1])


def test_a_cache_without_compiled_kernels_is_told_as_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    import kernels.build

    monkeypatch.setattr(kernels.build, "cache_state", lambda: "cold")
    finding = doctor._kernel_cache()
    assert finding.verdict is Verdict.ABSENT
    assert "python -m workers.build" in finding.cost
