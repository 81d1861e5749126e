"""Whatever happens to the bytes of the log: it is found, named by its place, and nothing is built on it."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.events import BatchAwaiting, Event
from coordinator.store.errors import LogCorrupted, LogUnwritable
from coordinator.store.hashing import HeadMark, link
from coordinator.store.log import DAMAGED_FOLDER, HEAD_FILE, LOG_FILE, EventLog
from coordinator.store.witnesses import Witness

COUNT = 200


def event(number: int) -> Event:
    return BatchAwaiting(at_ms=number, batch_id=f"the batch that has number {number}")


EVENTS = [event(number) for number in range(1, COUNT + 1)]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed log of 200 events in groups of ten."""
    folder = tmp_path_factory.mktemp("written")
    log = EventLog.open(folder)
    for start in range(0, COUNT, 10):
        log.append(EVENTS[start : start + 10]).result(10)
    log.close()
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def edit(folder: Path, statement: str, *parameters: object) -> None:
    connection = sqlite3.connect(folder / LOG_FILE)
    connection.execute(statement, parameters)
    connection.commit()
    connection.close()


def readable(log: EventLog) -> tuple[list[Event], LogCorrupted | None]:
    """What replay gives, and what ends it early."""
    events: list[Event] = []
    try:
        events.extend(stored.event for stored in log.replay())
    except LogCorrupted as error:
        return events, error
    return events, None


def corruption(folder: Path) -> LogCorrupted | None:
    """What verify says; replay must agree with it, and the log must take nothing more if it is damaged."""
    log = EventLog.open(folder)
    found = log.verify().corruption
    if found is None:
        assert [stored.event for stored in log.replay()] == EVENTS
    else:
        events, met = readable(log)
        if met is None:
            assert (events, found.seq) == (EVENTS, 0), "only what is no event may escape whoever reads events"
        else:
            assert (met.seq, met.detail) == (found.seq, found.detail)
        assert events == EVENTS[: len(events)], "what holds is given, what does not is not"
        assert log.fault is not None
        with pytest.raises(LogUnwritable, match="corrupted"):
            log.append([event(1)])
    log.close()
    return found


def test_an_untouched_log_holds(folder: Path) -> None:
    assert corruption(folder) is None


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE log SET body = CAST(body || x'00' AS BLOB) WHERE seq = 57", 57),
        ("UPDATE log SET body = (SELECT body FROM log WHERE seq = 58) WHERE seq = 57", 57),
        ("UPDATE log SET hash = zeroblob(32) WHERE seq = 57", 57),
        ("UPDATE log SET at_ms = at_ms + 1 WHERE seq = 57", 57),
        ("UPDATE log SET kind = 'BatchProved' WHERE seq = 57", 57),
        ("DELETE FROM log WHERE seq = 57", 57),
        ("DELETE FROM log WHERE seq = 1", 1),
        ("DELETE FROM log WHERE seq > 150", 151),
        ("DELETE FROM log WHERE seq = 200", 200),
        ("DELETE FROM log", 1),
        ("UPDATE log SET seq = seq + 1 WHERE seq = 200", 200),
        ("UPDATE ends SET head_seq = 199", 200),
        ("UPDATE ends SET head_hash = zeroblob(32)", 201),
        ("UPDATE ends SET log_id = zeroblob(16)", 0),
        ("UPDATE ends SET base_hash = zeroblob(32)", 1),
        ("UPDATE ends SET base_seq = 3", 1),
        ("DELETE FROM ends", 0),
        ("DROP TABLE log", 1),
        ("DROP TABLE ends", 0),
    ],
)
def test_every_change_is_found_at_its_place(folder: Path, statement: str, seq: int) -> None:
    edit(folder, statement)
    found = corruption(folder)
    assert found is not None
    assert found.seq == seq


def test_what_stands_before_the_damage_can_still_be_read(folder: Path) -> None:
    edit(folder, "DELETE FROM log WHERE seq > 150")
    log = EventLog.open(folder)
    assert isinstance(log.fault, LogCorrupted)
    replay = log.replay()
    assert [next(replay).event for _ in range(150)] == EVENTS[:150]
    with pytest.raises(LogCorrupted, match="at event 151"):
        next(replay)
    log.close()


def test_a_row_after_the_head_is_found_before_anything_is_read(folder: Path) -> None:
    edit(folder, "INSERT INTO log SELECT seq + 1, at_ms, kind, body, hash FROM log WHERE seq = 200")
    log = EventLog.open(folder)
    assert isinstance(log.fault, LogCorrupted)
    log.close()


@pytest.mark.parametrize("after", [COUNT, COUNT + 1, 10**15, -1])
def test_a_reader_that_asks_for_numbers_outside_the_log_harms_nothing(folder: Path, after: int) -> None:
    log = EventLog.open(folder)
    assert len(log.read(after, limit=1000)) == (COUNT if after < 0 else 0)
    assert log.fault is None
    log.close()


