"""The event log: append-only, hash-chained, durable before anything is acknowledged. State is a fold over it.

The data folder (mode 0700, its files 0600):

    lock                 held by the one process that uses the folder
    log.sqlite3          the latest events and their hashes
    archive/             the events before them, in closed segments (archive.py)
    snapshots/           the state at some of them (snapshot.py)
    head                 how far the log must reach at least
    witnesses.sqlite3    outputs, salts and secrets
    proofs.sqlite3       batch proofs
    damaged/             logs that were set aside
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from coordinator.core.events import Event, decode_event, encode_event
from coordinator.store import compaction
from coordinator.store.archive import ARCHIVE_FOLDER, Archive, Segment
from coordinator.store.database import FILE_ERRORS, Database, is_damage, sqlite_files
from coordinator.store.errors import LogCorrupted, LogUnwritable, StoreError
from coordinator.store.hashing import LOG_ID_BYTES, Head, HeadMark
from coordinator.store.lock import FolderLock
from coordinator.store.opening import check_ends, open_file, read_mark
from coordinator.store.proofs import ProofRecord, ProofStore
from coordinator.store.reader import LogReader
from coordinator.store.snapshot import SNAPSHOT_FOLDER, Snapshots
from coordinator.store.witnesses import Witness, WitnessStore
from coordinator.store.write_queue import WriteQueue, WriteRequest
from coordinator.store.writer import LogWriter

LOG_FILE = "log.sqlite3"
HEAD_FILE = "head"
WITNESS_FILE = "witnesses.sqlite3"
PROOF_FILE = "proofs.sqlite3"
DAMAGED_FOLDER = "damaged"

#: How often a verification reports how far it is.
_PROGRESS_EVENTS = 1_000

Progress = Callable[[int, int], None]
"""Told (events checked, events in all) while a verification goes on."""


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event and its number in the log."""

    seq: int
    event: Event


class QueueBounds(NamedTuple):
    """What may wait for the writer before `append` answers LogBusy."""

    events: int = 100_000
    num_bytes: int = 256 * 2**20


DEFAULT_BOUNDS = QueueBounds()


@dataclass(frozen=True, kw_only=True)
class LogReport:
    """What `verify` found: `events` hold; `corruption` is what is wrong after them, if anything."""

    events: int
    corruption: LogCorrupted | None

    @property
    def ok(self) -> bool:
        """Whether every event is the one that was written."""
        return self.corruption is None


