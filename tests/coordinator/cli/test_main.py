import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.cli.main import invoke

COMMANDS = ("up", "run", "verify", "prove", "statement", "doctor", "bench", "log", "backup", "restore")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([command, "--help"]) == 0
    assert "Usage: agenc " + command in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("agenc 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["--fly"],
        ["run", "--agents", "many"],
        ["run", "--agents", "0"],
        ["run", "--time-scale", "-1"],
        ["run", "--time-scale", "nan"],
        ["run", "absent.json"],
        ["run", "one.json", "two.json"],
        ["run", "--fault", "lie@op:receive", "--url", "http://127.0.0.1:1"],
        ["run", "--fault", "lie@op:nobody"],
        ["run", "--fault", "lie@op:receive", "--fault", "reject@op:receive"],
        ["run", "--fault", "flood@t:1:1"],
        ["run", "--fault", "reorg@slot:0:1"],
        ["run", "--url", "localhost:9090"],
        ["run", "--report", "absent/report.json"],
        ["run", "--out", "."],
        ["verify"],
        ["verify", "absent.json"],
        ["verify", "--raw", "absent.proof"],
        ["verify", "--air", "poseidon2", "absent.json"],
        ["verify", "--raw", "--air", "fib", "--log-rows", "6", "--per-row", "1", "absent.proof"],
        ["verify", "--raw", "--air", "poseidon2", "--log-rows", "99", "--per-row", "1", "absent.proof"],
        ["verify", "--raw", "--air", "poseidon2", "--log-rows", "6", "--per-row", "3", "absent.proof"],
        ["prove", "--air", "fib", "--out", "x"],
        ["prove", "--air", "poseidon2", "--out", "x"],
        ["prove", "--air", "poseidon2", "--seed", "-1", "--log-rows", "6", "--per-row", "1", "--out", "x"],
        ["prove", "--air", "poseidon2", "--seed", "1", "--log-rows", "2", "--per-row", "1", "--out", "x"],
        ["prove", "--air", "operation", "--case", "absent.json:0", "--out", "x"],
        ["prove", "--air", "operation", "--case", "absent.json", "--out", "x"],
        ["prove", "--air", "operation", "--case", "a.json:0", "--seed", "1", "--out", "x"],
        ["prove", "--air", "operation", "--case", "a.json:0", "--parameters", "weak", "--out", "x"],
        ["prove", "--air", "operation", "--case", "a.json:0", "--out", "absent/x"],
        ["statement", "absent.json"],
        ["bench", "proofs", "--per-row", "3"],
        ["bench", "proofs", "--repeat", "0"],
        ["up", "--port", "70000"],
        ["up", "--env", "moon"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keep").touch()
    monkeypatch.chdir(tmp_path)
    assert invoke(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("agenc: ")
    assert captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench"]) == 2
    assert "proofs" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error_to_tell() -> None:
    command = f"'{sys.executable}' -m coordinator.cli.main --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