def test_a_tail_that_was_cut_off_cleanly_is_missed(folder: Path) -> None:
    """Rows and head agree with each other, as after a WAL that was lost: only the mark knows better."""
    edit(folder, "UPDATE ends SET head_seq = 150, head_hash = (SELECT hash FROM log WHERE seq = 150)")
    edit(folder, "DELETE FROM log WHERE seq > 150")
    found = corruption(folder)
    assert found is not None
    assert (found.seq, found.detail) == (151, "acknowledged events up to 200 are missing at the end")


def test_a_history_that_was_rewritten_and_hashed_again_is_not_the_acknowledged_one(folder: Path) -> None:
    connection = sqlite3.connect(folder / LOG_FILE)
    digest = connection.execute("SELECT hash FROM log WHERE seq = 99").fetchone()[0]
    rows = connection.execute("SELECT seq, at_ms, kind, body FROM log WHERE seq >= 100").fetchall()
    for seq, at_ms, kind, body in rows:
        forged = body.replace(b"number 1", b"number 2")
        digest = link(digest, seq, at_ms, kind, forged)
        connection.execute("UPDATE log SET body = ?, hash = ? WHERE seq = ?", (forged, digest, seq))
    connection.execute("UPDATE ends SET head_hash = ?", (digest,))
    connection.commit()
    connection.close()
    log = EventLog.open(folder)
    assert isinstance(log.fault, LogCorrupted), (
        "a chain of hashes that fit is not enough: the mark has the last one"
    )
    with pytest.raises(LogCorrupted, match="at event 200: it is not the event that was acknowledged"):
        list(log.replay())
    log.close()


def test_an_event_of_a_later_version_is_corruption_of_what_we_can_read(folder: Path) -> None:
    connection = sqlite3.connect(folder / LOG_FILE)
    digest = connection.execute("SELECT hash FROM log WHERE seq = 199").fetchone()[0]
    body = b"\x92\xaaFromFuture\x01"
    digest = link(digest, 200, 200, "FromFuture", body)
    connection.execute(
        "UPDATE log SET kind = 'FromFuture', body = ?, hash = ? WHERE seq = 200", (body, digest)
    )
    connection.execute("UPDATE ends SET head_hash = ?", (digest,))
    connection.commit()
    log_id = connection.execute("SELECT log_id FROM ends").fetchone()[0]
    connection.close()
    (folder / HEAD_FILE).unlink()
    log = EventLog.open(folder)
    assert log.verify().ok, "the bytes are the ones that were written"
    with pytest.raises(LogCorrupted, match="no event that this version knows") as caught:
        list(log.replay())
    assert caught.value.seq == 200
    assert log_id
    log.close()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_flipped_byte_is_found_or_harmless(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = Path(shutil.copytree(written, tmp_path_factory.mktemp("flipped") / "copy"))
    name = data.draw(st.sampled_from([LOG_FILE] * 5 + [HEAD_FILE]))
    content = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    found = corruption(folder)  # which itself asserts that all events are there where nothing is found
    if name == HEAD_FILE:
        assert found is not None


@pytest.mark.parametrize("number", [1, 57, 199, 200])
def test_a_flipped_byte_in_an_event_is_always_found(folder: Path, number: int) -> None:
    path = folder / LOG_FILE
    text = b"the batch that has number %d" % number
    stored = bytes([0xA0 + len(text)]) + text  # MessagePack's length before it: "number 1" is not "number 19"
    # Everywhere it occurs: SQLite leaves dead copies behind when it moves rows.
    content = path.read_bytes()
    assert stored in content
    content = content.replace(stored, stored.replace(b"number", b"Number"))
    path.write_bytes(content)
    found = corruption(folder)
    assert found is not None
    assert found.seq == number


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:8192]), id="cut off"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000]), id="cut off within a page"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.write_bytes(b"no database" * 1000), id="overwritten"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096)),
            id="pages overwritten",
        ),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_found(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / LOG_FILE)
    assert corruption(folder) is not None


def test_another_folders_log_is_not_taken_for_this_one(folder: Path, tmp_path: Path) -> None:
    other = EventLog.open(tmp_path / "other")
    other.append(EVENTS).result(10)
    other.close()
    shutil.copy(tmp_path / "other" / LOG_FILE, folder / LOG_FILE)
    found = corruption(folder)
    assert found is not None
    assert "not the event that was acknowledged" in found.detail


