"""`agenc config` where no server runs, from files and environment; with one: tests/coordinator/http/test_diagnosis."""

import json
from pathlib import Path

import pytest

from coordinator.cli.main import invoke
from coordinator.settings_table import KEYS


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENC_DATA_DIR", str(tmp_path / "no server here"))
    monkeypatch.delenv("AGENC_URL", raising=False)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert invoke(["config", *arguments]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def test_every_key_with_where_it_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENC_SPECULATION_MAX_DEPTH", "7")
    lines = {line.split()[0]: line for line in told(capsys, "show").splitlines()}
    assert lines.keys() == KEYS.keys()
    assert "7" in lines["speculation.max_depth"]
    assert "environment AGENC_SPECULATION_MAX_DEPTH" in lines["speculation.max_depth"]
    assert "file default.toml" in lines["speculation.mode"]
    assert "mode conservative" in lines["speculation.max_parallel_branches"]
    assert "restart only" in lines["chain.slot_ms"]


def test_a_part_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    keys = json.loads(told(capsys, "show", "circuit_breaker.", "--json"))
    assert keys.keys() == {name for name in KEYS if name.startswith("circuit_breaker.")}
    assert keys["circuit_breaker.probes"]["range"] == "a whole number from 1 to 1000"


def test_a_secret_is_never_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENC_ADMIN_TOKEN", "a-secret-that-must-not-be-seen")
    assert "must-not-be-seen" not in told(capsys, "show") + told(capsys, "get", "admin.token")


def test_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "get", "speculation.enabled") == "false\n"
    assert told(capsys, "get", "speculation.limits.max_memory_mb", "--env", "prod") == "8192\n"
    assert told(capsys, "get", "admin.allowed_hosts") == "localhost,127.0.0.1,[::1]\n"


def test_a_key_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "speculation.max_depth" in told(capsys, "get", "speculation.max_dept", code=2)
    assert "no key begins with" in told(capsys, "show", "nothing", code=2)


def test_a_change_needs_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no coordinator runs" in told(capsys, "set", "speculation.max_depth=2", code=2)
    assert "expected KEY=VALUE" in told(capsys, "set", "speculation.max_depth", code=2)


@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_the_shipped_files_are_valid(capsys: pytest.CaptureFixture[str], env: str) -> None:
    assert told(capsys, "validate", "--env", env) == "the configuration is valid\n"


def test_what_is_wrong_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prod.toml"
    path.write_text('speculation.max_depth = 99\nno.such.key = 1\nspeculation.proof.generator = "mock"\n')
    assert invoke(["config", "validate", str(path), "--env", "prod"]) == 1
    out, err = capsys.readouterr()
    assert "speculation.max_depth: 99 is not allowed; expected a whole number from 1 to 20" in out
    assert "no.such.key: no such key" in out
    assert "mock is refused in the profile prod" in out
    assert err == "agenc: 3 problems\n"
    monkeypatch.setenv("AGENC_SPECULATION_MAX_DEPHT", "3")
    assert "AGENC_SPECULATION_MAX_DEPHT: no such key" in _complaints(capsys)


def _complaints(capsys: pytest.CaptureFixture[str]) -> str:
    assert invoke(["config", "validate", "--env", "prod"]) == 1
    return capsys.readouterr().out


def test_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "docs").startswith("# Configuration\n")
