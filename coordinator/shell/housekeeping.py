"""Housekeeping: the core's clock ticks, and what ended leaves no secret behind."""

import asyncio
from collections.abc import Callable, Sequence

from coordinator.core.engine import Engine
from coordinator.core.events import (
    BatchConfirmed,
    BatchReturned,
    Event,
    OperationFailed,
    OperationsRolledBack,
)
from coordinator.core.state import CoreState
from coordinator.logs import get_logger
from coordinator.shell.journal import Journal
from coordinator.store.errors import StoreError
from coordinator.store.log import EventLog

_TICK_S = 0.25

_log = get_logger("housekeeping")


class Housekeeping:
    """Ticks four times a second; erases the secrets of ended operations and the proofs of dissolved batches."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        log: EventLog,
        clock_ms: Callable[[], int],
        memory_bytes: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._store = log
        self._clock_ms = clock_ms
        self._memory_bytes = memory_bytes
        self.on_tick: Callable[[], None] | None = None
        self._ended: list[str] = []
        self._dissolved: list[str] = []

    def hear(self, _last_seq: int, events: Sequence[Event]) -> None:
        """Notes what ended."""
        for event in events:
            match event:
                case BatchConfirmed():
                    self._ended += self._journal.operations_of(event)
                case OperationsRolledBack():
                    self._ended += event.operation_ids
                case OperationFailed():
                    self._ended.append(event.operation_id)
                case BatchReturned():
                    self._dissolved.append(event.batch_id)

    async def run(self) -> None:
        """Until cancelled, or until the journal is read-only."""
        while self._journal.read_only is None:
            self._engine.memory_bytes = self._memory_bytes()
            self._engine.tick(now_ms=self._clock_ms())
            await self._journal.commit()
            await self._clean()
            if self.on_tick is not None:
                self.on_tick()
            await asyncio.sleep(_TICK_S)

    async def _clean(self) -> None:
        ended, self._ended = self._ended, []
        dissolved, self._dissolved = self._dissolved, []
        try:
            if ended:
                await asyncio.to_thread(self._store.witnesses.erase_secrets, ended)
            if dissolved:
                await asyncio.to_thread(self._store.proofs.forget, dissolved)
        except StoreError as error:
            self._ended, self._dissolved = ended + self._ended, dissolved + self._dissolved
            _log.warning("cleaning_failed", reason=error.code, detail=str(error))


def clean_after_restart(log: EventLog, state: CoreState) -> None:
    """What a crash may have left beside the log: witnesses nobody names, secrets of what has ended. Blocks."""
    log.witnesses.drop_orphans(
        lambda one: one in state.live or one in state.ended or one in state.confirmed_outputs
    )
    log.proofs.drop_orphans(state.batches.keys() | state.ended_batches.keys())
    ended = sorted(log.witnesses.with_secrets() - state.live.keys())
    if ended:
        log.witnesses.erase_secrets(ended)
