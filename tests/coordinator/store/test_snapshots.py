"""A restart from a snapshot and the events after it makes the state of the whole log; a bad one is passed over."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.events import Event
from coordinator.core.invariants import check
from coordinator.core.state import STATE_SCHEMA, CoreState, replay
from coordinator.store.log import EventLog
from coordinator.store.restart import Restored, any_snapshot, restore, write_snapshot
from coordinator.store.snapshot import KEPT, SnapshotDamaged, SnapshotHeader, Snapshots
from coordinator.store.snapshotter import make_snapshot
from tests.coordinator.store.history import events_of_a_world, write

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return events_of_a_world(400)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> Path:
    """The log of a random world, with snapshots at a third and at two thirds of it."""
    folder = tmp_path_factory.mktemp("written")
    for part in range(3):
        write(folder, events[part * len(events) // 3 : (part + 1) * len(events) // 3])
        if part < 2:
            make_snapshot(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def restored(folder: Path, *, from_snapshot: bool = True) -> Restored:
    log = EventLog.open(folder)
    try:
        return restore(log, from_snapshot=from_snapshot)
    finally:
        log.close()


def test_a_restart_from_a_snapshot_makes_the_state_of_the_whole_log(
    folder: Path, events: list[Event]
) -> None:
    quick, whole = restored(folder), restored(folder, from_snapshot=False)
    assert (quick.snapshot_seq, whole.snapshot_seq) == (2 * len(events) // 3, 0)
    assert quick.head == whole.head
    assert quick.state.dump() == whole.state.dump() == replay(events).dump()
    assert all(report.ok for report in check(quick.state))
    assert quick.skipped == ()


@given(cut=st.floats(0, 1))
@settings(max_examples=5, deadline=None)
def test_wherever_the_snapshot_stands(
    events: list[Event], tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    at = round(cut * len(events))
    write(folder, events[:at])
    make_snapshot(folder)
    write(folder, events[at:])
    found = restored(folder)
    assert found.snapshot_seq == at
    assert found.state.dump() == replay(events).dump()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut off"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: path.unlink(), id="deleted"),
    ],
)
@pytest.mark.parametrize("bad", [1, 2])
def test_a_bad_snapshot_falls_back_to_the_one_before_it_and_then_to_the_log(
    folder: Path, events: list[Event], damage: Callable[[Path], object], bad: int
) -> None:
    for path in Snapshots(folder).paths()[:bad]:
        damage(path)
    found = restored(folder)
    assert found.snapshot_seq == (len(events) // 3 if bad == 1 else 0)
    assert found.state.dump() == replay(events).dump()


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_flipped_byte_of_a_snapshot_is_always_found(written: Path, data: st.DataObject) -> None:
    path = Snapshots(written).paths()[0]
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    flipped = path.with_name("flipped.part")
    flipped.write_bytes(content)
    with pytest.raises(SnapshotDamaged):
        Snapshots(written).read(flipped)
    flipped.unlink()


def test_a_snapshot_of_another_log_or_version_is_not_taken(folder: Path, events: list[Event]) -> None:
    snapshots = Snapshots(folder)
    newest = snapshots.paths()[0]
    header, body = snapshots.read(newest)
    for changed, reason in (
        (msgspec.structs.replace(header, log_id=bytes(16)), "another log"),
        (msgspec.structs.replace(header, schema="0:old"), "another version"),
        (msgspec.structs.replace(header, hash=bytes(32)), "another event under its number"),
    ):
        snapshots.write(changed, bytes(body))
        found = restored(folder)
        assert found.snapshot_seq == len(events) // 3
        assert reason in found.skipped[0]


def test_the_two_newest_are_kept_and_what_a_crash_left_is_removed(folder: Path, events: list[Event]) -> None:
    left = Snapshots(folder).folder / "999999999.part"
    left.write_bytes(b"half")
    header = make_snapshot(folder)
    assert header.seq == len(events)
    assert len(Snapshots(folder).paths()) == KEPT
    assert Snapshots(folder).headers()[0] == header
    assert not left.exists()
    assert os.stat(Snapshots(folder).paths()[0]).st_mode & 0o777 == 0o600


def test_a_process_beside_the_one_that_writes_makes_it(folder: Path, events: list[Event]) -> None:
    log = EventLog.open(folder)
    made = subprocess.run(
        [sys.executable, "-m", "coordinator.store.snapshotter", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.split()[0] == str(len(events))
    log.close()
    assert restored(folder).snapshot_seq == len(events)


def test_no_snapshot_is_made_of_a_damaged_log(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "coordinator.store.snapshotter", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 1
    assert made.stderr.strip()


def test_a_full_disk_leaves_the_snapshots_that_were_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(folder)
    before = {path.name: path.read_bytes() for path in snapshots.paths()}
    log = EventLog.open(folder)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_snapshot(log, CoreState(), log.head)
    log.close()
    assert {path.name: path.read_bytes() for path in snapshots.folder.iterdir()} == before


def test_names_are_read_from_a_snapshot_of_whatever_log(folder: Path) -> None:
    found = any_snapshot(Snapshots(folder))
    assert found is not None
    assert "alice" in found.agents
    assert any_snapshot(Snapshots(folder / "nothing")) is None


def test_the_schema_names_the_fields(folder: Path) -> None:
    header: SnapshotHeader = Snapshots(folder).headers()[0]
    assert header.schema == STATE_SCHEMA
    assert STATE_SCHEMA.partition(":")[0].isdigit()
