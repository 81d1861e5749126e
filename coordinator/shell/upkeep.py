"""Upkeep of the log: snapshots now and then, compaction behind them, and the full check that a quick start puts off."""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

import msgspec

from coordinator.core.engine import Engine
from coordinator.logs import get_logger
from coordinator.shell.journal import Journal
from coordinator.shell.machine import Machine, SnapshotFailed
from coordinator.store.errors import LogCorrupted, StoreError
from coordinator.store.log import EventLog
from coordinator.store.restart import Restored
from coordinator.store.snapshot import KEPT, SnapshotHeader

_LOOK_S = 1.0
#: A snapshot that could not be made is tried again after this long.
_RETRY_MS = 60_000
#: However much comes in, the next one waits so long: the machine has better things to do.
_APART_MS = 10_000
#: Below so many events and operations the time alone makes no snapshot: reading them again costs nothing.
_WORTH_IT = 1_000

_log = get_logger("upkeep")


class VerificationState(StrEnum):
    """Where the check of the whole log stands."""

    RUNNING = "running"
    OK = "ok"
    DAMAGED = "damaged"


class Verification(msgspec.Struct):
    """The check of the whole log that goes on behind a start from a snapshot. `total`: as of its beginning."""

    state: VerificationState = VerificationState.OK
    checked_events: int = 0
    total_events: int = 0


class UpkeepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a snapshot is due, counted in events and operations admitted, or by time; and what the log's file keeps."""

    snapshot_after: int
    snapshot_interval_s: int
    compact_after: int


class Upkeep:
    """Looks once a second what is due. Whatever fails here only makes the next start slower: it is logged."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        log: EventLog,
        machine: Machine,
        settings: Callable[[], UpkeepSettings],
        clock_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._store = log
        self._machine = machine
        self._settings = settings
        self._clock_ms = clock_ms
        self._latest: SnapshotHeader | None = None
        self._due_by_ms = 0
        self._not_before_ms = 0
        self._to_verify = False
        self.verification = Verification()
        self.snapshots_made = 0

    def started(self, restored: Restored) -> None:
        """The state was read from the log; what stands before the snapshot that it began with is unchecked."""
        self._latest = restored.snapshot
        self._due_by_ms = self._clock_ms() + 1_000 * self._settings().snapshot_interval_s
        self._not_before_ms = 0
        self._to_verify = restored.snapshot is not None
        self.verification = Verification()

    @property
    def snapshot_seq(self) -> int:
        """The event at which the newest snapshot stands; 0 without one."""
        return 0 if self._latest is None else self._latest.seq

    @property
    def since_snapshot(self) -> int:
        """Events and admitted operations that a restart would fold in."""
        seq, admitted = (0, 0) if self._latest is None else (self._latest.seq, self._latest.admitted)
        return self._store.head.seq - seq + self._engine.state.totals.admitted - admitted

    async def run(self) -> None:
        """Until cancelled, or until the journal is read-only."""
        if self._to_verify:
            await self._verify()
            self._to_verify = False
        while self._journal.read_only is None:
            if self._is_due():
                await self.snapshot()
            await asyncio.sleep(_LOOK_S)

    def _is_due(self) -> bool:
        settings, since, now_ms = self._settings(), self.since_snapshot, self._clock_ms()
        if now_ms < self._not_before_ms:
            return False
        return since >= settings.snapshot_after or (now_ms >= self._due_by_ms and since >= _WORTH_IT)

    async def snapshot(self) -> None:
        """Makes a snapshot, and lets the log's file go of what lies far enough behind it."""
        began_s, settings = time.perf_counter(), self._settings()
        try:
            self._latest = await self._machine.make_snapshot(self._store)
        except SnapshotFailed as error:
            self._not_before_ms = self._clock_ms() + _RETRY_MS
            _log.warning("snapshot_failed", detail=str(error))
            return
        self.snapshots_made += 1
        self._not_before_ms = self._clock_ms() + _APART_MS
        self._due_by_ms = self._clock_ms() + 1_000 * settings.snapshot_interval_s
        _log.info("snapshot", seq=self._latest.seq, took_s=round(time.perf_counter() - began_s, 3))
        try:
            await asyncio.to_thread(self._compact, settings.compact_after)
        except LogCorrupted as error:
            self._journal.stop(str(error))
        except StoreError as error:
            _log.warning("compaction_failed", reason=error.code, detail=str(error))

    def _compact(self, compact_after: int) -> None:
        """Archives what lies before the oldest snapshot, once the file holds too much; so that whichever snapshot a
        restart begins with, the events after it are in the file."""
        kept = self._store.snapshots.headers()
        if len(kept) < KEPT or self._store.head.seq - self._store.reader.ends().base.seq < compact_after:
            return
        segment = self._store.compact(kept[-1].seq)
        if segment is not None:
            _log.info("compacted", first_seq=segment.base_seq + 1, last_seq=segment.head_seq)

    async def _verify(self) -> None:
        """Checks the whole log in a thread, with pauses that let the loop run."""
        verification = self.verification
        verification.state = VerificationState.RUNNING

        def progress(checked: int, total: int) -> None:
            verification.checked_events, verification.total_events = checked, total
            self._machine.rest()

        try:
            report = await asyncio.to_thread(self._store.verify, progress)
        except StoreError as error:
            _log.warning("verification_failed", reason=error.code, detail=str(error))
            verification.state = VerificationState.OK
            return
        verification.checked_events = report.events
        verification.total_events = max(verification.total_events, report.events)
        verification.state = VerificationState.OK if report.ok else VerificationState.DAMAGED
        if report.corruption is not None:
            self._journal.stop(str(report.corruption))
        _log.info("verified", events=report.events, ok=report.ok)
