"""Assembly: every part of a coordinator, opened in order and closed in the opposite one."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from coordinator.chain.faults import FaultPlan
from coordinator.chain.local import LocalChain
from coordinator.chain.verification import MOCK, verify_batch
from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.logs import get_logger
from coordinator.settings import Settings
from coordinator.shell.housekeeping import Housekeeping, clean_after_restart
from coordinator.shell.journal import Journal
from coordinator.shell.machine import FIXED, Machine
from coordinator.shell.memory import Memory
from coordinator.shell.narration import Narration
from coordinator.shell.posting import Posting
from coordinator.shell.proving import Proving
from coordinator.shell.rebuilding import interrupted
from coordinator.shell.recovery import Recovery, RecoveryStatus
from coordinator.shell.scaling import Scaling, scaling_settings
from coordinator.shell.settling import Settling
from coordinator.shell.upkeep import Upkeep, UpkeepSettings
from coordinator.store.errors import LogCorrupted
from coordinator.store.log import EventLog
from coordinator.store.restart import Restored, restore
from workers.node import NodeServer
from workers.pool import ProofPool
from workers.stark.parameters import PRODUCTION_NAMES, by_name

_RESTART_S = 1.0

_log = get_logger("assembly")


class LogState(StrEnum):
    """Whether the log takes events, and what it waits for: room on the disk, an operator, or the end of a rebuild."""

    WRITABLE = "writable"
    READ_ONLY = "read_only"
    DAMAGED = "damaged"
    REBUILDING = "rebuilding"


@dataclass
class Parts:
    """The parts of one coordinator. `start` sets the loops going, `close` ends everything."""

    machine: Machine
    engine: Engine
    log: EventLog
    journal: Journal
    chain: LocalChain
    pool: ProofPool
    node: NodeServer
    settling: Settling
    posting: Posting
    proving: Proving
    housekeeping: Housekeeping
    upkeep: Upkeep
    memory: Memory
    scaling: Scaling
    settings: Settings
    clock_ms: Callable[[], int]
    loop_failures: dict[str, int] = field(default_factory=dict)
    """How often a loop ended by a defect and was started again."""

    recovery: Recovery = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _watch: asyncio.Task[None] | None = None
    _taken_up: list[Callable[[], None]] = field(default_factory=list)
    _closed: bool = False

    def __post_init__(self) -> None:
        self.recovery = Recovery(self, clock_ms=self.clock_ms)

    @property
    def domain(self) -> bytes:
        """The chain's name and genesis, which every statement is bound to."""
        return self.chain.domain

    @property
    def confirmation_slots(self) -> int:
        """How deep on chain a result is final."""
        return self.settings.integer("chain.confirmation_slots")

    @property
    def log_state(self) -> LogState:
        """Whether the log takes events, in a word."""
        if self.journal.read_only is None:
            return LogState.WRITABLE
        if self.recovery.rebuild.status is RecoveryStatus.IN_PROGRESS:
            return LogState.REBUILDING
        return LogState.DAMAGED if isinstance(self.log.fault, LogCorrupted) else LogState.READ_ONLY

    def on_taken_up(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever the engine goes on from another state."""
        self._taken_up.append(listener)

    def start(self) -> None:
        """Listens to the journal and starts the loops; on a read-only journal only recovery has something to do."""
        self.journal.listen(self.settling.hear)
        self.journal.listen(self.housekeeping.hear)
        self.journal.listen(Narration(self.engine, self.journal.operations_of).hear)
        self.journal.listen(lambda _seq, _events: self._wake())
        if self.journal.read_only is None:
            self.start_loops()
        self._watch = asyncio.create_task(self.recovery.watch(), name="recovery")

    def start_loops(self) -> None:
        """Sets the loops going, each of which ends when the journal is read-only."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "proving": self.proving.run,
            "posting": self.posting.run,
            "settling": self.settling.run,
            "housekeeping": self.housekeeping.run,
            "upkeep": self.upkeep.run,
            "memory": self.memory.run,
            "scaling": self.scaling.run,
        }
        for name, run in loops.items():
            self._tasks.append(asyncio.create_task(self._supervise(name, run), name=name))

    async def stop_loops(self) -> None:
        """Ends the loops, wherever they are."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take_up(self, restored: Restored) -> None:
        """The engine goes on from a state that was read from the log.

        Raises:
            StoreError: the log cannot be read.
        """
        self.settings.set_overrides(restored.state.overrides)
        self.engine.replace_state(restored.state)
        self.engine.config = core_config(self.settings)
        await asyncio.to_thread(self.settling.restart, self.log, up_to=restored.head.seq)
        self.upkeep.started(restored)
        for listener in self._taken_up:
            listener()

    async def resume(self) -> None:
        """Takes up what was under way: unfinished batches, secrets that should be gone.

        Raises:
            StoreError, CoreError: the disk refuses.
        """
        await asyncio.to_thread(clean_after_restart, self.log, self.engine.state)
        self.engine.resume(now_ms=self.clock_ms())
        await self.journal.commit()

    def _wake(self) -> None:
        self.proving.wake()
        if self.engine.state.due:  # a round asks the chain: not for every event
            self.posting.wake()
        self.pool.set_queue_size(self.engine.state.queued)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """A loop that ends by a defect is started again, at most once a second, and the defect is logged and counted:
        a stopped loop would strand everybody's operations.
        """
        while self.journal.read_only is None:
            try:
                await run()
            except Exception as error:
                if isinstance(error, CoreError) and error.code is ErrorCode.READ_ONLY:
                    return  # no defect: the disk refuses, and recovery starts the loops again
                self.loop_failures[name] = self.loop_failures.get(name, 0) + 1
                _log.exception("loop_failed", loop=name)
                await asyncio.sleep(_RESTART_S)

    async def close(self) -> None:
        """Ends loops, workers and Ray, then the files. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.recovery.close()
        await self.stop_loops()
        await self.node.stop()
        await self.scaling.close()
        await self.pool.stop()
        await asyncio.to_thread(self.log.close)
        await asyncio.to_thread(self.chain.close)


