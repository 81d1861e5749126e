"""The simulated machine's disk: the real log on real files, with a moment between a write's beginning and its end.

`append` begins a write and returns; the real log makes it durable a moment later, and whoever waits hears of it another
moment later. When the process dies in between, some of the writes that were begun are on the disk, the last one
perhaps in part: the files are copied as they are at that instant, without SQLite's shared memory, and what the last
write added to the write-ahead log is cut at a random byte. That is what `kill -9` (and, of the last write, a power
failure) can leave behind; the coordinator then opens the copy as it would open any data folder.
"""

import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

from coordinator.core.events import Event
from coordinator.sim.loop import VirtualLoop
from coordinator.store.database import Database, sqlite_files
from coordinator.store.errors import LogUnwritable
from coordinator.store.log import HEAD_FILE, LOG_FILE, EventLog
from coordinator.store.proofs import ProofRecord
from coordinator.store.witnesses import Witness


class StoreFile(StrEnum):
    """The files that a full disk can stop."""

    LOG = "log"
    WITNESSES = "witnesses"
    PROOFS = "proofs"


#: SQLite's own greatest number of pages.
_UNBOUNDED_PAGES = 0xFFFFFFFE


@dataclass(frozen=True, eq=False)
class _Write:
    """A write that was begun; `future` is the caller's."""

    events: Sequence[Event]
    witnesses: Sequence[Witness]
    proofs: Sequence[ProofRecord]
    future: Future[int]


class SimulatedLog(EventLog):
    """The real log, its writes begun and ended on the virtual loop. `heard` is told of every event in order."""

    loop: VirtualLoop
    heard: Callable[[Sequence[Event]], None]
    durable: Callable[[Sequence[Event]], None]
    _begun: deque[_Write]
    _dead: bool

    @classmethod
    def begin(
        cls,
        folder: Path,
        *,
        log_id: bytes,
        loop: VirtualLoop,
        heard: Callable[[Sequence[Event]], None],
        durable: Callable[[Sequence[Event]], None],
    ) -> "SimulatedLog":
        """Opens a folder's log on a loop. `heard` is told of events when their write begins, `durable` when it
        ended."""
        log = cls.open(folder, log_id=log_id)
        assert isinstance(log, cls)
        log.loop, log.heard, log.durable = loop, heard, durable
        log._begun, log._dead = deque(), False
        return log

    def append(
        self,
        events: Sequence[Event],
        *,
        witnesses: Sequence[Witness] = (),
        proofs: Sequence[ProofRecord] = (),
    ) -> Future[int]:
        """Begins a write; see `EventLog.append`."""
        if self._dead:
            raise LogUnwritable("the process is dead")
        if self.fault is not None:
            raise LogUnwritable(str(self.fault))
        self.heard(events)
        future: Future[int] = Future()
        if self.loop.in_job:  # a thread that waits for its write
            future.set_result(self._written(_Write(events, witnesses, proofs, future)))
            return future
        self._begun.append(_Write(events, witnesses, proofs, future))
        self.loop.call_later(self.loop.delay_s(), self._write_all)
        return future

    def _write_all(self) -> None:
        """Makes durable what was begun by now, in order; it is told a moment later."""
        if self._dead:
            return
        ended = [(write, self._write(write)) for write in self._begun]
        self._begun.clear()
        self.loop.call_later(self.loop.delay_s(), self._tell, ended)

    def _written(self, write: _Write) -> int:
        outcome = self._write(write)
        if isinstance(outcome, LogUnwritable):
            raise outcome
        return outcome

    def _write(self, write: _Write) -> int | LogUnwritable:
        try:
            seq = super().append(write.events, witnesses=write.witnesses, proofs=write.proofs).result()
        except LogUnwritable as error:
            return error
        self.durable(write.events)
        return seq

    def _tell(self, ended: list[tuple[_Write, int | LogUnwritable]]) -> None:
        if self._dead:
            return
        for write, outcome in ended:
            if isinstance(outcome, LogUnwritable):
                write.future.set_exception(outcome)
            else:
                write.future.set_result(outcome)

    def fill(self, file: StoreFile) -> None:
        """The disk is full for one file: it cannot grow."""
        connection = self._file(file)._writer
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")

    def free(self, file: StoreFile) -> None:
        """There is room again."""
        self._file(file)._writer.execute(f"PRAGMA max_page_count = {_UNBOUNDED_PAGES}")

    def _file(self, file: StoreFile) -> Database:
        match file:
            case StoreFile.LOG:
                assert self._log is not None, "the log is open"
                return self._log
            case StoreFile.WITNESSES:
                return self.witnesses._database
            case StoreFile.PROOFS:
                return self.proofs._database

    def die(self, target: Path, chance: Random, *, torn: bool) -> bool:
        """The process dies: its files at that instant are at `target` afterwards, this object is closed.

        Returns:
            Whether the last write was torn.
        """
        self._dead = True
        writes = list(self._begun)
        on_disk = chance.randint(0, len(writes))
        for write in writes[:on_disk]:
            self._write(write)
        cut = self._begin_last(writes[on_disk]) if torn and on_disk < len(writes) else None
        shutil.copytree(self.folder, target, ignore=shutil.ignore_patterns("*-shm"))
        is_torn = cut is not None and cut.tear(target, chance)
        if cut is not None and not is_torn:
            self.durable(writes[on_disk].events)
        self.close()
        return is_torn

    def _begin_last(self, write: _Write) -> "_Cut | None":
        cut = _Cut.before(self.folder)
        try:
            super().append(write.events, witnesses=write.witnesses, proofs=write.proofs).result()
        except LogUnwritable:
            return None
        return cut


@dataclass(frozen=True)
class _Cut:
    """The log's files before a write: its write-ahead log's length, and the mark."""

    wal_bytes: int
    mark: bytes

    @staticmethod
    def before(folder: Path) -> "_Cut":
        _, wal, _ = sqlite_files(folder / LOG_FILE)
        return _Cut(wal.stat().st_size if wal.exists() else 0, (folder / HEAD_FILE).read_bytes())

    def tear(self, folder: Path, chance: Random) -> bool:
        """Cuts the copied write-ahead log within what the write added; False where it added nothing at the end
        (SQLite began the file anew), so that the write is whole."""
        _, wal, _ = sqlite_files(folder / LOG_FILE)
        length = wal.stat().st_size if wal.exists() else 0
        if length <= self.wal_bytes:
            return False
        kept = chance.randrange(self.wal_bytes, length)
        with wal.open("r+b") as file:
            file.truncate(kept)
        (folder / HEAD_FILE).write_bytes(self.mark)
        return True


def change_event(folder: Path, share: float) -> bool:
    """Changes a byte of an event in a folder that nobody has open, that far through the file's events (0 to 1).

    Returns:
        Whether there was one to change.
    """
    connection = sqlite3.connect(folder / LOG_FILE)
    try:
        rows = connection.execute("SELECT seq, body FROM log ORDER BY seq").fetchall()
        if not rows:
            return False
        seq, body = rows[int(share * len(rows))]
        changed = bytes([*body[:-1], body[-1] ^ 1])
        connection.execute("UPDATE log SET body = ? WHERE seq = ?", (changed, seq))
        connection.commit()
    finally:
        connection.close()
    return True