class EventLog:
    """The log of one data folder, with its witnesses and proofs. Every method works from any thread.

    A damaged log opens too, so that an operator can be told: `fault` says what is wrong, and `append`
    refuses. `reader` reads it, archive included; `snapshots` are the states beside it.
    """

    def __init__(self, lock: FolderLock, *, log_id: bytes, bounds: QueueBounds) -> None:
        """Use `open`; this takes over a lock that is held already."""
        self._lock = lock
        self._bounds = bounds
        self.archive = Archive(self.folder)
        self.snapshots = Snapshots(self.folder)
        self.reader = LogReader(self._connect, self.archive)
        with ExitStack() as opened:
            self.witnesses = WitnessStore(self.folder / WITNESS_FILE)
            opened.callback(self.witnesses.close)
            self.proofs = ProofStore(self.folder / PROOF_FILE)
            opened.callback(self.proofs.close)
            self._open_log(log_id=log_id, base_seq=0)
            self._opened = opened.pop_all()

    def _open_log(self, *, log_id: bytes, base_seq: int) -> None:
        """Opens the log's own files; what is damaged is noted, not raised."""
        self._corruption: LogCorrupted | None = None
        self._log: Database | None = None
        self._writer: LogWriter | None = None
        self._queue = WriteQueue(max_events=self._bounds.events, max_bytes=self._bounds.num_bytes)
        self._reached = Head(0, bytes(32))
        with ExitStack() as opened:
            try:
                self._writer = self._open_writer(opened, log_id=log_id, base_seq=base_seq)
            except LogCorrupted as error:
                self.condemn(error)
            self._log_opened = opened.pop_all()

    def _open_writer(self, opened: ExitStack, *, log_id: bytes, base_seq: int) -> LogWriter:
        mark = HeadMark(self.folder / HEAD_FILE)
        opened.callback(mark.close)
        marked = read_mark(mark)
        if marked is not None:
            self._reached = marked[1]
        self._log = open_file(
            self.folder / LOG_FILE, new_log_id=log_id, new_base_seq=base_seq, expected=marked is not None
        )
        opened.callback(self._log.close)
        ends = check_ends(self._log, mark, self.archive)
        writer = LogWriter(
            log=self._log,
            log_id=ends.log_id,
            head=ends.head,
            mark=mark,
            witnesses=self.witnesses,
            proofs=self.proofs,
            queue=self._queue,
        )
        opened.callback(writer.close)
        return writer

    @classmethod
    def open(
        cls, folder: Path, *, log_id: bytes | None = None, bounds: QueueBounds = DEFAULT_BOUNDS
    ) -> "EventLog":
        """Opens or creates the log of a folder. `log_id` (16 bytes) names a new log; random where not given.

        Raises:
            LogLocked: another process has the folder.
            LogUnwritable: the disk refuses.
            StoreCorrupted: the witnesses' or the proofs' file is damaged.
            SchemaTooNew: a newer version wrote a file.
        """
        lock = FolderLock(folder)
        try:
            return cls(lock, log_id=log_id or os.urandom(LOG_ID_BYTES), bounds=bounds)
        except BaseException:
            lock.release()
            raise

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self._lock.folder

    @property
    def head(self) -> Head:
        """The last durable event: its number and hash; of a log that opened damaged, what its mark says."""
        return self._writer.head if self._writer is not None else self._reached

    @property
    def fault(self) -> StoreError | None:
        """Why the log takes no events any more: LogCorrupted, LogUnwritable, or None while it does."""
        return self._corruption or (self._writer.failure if self._writer is not None else None)

    @property
    def queued_events(self) -> int:
        """Events that wait for the disk."""
        return self._queue.queued_events

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the disk."""
        return self._queue.queued_bytes

    # -- writing --------------------------------------------------------------------------------------------------

    def append(
        self,
        events: Sequence[Event],
        *,
        witnesses: Sequence[Witness] = (),
        proofs: Sequence[ProofRecord] = (),
    ) -> Future[int]:
        """Queues events and what must be durable before them. Calls are written in order, each whole.

        The future gives the number of the last event once all is durable (the head's, without events), or
        raises LogUnwritable. It cannot be cancelled. Futures of successive calls are resolved in order.

        Raises:
            LogBusy: the queue is full and nothing was queued; see `room`.
            LogUnwritable: the log is read-only; `fault` says why.
        """
        request = WriteRequest(
            events=[(event.at_ms, type(event).__name__, encode_event(event)) for event in events],
            witnesses=witnesses,
            proofs=proofs,
        )
        self._queue.put(request)
        return request.done

    def room(self) -> Future[None]:
        """Resolved at once while the queue is less than half full, else when the writer has caught up."""
        return self._queue.room()

    # -- reading --------------------------------------------------------------------------------------------------

    def replay(self, *, after: int = 0) -> Generator[StoredEvent, None, None]:
        """The events after number `after`, as of the first step, verified as they are read.

        Raises:
            LogCorrupted: at the first event that cannot be trusted. The log is read-only from then on.
        """
        for seq, body in self._verified(after):
            yield StoredEvent(seq, self._decode(seq, body))

    def read(self, after: int, *, limit: int) -> list[StoredEvent]:
        """At most `limit` events after number `after`, verified: a page for whoever follows the log.

        Raises:
            LogCorrupted: as `replay`.
        """
        with closing(self.replay(after=after)) as events:
            return list(islice(events, limit))

    def latest(self, kinds: Sequence[str], *, limit: int, before: int | None = None) -> list[StoredEvent]:
        """The last `limit` events of some of `reader.INDEXED_KINDS`, newest first, all before number `before`.

        Raises:
            LogCorrupted: one of them cannot be trusted.
        """
        up_to = self.head.seq if before is None else before - 1
        found = self._of_kinds(kinds, after=0, up_to=up_to, newest=limit)
        return found[::-1]

    def of_kinds(self, kinds: Sequence[str], *, after: int, up_to: int) -> list[StoredEvent]:
        """Every event of some of `reader.INDEXED_KINDS` in (after, up_to], in order.

        Raises:
            LogCorrupted: one of them cannot be trusted.
        """
        return self._of_kinds(kinds, after=after, up_to=up_to, newest=None)

    def _of_kinds(
        self, kinds: Sequence[str], *, after: int, up_to: int, newest: int | None
    ) -> list[StoredEvent]:
        with self._faults():
            rows = self.reader.of_kinds(tuple(kinds), after=after, up_to=up_to, newest=newest)
        return [StoredEvent(seq, self._decode(seq, body)) for seq, _, _, body, _ in rows]

    def _decode(self, seq: int, body: bytes) -> Event:
        try:
            return decode_event(body)
        except msgspec.DecodeError as error:
            raise self.condemn(LogCorrupted(seq, f"no event that this version knows: {error}")) from error

    def verify(self, progress: Progress | None = None) -> LogReport:
        """Checks the whole hash chain, archive included, and every archived byte.

        Corruption is reported, not raised, and makes the log read-only.
        """
        events = 0
        try:
            with self._faults():
                total = self.head.seq - self.reader.ends().first.seq
            for _ in self._verified(0):
                events += 1
                if progress is not None and not events % _PROGRESS_EVENTS:
                    progress(events, max(total, events))
            self._verify_files()
        except LogCorrupted as error:
            return LogReport(events=events, corruption=error)
        return LogReport(events=events, corruption=None)

    def _verify_files(self) -> None:
        """What the chain of hashes does not tell: the archive's files as a whole, and the index by kind."""
        with self._faults():
            for segment in self.archive.segments():
                if not segment.intact:
                    raise LogCorrupted(segment.base_seq + 1, f"{segment.path.name} was changed")
            with self._connect() as connection:
                (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise LogCorrupted(0, f"{LOG_FILE}: {verdict}")

    # -- keeping it small -----------------------------------------------------------------------------------------

    def compact(self, up_to: int) -> Segment | None:
        """Moves the events up to number `up_to` to the archive; None where none were left to move.

        Raises:
            LogCorrupted: one of them is damaged; the log is read-only from then on.
            LogUnwritable: the disk refuses; nothing is lost, and the log goes on.
        """
        with self._faults():
            return compaction.compact(self._database(), self.reader, self.archive, up_to=up_to)

    def prune(self, up_to: int) -> list[Segment]:
        """Deletes archived segments that end at number `up_to` or before, for good.

        Raises:
            LogCorrupted, LogUnwritable: as `compact`.
        """
        with self._faults():
            return compaction.prune(self._database(), self.reader, self.archive, up_to=up_to)

    # -- after a fault --------------------------------------------------------------------------------------------

    def condemn(self, error: LogCorrupted) -> LogCorrupted:
        """Nothing may be built on a damaged log: it takes no more events. Returns the error, to be raised."""
        self._corruption = self._corruption or error
        self._queue.close(str(error))
        return error

    def reopen(self) -> None:
        """Opens the log's file anew, after the disk refused or the log was damaged; `fault` says how it is now.

        Raises:
            LogUnwritable: the disk still refuses.
        """
        self._close_log()
        self._open_log(log_id=os.urandom(LOG_ID_BYTES), base_seq=0)

    def set_aside(self, label: str, *, after_seq: int = 0) -> None:
        """Moves this log, archive and snapshots to `damaged/label` and begins an empty one, under the same lock.

        The new log numbers its events after `after_seq` and after all that is known of the old one. Witnesses
        and proofs stay.

        Raises:
            FileExistsError: there is such a label.
        """
        target = self.folder / DAMAGED_FOLDER / label
        target.mkdir(parents=True, mode=0o700)
        base_seq = max(after_seq, self.head.seq)
        self._close_log()
        files = (*sqlite_files(self.folder / LOG_FILE), self.folder / HEAD_FILE)
        for path in (*files, self.folder / ARCHIVE_FOLDER, self.folder / SNAPSHOT_FOLDER):
            if path.exists():
                path.rename(target / path.name)
        self._open_log(log_id=os.urandom(LOG_ID_BYTES), base_seq=base_seq)

    def close(self) -> None:
        """Writes what is queued and gives the folder free."""
        self._close_log()
        self._opened.close()
        self._lock.release()

    def _close_log(self) -> None:
        self._queue.close("the log is closed")
        self._log_opened.close()
        self._log = None

    # -- inside ---------------------------------------------------------------------------------------------------

    def _database(self) -> Database:
        if self._log is None:
            raise self._corruption or LogUnwritable("the log is closed")
        return self._log

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with self._database().snapshot() as connection:
            yield connection

    def _verified(self, after: int) -> Generator[tuple[int, bytes], None, None]:
        reached = self.head
        with self._faults():
            for seq, _, _, body, _ in self.reader.rows(after, reached=reached):
                yield seq, body
        if self._writer is None and self._corruption is not None:
            raise self._corruption  # found when the log was opened, in what is not an event

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Damage condemns the log; a disk that refuses does not.

        Raises:
            LogCorrupted, LogUnwritable: what the block met.
        """
        try:
            yield
        except LogCorrupted as error:
            raise self.condemn(error) from error.__cause__
        except FILE_ERRORS as error:
            if is_damage(error):
                raise self.condemn(LogCorrupted(0, f"the file cannot be read: {error}")) from error
            raise LogUnwritable(f"{LOG_FILE}: {error}") from error
        except OSError as error:
            raise LogUnwritable(f"{self.folder.name}: {error}") from error
