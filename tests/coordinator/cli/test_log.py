"""`agenc log`, `agenc backup`, `agenc restore`: one line or a few, and an exit code that tells."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from coordinator.cli.main import invoke
from coordinator.store.log import LOG_FILE, EventLog
from tests.coordinator.store.history import events_of_a_world, write


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write(folder, events_of_a_world(60))
    return folder


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


def agenc(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    """What the command says, on stdout or stderr."""
    assert invoke([str(argument) for argument in arguments]) == code
    said = capsys.readouterr()
    return said.out + said.err


def test_a_log_is_compacted_and_pruned_and_still_holds(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data-dir", data)
    assert "events hold" in agenc(capsys, "log", "verify", *options)
    assert "are in" in agenc(capsys, "log", "compact", *options)
    assert "nothing to archive" in agenc(capsys, "log", "compact", *options)
    stat = agenc(capsys, "log", "stat", *options)
    assert "in file    0 events" in stat
    assert "archived   1 to" in stat
    assert "snapshot   at event" in stat
    assert "nothing was deleted" in agenc(capsys, "log", "prune", *options, code=1)
    assert "archived" in agenc(capsys, "log", "stat", *options)
    assert "deleted events 1 to" in agenc(capsys, "log", "prune", "--yes", *options)
    assert "pruned" in agenc(capsys, "log", "stat", *options)
    assert "nothing to delete" in agenc(capsys, "log", "prune", "--yes", *options)
    assert "0 events hold" in agenc(capsys, "log", "verify", *options)


def test_damage_is_named_and_is_a_refusal(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(data / LOG_FILE) as connection:
        connection.execute("UPDATE log SET at_ms = at_ms + 1 WHERE seq = 7")
    connection.close()
    said = agenc(capsys, "log", "verify", "--data-dir", data, code=1)
    assert "at event 7" in said
    assert "6 events hold" in said
    assert "at event 7" in agenc(capsys, "log", "compact", "--data-dir", data, code=1)


def test_what_is_no_log_or_in_use_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no log" in agenc(capsys, "log", "stat", "--data-dir", tmp_path / "nothing", code=2)
    log = EventLog.open(data)
    assert "is in use by process" in agenc(capsys, "log", "stat", "--data-dir", data, code=2)
    log.close()


def test_a_folder_is_backed_up_while_it_is_used_and_restored(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup"
    log = EventLog.open(data)
    assert "events, " in agenc(capsys, "backup", backup, "--data-dir", data)
    assert "in use by" in agenc(capsys, "restore", backup, "--data-dir", data, "--replace", code=1)
    log.close()
    assert "--replace" in agenc(capsys, "restore", backup, "--data-dir", data, code=1)
    assert "checked" in agenc(capsys, "restore", backup, "--data-dir", tmp_path / "new")
    assert "checked" in agenc(capsys, "restore", backup, "--data-dir", data, "--replace")
    assert "is not empty" in agenc(capsys, "backup", backup, "--data-dir", data, code=2)
    assert "is no backup" in agenc(capsys, "restore", tmp_path / "none", "--data-dir", data, code=1)
