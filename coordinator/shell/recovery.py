"""Recovery in the serving process: the state read from the disk again, rebuilt from the log, or rebuilt from the chain.

A full disk makes the journal read-only, with memory ahead of the disk; once there is room the state is read again,
by itself. A damaged log waits for an operator's `rebuild_state`. Either way the loops stop, the engine goes on from
another state, and the loops start again; nobody needs to restart anything.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from coordinator.chain.interface import ChainError
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.invariants import check
from coordinator.logs import get_logger
from coordinator.shell.rebuilding import Losses, begin_anew, interrupted, read_chain
from coordinator.store.errors import LogCorrupted, StoreError
from coordinator.store.restart import Restored, restore

if TYPE_CHECKING:
    from coordinator.shell.assembly import Parts

_LOOK_S = 0.5
_LONGEST_PAUSE_S = 30.0
#: Slots in which whatever was sent is confirmed or dead, beside the expiry and the confirmation depth.
_SPARE_SLOTS = 2

_log = get_logger("recovery")


class RecoveryStatus(StrEnum):
    """Where a rebuild stands."""

    IDLE = "idle"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    FAILED = "failed"


class RebuildSource(StrEnum):
    """What a state was rebuilt from."""

    LOG = "log"
    CHAIN = "chain"


class Rebuild(msgspec.Struct):
    """The last rebuild, or the one that goes on. `set_aside`: where the damaged log is kept."""

    status: RecoveryStatus = RecoveryStatus.IDLE
    step: str = ""
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    source: RebuildSource | None = None
    detail: str = ""
    set_aside: str | None = None
    agents: int = 0
    confirmed_operations: int = 0
    losses: Losses | None = None


class Recovery:
    """`watch` is a loop of its own, that goes on while the others stand still."""

    def __init__(self, parts: "Parts", *, clock_ms: Callable[[], int]) -> None:
        self._parts = parts
        self._clock_ms = clock_ms
        self._exclusive = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.rebuild = Rebuild()
        self.reloads = 0
        """How often the state was read from the disk again after a write had failed."""

    # -- a full disk ----------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Until cancelled: once a disk that refused takes writes again, the state is read from it."""
        pause_s = _LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            if not self._waits_for_room():
                pause_s = _LOOK_S
                continue
            try:
                healed = await self._try_reload()
            except Exception:
                _log.exception("reload_failed")
                healed = False
            pause_s = _LOOK_S if healed else min(2 * pause_s, _LONGEST_PAUSE_S)

    def _waits_for_room(self) -> bool:
        parts = self._parts
        # What a rebuild left half done looks sound, and is empty.
        damaged = isinstance(parts.log.fault, LogCorrupted) or interrupted(parts.log.folder) is not None
        return parts.journal.read_only is not None and not damaged and not self._exclusive.locked()

    async def _try_reload(self) -> bool:
        parts = self._parts
        if not await asyncio.to_thread(parts.machine.has_room, parts.log.folder):
            return False
        async with self._exclusive:
            await self._halt("the disk takes writes again, the state is read from it")
            try:
                await asyncio.to_thread(parts.log.reopen)
                restored = await asyncio.to_thread(restore, parts.log)
                await self._go_on(restored)
            except (StoreError, CoreError) as error:
                parts.journal.stop(str(error))
                return False
        self.reloads += 1
        _log.warning("reloaded", seq=restored.head.seq)
        return True

    # -- a rebuild ------------------------------------------------------------------------------------------------

    def start_rebuild(self, *, by: str) -> Rebuild:
        """Begins a rebuild, unless one goes on. `by`: the operator's name, for the audit.

        Returns:
            Where it stands.
        """
        if self.rebuild.status is not RecoveryStatus.IN_PROGRESS:
            self.rebuild = Rebuild(status=RecoveryStatus.IN_PROGRESS, started_at_ms=self._clock_ms())
            self._task = asyncio.create_task(self._rebuild(self.rebuild, by), name="rebuild")
        return self.rebuild

    async def close(self) -> None:
        """Waits for a rebuild that goes on: it would leave half a log behind."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _rebuild(self, rebuild: Rebuild, by: str) -> None:
        try:
            async with self._exclusive:
                await self._rebuild_alone(rebuild)
            await self._note(rebuild, by)
        except (StoreError, ChainError, CoreError, OSError) as error:
            self._failed(rebuild, str(error))
        except Exception as error:
            _log.exception("rebuild_failed")
            self._failed(rebuild, f"a defect: {type(error).__name__}")
        else:
            rebuild.status, rebuild.step = RecoveryStatus.DONE, ""
            _log.warning("rebuilt", source=rebuild.source, agents=rebuild.agents)
        finally:
            rebuild.ended_at_ms = self._clock_ms()

    async def _note(self, rebuild: Rebuild, by: str) -> None:
        parts, losses = self._parts, rebuild.losses
        after = {
            "source": rebuild.source,
            "set_aside": rebuild.set_aside,
            "confirmed_operations": rebuild.confirmed_operations,
            "lost_operations": 0 if losses is None else losses.number_of_operations,
        }
        parts.engine.note("rebuild_state", before={}, after=after, by=by, now_ms=self._clock_ms())
        await parts.journal.commit()

    def _failed(self, rebuild: Rebuild, detail: str) -> None:
        rebuild.status, rebuild.detail = RecoveryStatus.FAILED, detail
        self._parts.journal.stop(f"a rebuild of the state failed: {detail}")

    async def _rebuild_alone(self, rebuild: Rebuild) -> None:
        parts = self._parts
        await self._halt("the state is rebuilt")
        rebuild.step = "reading the log"
        restored = await asyncio.to_thread(self._from_log)
        if restored is not None:
            rebuild.source = RebuildSource.LOG
        else:
            rebuild.source, rebuild.step = RebuildSource.CHAIN, "reading the chain"
            restored = await asyncio.to_thread(self._from_chain, rebuild)
        rebuild.agents, rebuild.confirmed_operations = (
            len(restored.state.agents),
            restored.state.totals.confirmed,
        )
        rebuild.step = "starting"
        await self._go_on(restored)
        await parts.upkeep.snapshot()

    def _from_log(self) -> Restored | None:
        """The state from the whole log, if all of it holds and makes a sound state. Blocks."""
        log = self._parts.log
        if interrupted(log.folder) is not None:
            return None
        log.reopen()
        if log.fault is not None or not log.verify().ok:
            return None
        restored = restore(log, from_snapshot=False)
        sound = restored.corruption is None and all(report.ok for report in check(restored.state))
        return restored if sound else None

    def _from_chain(self, rebuild: Rebuild) -> Restored:
        """A new log from what the chain holds; the old one is set aside. Blocks."""
        parts, now_ms = self._parts, self._clock_ms()
        config = parts.engine.config
        rebuilt = read_chain(
            parts.log,
            parts.chain,
            parts.settling,
            parts.engine.state,
            wait_slots=config.transaction_expiry_slots + parts.confirmation_slots + _SPARE_SLOTS,
            rest=parts.machine.rest,
            now_ms=now_ms,
        )
        label = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
        begin_anew(parts.log, rebuilt, label=label, after_seq=parts.chain.last_settlement())
        rebuild.losses, rebuild.set_aside = rebuilt.losses, f"damaged/{label}"
        restored = restore(parts.log)
        if restored.corruption is not None:
            raise restored.corruption
        return restored

    # -- what both have in common ---------------------------------------------------------------------------------

    async def _halt(self, reason: str) -> None:
        """Nothing is written and no loop runs from here on; what was handed to the log before is durable or refused."""
        parts = self._parts
        parts.journal.stop(reason)
        await parts.stop_loops()
        await parts.journal.settled()

    async def _go_on(self, restored: Restored) -> None:
        """The engine goes on from this state, and everything with it.

        Raises:
            StoreError, CoreError: the disk refuses again, or the log is damaged.
        """
        parts = self._parts
        if restored.corruption is not None:
            parts.log.condemn(restored.corruption)
            raise restored.corruption
        await parts.take_up(restored)
        parts.journal.resume()
        await parts.resume()
        parts.start_loops()


def require_known(action: str, from_slot: object) -> None:
    """Refuse what no recovery does.

    Raises:
        CoreError: `invalid`, with the field.
    """
    if action != "rebuild_state":
        message = f"no action {action!r}: there is rebuild_state"
        raise CoreError(ErrorCode.INVALID, message, field="action")
    if from_slot not in (None, "latest_confirmed"):
        message = "a state is rebuilt as of latest_confirmed: nothing else on chain is final"
        raise CoreError(ErrorCode.INVALID, message, field="from_slot")
