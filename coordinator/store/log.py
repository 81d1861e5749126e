"""The event log: append-only, hash-chained, durable before anything is acknowledged. State is a fold over it.

The data folder (mode 0700, its files 0600):

    lock                 held by the one process that uses the folder
    log.sqlite3          the events and their hashes
    head                 how far the log must reach at least
    witnesses.sqlite3    outputs, salts and secrets
    proofs.sqlite3       batch proofs
    damaged/             logs that were set aside
"""

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from coordinator.core.events import Event, decode_event, encode_event
from coordinator.store.database import FILE_ERRORS, Database, is_damage, sqlite_files
from coordinator.store.errors import LogCorrupted, LogUnwritable, StoreError
from coordinator.store.hashing import LOG_ID_BYTES, Head, HeadMark
from coordinator.store.lock import FolderLock
from coordinator.store.opening import check_ends, open_file, read_mark
from coordinator.store.proofs import ProofRecord, ProofStore
from coordinator.store.reader import verified_rows
from coordinator.store.witnesses import Witness, WitnessStore
from coordinator.store.write_queue import WriteQueue, WriteRequest
from coordinator.store.writer import LogWriter

LOG_FILE = "log.sqlite3"
HEAD_FILE = "head"
WITNESS_FILE = "witnesses.sqlite3"
PROOF_FILE = "proofs.sqlite3"
DAMAGED_FOLDER = "damaged"


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
    refuses.
    """

    def __init__(self, lock: FolderLock, *, log_id: bytes, base_seq: int, bounds: QueueBounds) -> None:
        """Use `open`; this takes over a lock that is held already."""
        self._lock = lock
        self._bounds = bounds
        self._corruption: LogCorrupted | None = None
        self._log: Database | None = None
        self._writer: LogWriter | None = None
        self._queue = WriteQueue(max_events=bounds.events, max_bytes=bounds.num_bytes)
        self._reached = Head(0, bytes(32))
        with ExitStack() as opened:
            self.witnesses = WitnessStore(self.folder / WITNESS_FILE)
            opened.callback(self.witnesses.close)
            self.proofs = ProofStore(self.folder / PROOF_FILE)
            opened.callback(self.proofs.close)
            try:
                self._writer = self._open_writer(opened, log_id=log_id, base_seq=base_seq)
            except LogCorrupted as error:
                self._condemn(error)
            self._opened = opened.pop_all()

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
        found_id, head = check_ends(self._log, mark)
        writer = LogWriter(
            log=self._log,
            log_id=found_id,
            head=head,
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
            return cls(lock, log_id=log_id or os.urandom(LOG_ID_BYTES), base_seq=0, bounds=bounds)
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

    def replay(self, *, after: int = 0) -> Generator[StoredEvent, None, None]:
        """The events after number `after`, as of the first step, verified as they are read.

        Raises:
            LogCorrupted: at the first event that cannot be trusted. The log is read-only from then on.
        """
        for seq, body in self._verified(after):
            try:
                event = decode_event(body)
            except msgspec.DecodeError as error:
                raise self._condemn(
                    LogCorrupted(seq, f"no event that this version knows: {error}")
                ) from error
            yield StoredEvent(seq, event)

    def read(self, after: int, *, limit: int) -> list[StoredEvent]:
        """At most `limit` events after number `after`, verified: a page for whoever follows the log.

        Raises:
            LogCorrupted: as `replay`.
        """
        with closing(self.replay(after=after)) as events:
            return list(islice(events, limit))

    def verify(self) -> LogReport:
        """Checks the whole hash chain. Corruption is reported, not raised, and makes the log read-only."""
        events = 0
        try:
            for _ in self._verified(0):
                events += 1
        except LogCorrupted as error:
            return LogReport(events=events, corruption=error)
        return LogReport(events=events, corruption=None)

    def set_aside(self, label: str, *, after_seq: int = 0) -> "EventLog":
        """Moves this log to `damaged/label` and begins an empty one, under the same lock.

        The new log numbers its events after `after_seq` and after all that is known of this one. Witnesses
        and proofs stay. This object is closed; the new log is returned.

        Raises:
            FileExistsError: there is such a label.
        """
        target = self.folder / DAMAGED_FOLDER / label
        target.mkdir(parents=True, mode=0o700)
        self._close_files()
        base_seq = max(after_seq, self.head.seq)
        for path in (*sqlite_files(self.folder / LOG_FILE), self.folder / HEAD_FILE):
            if path.exists():
                path.rename(target / path.name)
        return EventLog(self._lock, log_id=os.urandom(LOG_ID_BYTES), base_seq=base_seq, bounds=self._bounds)

    def close(self) -> None:
        """Writes what is queued and gives the folder free."""
        self._close_files()
        self._lock.release()

    def _close_files(self) -> None:
        self._queue.close("the log is closed")
        self._opened.close()
        self._log = None

    def _verified(self, after: int) -> Generator[tuple[int, bytes], None, None]:
        if self._log is None:
            raise self._corruption or LogUnwritable("the log is closed")
        reached = self.head
        try:
            with self._log.snapshot() as connection:
                yield from verified_rows(connection, after=after, reached=reached)
        except LogCorrupted as error:
            raise self._condemn(error) from error.__cause__
        except FILE_ERRORS as error:
            if is_damage(error):
                raise self._condemn(LogCorrupted(0, f"the file cannot be read: {error}")) from error
            raise LogUnwritable(f"{LOG_FILE}: {error}") from error
        if self._writer is None and self._corruption is not None:
            raise self._corruption  # found when the log was opened, in what is not an event

    def _condemn(self, error: LogCorrupted) -> LogCorrupted:
        """Nothing may be built on a damaged log: it takes no more events."""
        self._corruption = self._corruption or error
        self._queue.close(str(error))
        return error
