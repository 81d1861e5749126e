"""A backup is what the folder held at one instant, while others write; it is brought back whole or not at all."""

import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from coordinator.core.events import BatchAwaiting, Event
from coordinator.store.backup import MANIFEST_FILE, BackupError, back_up, read_manifest, restore_backup
from coordinator.store.errors import LogLocked
from coordinator.store.log import DAMAGED_FOLDER, LOG_FILE, EventLog
from coordinator.store.proofs import ProofRecord
from coordinator.store.snapshot import Snapshots
from coordinator.store.snapshotter import make_snapshot
from coordinator.store.witnesses import Witness
from tests.coordinator.store.history import events_of_a_world, write

CHAIN = "chain/chain.sqlite3"


def event(number: int) -> Event:
    return BatchAwaiting(at_ms=number, batch_id=f"batch-{number}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A used folder: archive, snapshots, tokens, a chain, and the files of a process that runs."""
    folder = tmp_path / "data"
    write(folder, events_of_a_world(100))
    make_snapshot(folder)
    log = EventLog.open(folder)
    log.compact(20)
    log.append(
        [event(1)],
        witnesses=[Witness("op", b"output", b"salt", b"secret")],
        proofs=[ProofRecord("batch-1", b"proof", bytes(32), "standard", 10)],
    ).result(10)
    log.close()
    (folder / "admin-tokens").write_text("a token\n")
    (folder / "endpoints.json").write_text("{}")
    (folder / "chain").mkdir()
    connection = sqlite3.connect(folder / CHAIN)
    connection.execute("CREATE TABLE blocks (slot INTEGER)")
    connection.commit()
    connection.close()
    return folder


def test_what_was_backed_up_comes_back(data: Path, tmp_path: Path) -> None:
    manifest = back_up(data, tmp_path / "backup", others=[CHAIN], now_ms=5)
    assert "endpoints.json" not in manifest.files
    for path in (tmp_path / "backup").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert read_manifest(tmp_path / "backup") == manifest

    restored = tmp_path / "restored"
    assert restore_backup(tmp_path / "backup", restored, replace=False, label="x") == manifest
    log, before = EventLog.open(restored), EventLog.open(data)
    assert list(log.replay()) == list(before.replay())
    assert log.head == before.head
    assert log.witnesses.get(["op"]) == before.witnesses.get(["op"])
    assert log.proofs.get("batch-1") == before.proofs.get("batch-1")
    assert log.snapshots.headers() == before.snapshots.headers()
    assert [one.sha256 for one in log.archive.segments()] == [one.sha256 for one in before.archive.segments()]
    log.close()
    before.close()
    assert (restored / "admin-tokens").read_text() == "a token\n"
    assert (restored / CHAIN).is_file()


def test_a_backup_under_writes_is_one_instant(data: Path, tmp_path: Path) -> None:
    """Every event whose number is in the copied log has its witness in the copied file."""
    log = EventLog.open(data)
    base, done = log.head.seq, threading.Event()

    def write_on() -> None:
        number = 0
        while not done.is_set():
            number += 1
            witness = Witness(f"op-{number}", b"output", b"salt", b"secret")
            log.append([event(number)], witnesses=[witness]).result(10)

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        for copy in range(3):
            manifest = back_up(data, tmp_path / f"backup-{copy}", others=[CHAIN], now_ms=copy)
            assert base <= manifest.seq
            base = manifest.seq
    finally:
        done.set()
        writer.join()
    end = log.head.seq
    log.close()
    restore_backup(tmp_path / "backup-2", tmp_path / "restored", replace=False, label="x")
    copied = EventLog.open(tmp_path / "restored")
    assert copied.head.seq <= end
    names = [stored.event.batch_id for stored in copied.replay() if isinstance(stored.event, BatchAwaiting)]
    numbers = [name.removeprefix("batch-") for name in names[1:]]
    assert all(copied.witnesses.output(f"op-{number}") == b"output" for number in numbers)
    copied.close()


def test_a_snapshot_that_is_later_than_the_copied_log_stays_out(data: Path, tmp_path: Path) -> None:
    header, body = Snapshots(data).read(Snapshots(data).paths()[0])
    type(header)
    later = Snapshots(data).write(
        type(header)(
            log_id=header.log_id, seq=header.seq + 1_000, hash=header.hash, schema=header.schema, admitted=0
        ),
        bytes(body),
    )
    manifest = back_up(data, tmp_path / "backup", others=[], now_ms=0)
    assert f"snapshots/{later.name}" not in manifest.files
    assert sum(name.startswith("snapshots/") for name in manifest.files) == 1


@pytest.mark.parametrize("harm", ["changed", "missing", "manifest", "no manifest", "newer", "outside"])
def test_a_backup_that_is_not_whole_changes_nothing(data: Path, tmp_path: Path, harm: str) -> None:
    backup, target = tmp_path / "backup", tmp_path / "target"
    back_up(data, backup, others=[CHAIN], now_ms=0)
    manifest = json.loads((backup / MANIFEST_FILE).read_text())
    match harm:
        case "changed":
            content = bytearray((backup / LOG_FILE).read_bytes())
            content[len(content) // 2] ^= 1
            (backup / LOG_FILE).write_bytes(content)
        case "missing":
            (backup / "admin-tokens").unlink()
        case "manifest":
            (backup / MANIFEST_FILE).write_text("{")
        case "no manifest":
            (backup / MANIFEST_FILE).unlink()
        case "newer":
            (backup / MANIFEST_FILE).write_text(json.dumps(manifest | {"version": 99}))
        case "outside":
            manifest["files"]["../outside"] = {"num_bytes": 0, "sha256": "00"}
            (backup / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BackupError):
        restore_backup(backup, target, replace=False, label="x")
    assert not target.exists()


def test_a_used_folder_is_replaced_only_when_told_and_what_it_held_is_kept(
    data: Path, tmp_path: Path
) -> None:
    back_up(data, tmp_path / "backup", others=[CHAIN], now_ms=0)
    log = EventLog.open(data)
    after = log.append([event(2)]).result(10)
    with pytest.raises(LogLocked):
        restore_backup(tmp_path / "backup", data, replace=True, label="x")
    log.close()
    with pytest.raises(BackupError, match="--replace"):
        restore_backup(tmp_path / "backup", data, replace=False, label="x")
    restore_backup(tmp_path / "backup", data, replace=True, label="before")
    log = EventLog.open(data)
    assert log.head.seq == after - 1
    assert log.verify().ok
    log.close()
    kept = EventLog.open(data / DAMAGED_FOLDER / "before")
    assert kept.head.seq == after
    kept.close()


def test_a_backup_gets_a_folder_of_its_own(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="not empty"):
        back_up(data, data, others=[], now_ms=0)
    with pytest.raises(BackupError, match="no log"):
        back_up(tmp_path / "nothing", tmp_path / "backup", others=[], now_ms=0)
    assert not (tmp_path / "backup").exists()
    assert os.listdir(tmp_path) == ["data"]
