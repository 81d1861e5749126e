"""Closed segments lie in the archive and stay one chain with the log; only pruning deletes, and a start still works."""

import os
import shutil
import sqlite3
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.events import AdminActed, Event
from coordinator.core.state import replay
from coordinator.store.archive import ARCHIVE_FOLDER, Archive
from coordinator.store.errors import LogCorrupted
from coordinator.store.log import LOG_FILE, EventLog
from coordinator.store.reader import INDEXED_KINDS
from coordinator.store.restart import restore
from coordinator.store.snapshotter import make_snapshot
from tests.coordinator.store.history import events_of_a_world, write


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return events_of_a_world(300, seed=3)


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> Path:
    """A log with two archived segments, and events after them."""
    folder = tmp_path_factory.mktemp("compacted")
    for part in range(3):
        write(folder, events[part * len(events) // 3 : (part + 1) * len(events) // 3])
        if part < 2:
            header = make_snapshot(folder)
            log = EventLog.open(folder)
            segment = log.compact(header.seq)
            assert segment is not None
            assert segment.head_seq == header.seq
            log.close()
    return folder


@pytest.fixture
def folder(compacted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compacted, tmp_path / "copy"))


def open_and_check(folder: Path) -> LogCorrupted | None:
    """What a start or a verification finds."""
    log = EventLog.open(folder)
    try:
        report = log.verify()
        assert report.ok or log.fault is not None
        return report.corruption
    finally:
        log.close()


def test_archive_and_log_are_one_chain(folder: Path, events: list[Event]) -> None:
    log = EventLog.open(folder)
    assert [stored.event for stored in log.replay()] == events
    assert log.read(5, limit=3)[0].seq == 6
    report = log.verify()
    assert (report.ok, report.events) == (True, len(events))
    assert restore(log, from_snapshot=False).state.dump() == replay(events).dump()
    with sqlite3.connect(folder / LOG_FILE) as connection:
        (left,) = connection.execute("SELECT count(*) FROM log").fetchone()
    connection.close()
    assert left == len(events) - log.archive.segments()[-1].head_seq
    assert [stored.event for stored in log.replay(after=log.archive.segments()[0].head_seq)] == (
        events[log.archive.segments()[0].head_seq :]
    )
    log.close()


def test_compaction_goes_on_beside_the_writer_and_a_reader(folder: Path, events: list[Event]) -> None:
    log = EventLog.open(folder)
    reading = log.replay()
    first = next(reading)
    end = log.append(events[:1]).result(10)
    assert log.compact(end) is not None
    assert [first.event, *(stored.event for stored in reading)] == events
    assert log.append(events[:1]).result(10) == end + 1
    assert log.compact(0) is None
    assert log.verify().ok
    log.close()


def test_a_crash_between_the_copy_and_the_letting_go_is_made_up_for(
    folder: Path, events: list[Event]
) -> None:
    log = EventLog.open(folder)
    log.append(events[:3]).result(10)
    ends = log.reader.ends()
    log.compact(log.head.seq)
    log.close()
    # As if it had crashed: the file still holds what is archived.
    segment = Archive(folder).segments()[-1]
    with sqlite3.connect(folder / LOG_FILE) as connection:
        connection.execute("ATTACH ? AS archived", (str(segment.path),))
        connection.execute("INSERT INTO log SELECT * FROM archived.log")
        connection.execute("UPDATE ends SET base_seq = ?, base_hash = ?", ends.base)
    connection.close()
    (folder / ARCHIVE_FOLDER / "segment.part").write_bytes(b"half a segment")

    log = EventLog.open(folder)
    assert log.verify().ok
    assert log.compact(log.head.seq) is None, "it is archived already"
    assert log.reader.ends().base == log.head
    assert log.verify().events == len(events) + 3
    log.append(events[:1]).result(10)
    assert log.compact(log.head.seq) is not None
    assert not (folder / ARCHIVE_FOLDER / "segment.part").exists()
    log.close()


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_flipped_byte_of_the_archive_is_found(compacted: Path, data: st.DataObject) -> None:
    segment = data.draw(st.sampled_from(Archive(compacted).segments()))
    content = segment.path.read_bytes()
    flipped = bytearray(content)
    flipped[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    segment.path.write_bytes(flipped)
    try:
        found = open_and_check(compacted)
    finally:
        segment.path.write_bytes(content)
    assert found is not None
    assert found.seq <= segment.head_seq


@pytest.mark.long
def test_bytes_all_over_log_and_archive_count(compacted: Path, tmp_path: Path, events: list[Event]) -> None:
    """Byte by byte in strides that begin anew with every run: what is changed is found, or all events are there."""
    start = Random().randrange(101)
    print("starting at byte", start)
    folder = Path(shutil.copytree(compacted, tmp_path / "small"))
    write(tmp_path / "few", events[:9])
    for path in (tmp_path / "few" / LOG_FILE, Archive(folder).segments()[0].path):
        content = bytearray(path.read_bytes())
        for place in range(start, len(content), 11 if path.name == LOG_FILE else 101):
            content[place] ^= 1 + place % 255
            path.write_bytes(content)
            if path.name == LOG_FILE:
                log = EventLog.open(path.parent)
                if log.verify().ok:
                    assert [stored.event for stored in log.replay()] == events[:9], place
                log.close()
            else:
                assert open_and_check(folder) is not None, place
            content[place] ^= 1 + place % 255
            path.write_bytes(content)


@pytest.mark.parametrize("which", [0, 1])
def test_an_archived_file_that_is_gone_is_missed_at_the_start(folder: Path, which: int) -> None:
    segment = Archive(folder).segments()[which]
    segment.path.unlink()
    log = EventLog.open(folder)
    assert isinstance(log.fault, LogCorrupted)
    assert log.fault.seq == segment.base_seq + 1
    log.close()


def test_what_is_pruned_is_gone_and_a_start_goes_from_a_snapshot(folder: Path, events: list[Event]) -> None:
    log = EventLog.open(folder)
    first, second = log.archive.segments()
    assert log.prune(first.head_seq) == [first]
    assert not first.path.exists()
    assert (log.verify().ok, log.verify().events) == (True, len(events) - first.head_seq)
    assert log.prune(10**9) == [second]
    log.close()
    log = EventLog.open(folder)
    assert log.fault is None
    assert log.reader.ends().pruned
    assert next(log.replay()).seq == second.head_seq + 1
    found = restore(log, from_snapshot=False)
    assert found.snapshot_seq, "the events by themselves no longer make the state"
    assert found.state.dump() == replay(events).dump()
    for path in log.snapshots.paths():
        path.unlink()
    corruption = restore(log).corruption
    assert corruption is not None
    assert "pruned" in corruption.detail
    log.close()


def test_events_of_a_kind_are_found_wherever_they_lie(folder: Path, events: list[Event]) -> None:
    log = EventLog.open(folder)
    acts = [(seq, event) for seq, event in enumerate(events, 1) if isinstance(event, AdminActed)]
    newest = log.latest(["AdminActed"], limit=1_000)
    assert [(stored.seq, stored.event) for stored in newest] == acts[::-1]
    page = log.latest(["AdminActed"], limit=4, before=acts[-4][0])
    assert [stored.seq for stored in page] == [seq for seq, _ in acts[-8:-4]][::-1]
    moved = {"AgentRegistered", "StakeDeposited"}
    found = log.of_kinds(tuple(moved), after=2, up_to=len(events) - 1)
    expected = [
        seq for seq, event in enumerate(events, 1) if type(event).__name__ in moved and 2 < seq < len(events)
    ]
    assert [stored.seq for stored in found] == expected
    assert log.latest(INDEXED_KINDS, limit=0) == []
    log.close()


def test_an_event_of_a_kind_that_was_changed_is_not_given_out(folder: Path, events: list[Event]) -> None:
    last = max(seq for seq, event in enumerate(events, 1) if isinstance(event, AdminActed))
    with sqlite3.connect(folder / LOG_FILE) as connection:
        connection.execute("UPDATE log SET at_ms = at_ms + 1 WHERE seq = ?", (last,))
    connection.close()
    log = EventLog.open(folder)
    with pytest.raises(LogCorrupted, match=f"at event {last}"):
        log.latest(["AdminActed"], limit=1)
    log.close()


def test_the_first_version_of_the_log_is_brought_up_to_date(tmp_path: Path, events: list[Event]) -> None:
    """A folder as version 1 wrote it: no beginning apart from the file's, no index by kind."""
    write(tmp_path, events)
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        connection.execute("DROP INDEX log_by_kind")
        connection.execute("ALTER TABLE ends DROP COLUMN first_seq")
        connection.execute("ALTER TABLE ends DROP COLUMN first_hash")
        connection.execute("DELETE FROM schema_version WHERE version > 1")
    connection.close()
    log = EventLog.open(tmp_path)
    assert log.fault is None
    assert [stored.event for stored in log.replay()] == events
    assert log.latest(["AdminActed"], limit=1)
    assert log.compact(len(events) // 2) is not None
    assert log.verify().ok
    log.close()
    assert os.stat(Archive(tmp_path).segments()[0].path).st_mode & 0o777 == 0o600