async def assemble(
    settings: Settings,
    *,
    faults: FaultPlan,
    chain_tasks: Mapping[str, bytes],
    clock_ms: Callable[[], int],
    machine: Machine,
) -> Parts:
    """Opens log and chain, reads the state, starts the workers and their endpoint; nothing is left open on a failure.

    Raises:
        StoreError, ChainError: the data folder cannot be used.
        StartError: Ray or the workers' endpoint cannot start.
    """
    folder = Path(settings.text("data_dir"))
    log = await asyncio.to_thread(machine.open_log, folder)
    try:
        chain = await asyncio.to_thread(_open_chain, machine, settings, folder, faults, chain_tasks, clock_ms)
    except BaseException:
        await asyncio.to_thread(log.close)
        raise
    settling = Settling(chain=chain)
    restored = await asyncio.to_thread(_restore, log, settling)
    corruption = restored.corruption
    machine.keep_loaded()
    settings.set_overrides(restored.state.overrides)
    engine = Engine(restored.state, core_config(settings))
    journal = Journal(engine, log, read_only=None if corruption is None else str(corruption))
    proving: Proving | None = None

    def pool_changed() -> None:
        if proving is not None:
            proving.wake()

    pool = machine.new_pool(settings, pool_changed)
    try:
        machines = machine.new_scale_requests(settings, pool)
    except BaseException:
        await asyncio.to_thread(log.close)
        await asyncio.to_thread(chain.close)
        raise
    node = machine.new_node(settings, pool)
    parameters = _parameters(settings)
    proving = Proving(
        engine=engine,
        journal=journal,
        pool=pool,
        witnesses=log.witnesses,
        domain=chain.domain,
        verify=verify_batch,
        parameters=parameters,
        clock_ms=clock_ms,
        killed_batches=faults.kill_worker_batches,
    )
    posting = Posting(
        engine=engine,
        journal=journal,
        chain=chain,
        proofs=log.proofs,
        clock_ms=clock_ms,
        interval_s=settings.integer("chain.slot_ms") / 2000,
    )
    housekeeping = Housekeeping(
        engine=engine, journal=journal, log=log, clock_ms=clock_ms, memory_bytes=machine.memory_bytes
    )
    upkeep = Upkeep(
        engine=engine,
        journal=journal,
        log=log,
        machine=machine,
        settings=lambda: _upkeep_settings(settings),
        clock_ms=clock_ms,
    )
    upkeep.started(restored)
    parts = Parts(
        machine=machine,
        engine=engine,
        log=log,
        journal=journal,
        chain=chain,
        pool=pool,
        node=node,
        settling=settling,
        posting=posting,
        proving=proving,
        housekeeping=housekeeping,
        upkeep=upkeep,
        memory=Memory(
            engine=engine,
            log=log,
            machine=machine,
            interval_ms=lambda: settings.integer("speculation.limits.gc_interval_ms"),
            clock_ms=clock_ms,
        ),
        scaling=Scaling(
            engine=engine,
            journal=journal,
            pool=pool,
            machines=machines,
            elastic=settings.text("scaling.machines") != FIXED,
            settings=lambda: scaling_settings(settings),
            clock_ms=clock_ms,
        ),
        settings=settings,
        clock_ms=clock_ms,
    )
    try:
        if corruption is None:
            await parts.resume()
        await pool.start()
        await node.start()
    except BaseException:
        await parts.close()
        raise
    return parts


