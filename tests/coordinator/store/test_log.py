"""The log gives back what was acknowledged, in order; one owner; bounded; and says when it cannot write."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.events import AgentRegistered, BatchAwaiting, ConfigChanged, Event, OperationsQueued
from coordinator.store.errors import LogBusy, LogLocked, LogUnwritable, SchemaTooNew
from coordinator.store.hashing import Head, genesis, link
from coordinator.store.log import LOG_FILE, WITNESS_FILE, EventLog, QueueBounds
from coordinator.store.proofs import ProofRecord
from coordinator.store.witnesses import Witness

REPOSITORY = Path(__file__).resolve().parents[3]

_at_ms = st.integers(-(2**63), 2**63 - 1)
_digest = st.binary(min_size=32, max_size=32)
EVENTS = st.one_of(
    st.builds(BatchAwaiting, at_ms=_at_ms, batch_id=st.text()),
    st.builds(OperationsQueued, at_ms=_at_ms, operation_ids=st.lists(st.text()).map(tuple), reason=st.text()),
    st.builds(
        AgentRegistered,
        at_ms=_at_ms,
        agent_id=st.text(),
        agent_key=_digest,
        token_hash=_digest,
        deposit_lamports=st.integers(0, 2**62),
    ),
    st.builds(
        ConfigChanged,
        at_ms=_at_ms,
        changes=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(0, 9) | st.text()),
        by=st.text(),
    ),
)


def numbered(number: int) -> Event:
    return BatchAwaiting(at_ms=number, batch_id=f"batch-{number}")


def contents(log: EventLog) -> list[Event]:
    return [stored.event for stored in log.replay()]


@given(groups=st.lists(st.lists(EVENTS, max_size=4), max_size=6), reopened_after=st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_events_come_back_as_they_were_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Event]], reopened_after: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = EventLog.open(folder)
    end = 0
    for number, group in enumerate(groups):
        if number == reopened_after:
            log.close()
            log = EventLog.open(folder)
        end += len(group)
        assert log.append(group).result(10) == end == log.head.seq
    log.close()

    log = EventLog.open(folder)
    stored = list(log.replay())
    assert [entry.event for entry in stored] == [event for group in groups for event in group]
    assert [entry.seq for entry in stored] == list(range(1, end + 1))
    assert log.verify().ok
    log.close()


def test_the_hash_chain_is_the_documented_one(tmp_path: Path) -> None:
    log_id = bytes(range(16))
    log = EventLog.open(tmp_path, log_id=log_id)
    log.append([numbered(7)]).result(10)
    log.append([numbered(8)]).result(10)
    head = log.head
    log.close()

    connection = sqlite3.connect(tmp_path / LOG_FILE)
    rows = connection.execute("SELECT seq, at_ms, kind, body FROM log ORDER BY seq").fetchall()
    connection.close()
    digest = sha256(b"agenc event log 1" + log_id).digest()
    for seq, at_ms, kind, body in rows:
        layout = seq.to_bytes(8, "little") + at_ms.to_bytes(8, "little") + bytes([len(kind)]) + kind.encode()
        digest = sha256(digest + layout + body).digest()
    assert head == (2, digest)
    assert link(genesis(log_id), 1, 7, rows[0][2], rows[0][3]) != digest


def test_two_logs_of_equal_events_have_different_hashes(tmp_path: Path) -> None:
    heads = []
    for name in ("a", "b"):
        log = EventLog.open(tmp_path / name)
        log.append([numbered(1)]).result(10)
        heads.append(log.head)
        log.close()
    assert heads[0].seq == heads[1].seq
    assert heads[0].hash != heads[1].hash


def test_replay_continues_after_a_number(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    log.append([numbered(n) for n in range(1, 11)]).result(10)
    assert [entry.seq for entry in log.replay(after=7)] == [8, 9, 10]
    assert list(log.replay(after=10)) == []
    log.close()


def test_replay_sees_one_instant_while_the_log_grows(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    log.append([numbered(n) for n in range(1, 6)]).result(10)
    replay = log.replay()
    seen = [next(replay).seq]
    log.append([numbered(6)]).result(10)
    seen += [entry.seq for entry in replay]
    assert seen == [1, 2, 3, 4, 5]
    assert len(contents(log)) == 6
    log.close()


def test_concurrent_producers_each_keep_their_order(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    resolved: list[int] = []

    def produce(producer: int) -> None:
        for number in range(100):
            future = log.append([BatchAwaiting(at_ms=number, batch_id=str(producer))] * 2)
            future.add_done_callback(lambda done: resolved.append(done.result()))
        future.result(30)

    threads = [threading.Thread(target=produce, args=(producer,)) for producer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.append([]).result(10)
    events = contents(log)
    log.close()

    assert resolved == list(range(2, 801, 2)), "futures are resolved in the log's order"
    for producer in range(4):
        times = [event.at_ms for event in events if event.batch_id == str(producer)]
        assert times == [number for number in range(100) for _ in range(2)]


def test_an_append_without_events_waits_for_those_before_it(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    assert log.append([]).result(10) == 0
    first = log.append([numbered(1), numbered(2)])
    assert log.append([]).result(10) == 2
    assert first.done()
    log.close()


def test_a_cancelled_append_is_written_all_the_same(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    future = log.append([numbered(1)])
    assert not future.cancel()
    log.append([numbered(2)]).result(10)
    assert contents(log) == [numbered(1), numbered(2)]
    log.close()


def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    futures = [log.append([numbered(n)]) for n in range(200)]
    log.close()
    assert [future.result(0) for future in futures] == list(range(1, 201))
    with pytest.raises(LogUnwritable, match="closed"):
        log.append([numbered(0)])
    with pytest.raises(LogUnwritable, match="closed"):
        list(log.replay())


class TestOneOwner:
    def test_a_second_opener_is_told_who_has_the_folder(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path)
        with pytest.raises(LogLocked, match=f"process {os.getpid()}") as caught:
            EventLog.open(tmp_path)
        assert caught.value.pid == os.getpid()
        log.append([numbered(1)]).result(10)
        log.close()
        reopened = EventLog.open(tmp_path)
        assert contents(reopened) == [numbered(1)]
        reopened.close()

    def test_another_process_is_refused_too(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path)
        script = (
            "import sys; from pathlib import Path; from coordinator.store.log import EventLog\n"
            "EventLog.open(Path(sys.argv[1]))"
        )
        child = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
        )
        log.close()
        assert child.returncode != 0
        assert f"is in use by process {os.getpid()}" in child.stderr

    def test_everything_is_the_owners_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir(mode=0o755)
        old_mask = os.umask(0)
        try:
            log = EventLog.open(folder)
            log.append([numbered(1)], witnesses=[Witness("o", b"output", b"s", b"k")]).result(10)
        finally:
            os.umask(old_mask)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        log.close()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {WITNESS_FILE, f"{WITNESS_FILE}-wal", LOG_FILE, "head", "lock"} <= modes.keys()
        assert set(modes.values()) == {0o600}


class BlockedLog:
    """A log whose writer waits, because another connection holds the write lock of its file."""

    def __init__(self, folder: Path, bounds: QueueBounds) -> None:
        self.log = EventLog.open(folder, bounds=bounds)
        self._blocker = sqlite3.connect(folder / LOG_FILE, isolation_level=None)
        self._blocker.execute("BEGIN IMMEDIATE")
        self.first = self.log.append([numbered(0)])
        while self.log.queued_events:
            time.sleep(0.001)  # until the writer has taken the first one, and waits

    def release(self) -> None:
        self._blocker.execute("ROLLBACK")
        self._blocker.close()


class TestBounds:
    def test_a_full_queue_refuses_and_loses_nothing(self, tmp_path: Path) -> None:
        blocked = BlockedLog(tmp_path, QueueBounds(events=10))
        futures = [blocked.log.append([numbered(n)]) for n in range(1, 11)]
        with pytest.raises(LogBusy) as caught:
            blocked.log.append([numbered(99)])
        assert caught.value.retry
        room = blocked.log.room()
        assert not room.done()
        assert not futures[0].done()

        blocked.release()
        room.result(10)
        assert [future.result(10) for future in futures] == list(range(2, 12))
        assert blocked.log.append([numbered(99)]).result(10) == 12
        assert contents(blocked.log) == [numbered(n) for n in (*range(11), 99)]
        blocked.log.close()

    def test_bytes_are_bounded_too(self, tmp_path: Path) -> None:
        blocked = BlockedLog(tmp_path, QueueBounds(num_bytes=1000))
        blocked.log.append([numbered(1)], witnesses=[Witness("a", bytes(900), b"", b"")])
        with pytest.raises(LogBusy):
            blocked.log.append([], proofs=[ProofRecord("b", bytes(900), bytes(32), "standard", 10)])
        blocked.release()
        blocked.log.close()

    def test_one_request_larger_than_the_bounds_passes_alone(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path, bounds=QueueBounds(events=3))
        assert log.append([numbered(n) for n in range(10)]).result(10) == 10
        log.close()

    def test_there_is_room_in_an_idle_queue_and_in_a_closed_one(self, tmp_path: Path) -> None:
        log = EventLog.open(tmp_path)
        assert log.room().done()
        log.close()
        assert log.room().done()

    def test_witnesses_and_proofs_are_durable_before_the_events_that_name_them(self, tmp_path: Path) -> None:
        blocked = BlockedLog(tmp_path, QueueBounds())
        blocked.release()
        blocked.first.result(10)
        blocker = sqlite3.connect(tmp_path / LOG_FILE, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        proof = ProofRecord("batch-1", b"proof", bytes(32), "standard", 10)
        future = blocked.log.append(
            [numbered(1)], witnesses=[Witness("o", b"output", b"s", b"k")], proofs=[proof]
        )
        while blocked.log.proofs.get("batch-1") is None:
            time.sleep(0.001)
        assert blocked.log.witnesses.output("o") == b"output"
        assert not future.done()
        blocker.execute("ROLLBACK")
        blocker.close()
        future.result(10)
        blocked.log.close()


UNWRITABLE_CHILD = """
import resource, signal, sys
from concurrent.futures import wait
from pathlib import Path
from coordinator.core.events import BatchAwaiting
from coordinator.store.errors import LogUnwritable
from coordinator.store.log import EventLog
from coordinator.store.witnesses import Witness