class TestPowerFailure:
    """The WAL as it lay on the disk when the power went: cut anywhere, or with a bad byte."""

    @pytest.fixture
    def wal(self, tmp_path: Path) -> tuple[Path, list[int]]:
        """A folder with an unfolded WAL, and the WAL's size after each group of ten."""
        live, copy = tmp_path / "live", tmp_path / "copy"
        log = EventLog.open(live)
        sizes = []
        for start in range(0, COUNT, 10):
            log.append(EVENTS[start : start + 10]).result(10)
            sizes.append((live / f"{LOG_FILE}-wal").stat().st_size)
        shutil.copytree(live, copy)
        log.close()
        return copy, sizes

    @pytest.mark.parametrize("cut", [1, 100, 4095, 4096, 20_000, 40_001])
    def test_a_torn_tail_leaves_whole_groups(self, wal: tuple[Path, list[int]], cut: int) -> None:
        folder, sizes = wal
        path = folder / f"{LOG_FILE}-wal"
        left = sizes[-1] - cut
        path.write_bytes(path.read_bytes()[:left])
        groups = sum(size <= left for size in sizes)
        assert groups < len(sizes)
        reached = self._mark_after(folder, groups)

        log = EventLog.open(folder)
        assert [stored.event for stored in log.replay()] == EVENTS[: 10 * groups]
        assert log.head.seq == reached
        assert log.append([event(1)]).result(10) == reached + 1
        log.close()

    def test_a_tail_that_was_acknowledged_and_is_torn_is_found(self, wal: tuple[Path, list[int]]) -> None:
        folder, _ = wal
        path = folder / f"{LOG_FILE}-wal"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        log = EventLog.open(folder)
        assert isinstance(log.fault, LogCorrupted)
        assert "missing at the end" in log.fault.detail
        log.close()

    def _mark_after(self, folder: Path, groups: int) -> int:
        """Sets the mark back to a group's end, as if it had not reached the disk since; its number."""
        connection = sqlite3.connect(folder / LOG_FILE)
        log_id = connection.execute("SELECT log_id FROM ends").fetchone()[0]
        connection.close()
        mark = HeadMark(folder / HEAD_FILE)
        known = mark.read()
        assert known is not None
        assert known[0] == log_id
        (folder / HEAD_FILE).unlink()
        mark.close()
        return 10 * groups


class TestAfterwards:
    def test_corruption_that_comes_later_stops_a_running_log(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path)
        log.append(EVENTS).result(10)
        assert log.verify().ok
        edit(tmp_path, "UPDATE log SET at_ms = 0 WHERE seq = 12")
        report = log.verify()
        assert report.events == 11
        assert report.corruption is not None
        assert report.corruption.seq == 12
        assert log.fault is report.corruption
        with pytest.raises(LogUnwritable, match="corrupted at event 12"):
            log.append([event(1)])
        log.close()

    def test_a_file_that_is_overwritten_under_a_running_log_is_corruption(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path)
        log.append(EVENTS).result(10)
        for name in (LOG_FILE, f"{LOG_FILE}-wal"):
            size = (tmp_path / name).stat().st_size
            (tmp_path / name).write_bytes(b"?" * size)
        report = log.verify()
        assert report.corruption is not None
        assert log.fault is report.corruption
        log.close()

    def test_a_tail_that_vanishes_under_a_running_log_is_missed(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path)
        log.append(EVENTS).result(10)
        edit(tmp_path, "UPDATE ends SET head_seq = 150, head_hash = (SELECT hash FROM log WHERE seq = 150)")
        edit(tmp_path, "DELETE FROM log WHERE seq > 150")
        report = log.verify()
        assert report.events == 150
        assert report.corruption is not None
        assert "acknowledged events up to 200 are missing" in report.corruption.detail
        log.close()

    def test_a_damaged_log_is_set_aside_and_a_new_one_begun(self, folder: Path, tmp_path: Path) -> None:
        edit(folder, "UPDATE log SET at_ms = 0 WHERE seq = 12")
        log = EventLog.open(folder)
        assert not log.verify().ok
        log.witnesses.put([Witness("o", b"output", b"salt", b"secret")])
        log.set_aside("2026-01-01")
        fresh = log
        assert fresh.fault is None
        assert fresh.witnesses.output("o") == b"output"
        assert list(fresh.replay()) == []
        assert fresh.append([event(1)]).result(10) == COUNT + 1, "a number is never used twice"
        with pytest.raises(FileExistsError):
            fresh.set_aside("2026-01-01")
        assert fresh.append([event(2)]).result(10) == COUNT + 2
        fresh.close()
        reopened = EventLog.open(folder)
        stored = list(reopened.replay())
        assert [(entry.seq, entry.event) for entry in stored] == [
            (COUNT + 1, event(1)),
            (COUNT + 2, event(2)),
        ]
        assert reopened.read(5, limit=1) == stored[:1]
        assert reopened.verify().ok
        reopened.set_aside("again", after_seq=5000)
        assert reopened.append([event(3)]).result(10) == 5001
        reopened.close()

        aside = folder / DAMAGED_FOLDER / "2026-01-01"
        shutil.copytree(aside, tmp_path / "aside")
        kept = EventLog.open(tmp_path / "aside")
        report = kept.verify()
        assert report.corruption is not None
        assert report.corruption.seq == 12, "the damaged log is kept as it was"
        kept.close()