def core_config(settings: Settings) -> CoreConfig:
    """The core's configuration; traces are no taller than the parameter set admits."""
    config = settings.core_config()
    if settings.text("speculation.proof.generator") == MOCK:
        return config
    tallest = by_name(settings.text("proof.parameters")).max_log_rows
    return dataclasses.replace(config, max_log_rows=min(config.max_log_rows, tallest))


def _restore(log: EventLog, settling: Settling) -> Restored:
    """The state up to the end of the log, or up to where it is corrupted; `settling` gets what is not posted yet.

    Nothing is posted from a log that cannot be trusted.
    """
    if interrupted(log.folder) is not None:
        log.condemn(LogCorrupted(0, "a rebuild from the chain was interrupted: begin it again"))
    restored = restore(log)
    if restored.corruption is None and isinstance(log.fault, LogCorrupted):
        restored = restored._replace(corruption=log.fault)
    if restored.corruption is not None:
        log.condemn(restored.corruption)
        return restored
    try:
        settling.restart(log, up_to=restored.head.seq)
    except LogCorrupted as error:
        return restored._replace(corruption=error)
    for reason in restored.skipped:
        _log.warning("snapshot_skipped", detail=reason)
    _log.info("restored", seq=restored.head.seq, snapshot_seq=restored.snapshot_seq)
    return restored


def _upkeep_settings(settings: Settings) -> UpkeepSettings:
    return UpkeepSettings(
        snapshot_after=settings.integer("store.snapshot_after"),
        snapshot_interval_s=settings.integer("store.snapshot_interval_s"),
        compact_after=settings.integer("store.compact_after"),
    )


def _open_chain(
    machine: Machine,
    settings: Settings,
    folder: Path,
    faults: FaultPlan,
    tasks: Mapping[str, bytes],
    clock_ms: Callable[[], int],
) -> LocalChain:
    chain = machine.open_chain(
        folder / "chain",
        clock_ms=clock_ms,
        faults=faults,
        accepted=PRODUCTION_NAMES | {_parameters(settings)},
        slot_ms=settings.integer("chain.slot_ms"),
        confirmation_slots=settings.integer("chain.confirmation_slots"),
    )
    for task_id, constraint_hash in tasks.items():
        chain.preregister_task(task_id, constraint_hash)
    return chain


def _parameters(settings: Settings) -> str:
    """The name that a proof's parameters go by: a set's, or `mock`."""
    if settings.text("speculation.proof.generator") == MOCK:
        return MOCK
    return settings.text("proof.parameters")