folder, full = Path(sys.argv[1]), sys.argv[2]
log = EventLog.open(folder)
log.append([BatchAwaiting(at_ms=n, batch_id="before") for n in range(100)]).result(10)
size = (folder / f"{full}-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
futures = []
try:
    for n in range(2000):
        witness = Witness(str(n), b"output " * 20, b"salt", b"secret")
        futures.append(log.append([BatchAwaiting(at_ms=n, batch_id="after")], witnesses=[witness]))
        if n % 50 == 0:
            futures[-1].exception(10)
except LogUnwritable as error:
    print("refused:", error)
wait(futures, 10)
acknowledged = 100 + sum(future.exception() is None for future in futures)
failed = [future for future in futures if future.exception() is not None]
assert failed and all(isinstance(future.exception(), LogUnwritable) for future in failed)
assert futures[-len(failed):] == failed, "after the first failure nothing is acknowledged"
assert log.fault is not None and log.head.seq == acknowledged
assert sum(1 for _ in log.replay()) == acknowledged, "reading goes on"
assert log.room().done()
print("acknowledged:", acknowledged)
sys.stdout.flush()
import os; os._exit(0)
"""


@pytest.mark.parametrize("full", [LOG_FILE, WITNESS_FILE])
def test_a_full_disk_makes_the_log_read_only_and_acknowledges_nothing_more(tmp_path: Path, full: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", UNWRITABLE_CHILD, str(tmp_path), full],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    assert "refused: the log is read-only" in child.stdout
    acknowledged = int(child.stdout.split("acknowledged:")[1])

    log = EventLog.open(tmp_path)
    assert len(contents(log)) == acknowledged
    assert log.append([numbered(1)]).result(10) == acknowledged + 1
    log.close()


def test_an_event_that_cannot_be_encoded_is_its_callers_error(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path)
    with pytest.raises(TypeError):
        log.append([BatchAwaiting(at_ms=1, batch_id=object())])  # type: ignore[arg-type]  # on purpose
    log.append([numbered(1)]).result(10)
    log.close()


def test_a_log_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    EventLog.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / LOG_FILE)
    connection.execute("INSERT INTO schema_version VALUES (1000)")
    connection.commit()
    connection.close()
    with pytest.raises(SchemaTooNew, match="schema 1000"):
        EventLog.open(tmp_path)


def test_the_head_of_an_empty_log_is_its_genesis(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path, log_id=bytes(16))
    assert log.head == Head(0, genesis(bytes(16)))
    assert isinstance(log.append([]), Future)
    log.close()
