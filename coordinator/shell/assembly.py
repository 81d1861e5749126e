"""Assembly: every part of a coordinator, opened in order and closed in the opposite one."""

import asyncio
import dataclasses
import gc
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.chain.faults import FaultPlan
from coordinator.chain.local import LocalChain
from coordinator.chain.verification import MOCK, verify_batch
from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
from coordinator.core.state import CoreState
from coordinator.logs import get_logger
from coordinator.settings import Settings
from coordinator.shell.housekeeping import Housekeeping, clean_after_restart
from coordinator.shell.journal import Journal
from coordinator.shell.narration import Narration
from coordinator.shell.posting import Posting
from coordinator.shell.proving import Proving
from coordinator.shell.settling import Settling
from coordinator.store.errors import LogCorrupted
from coordinator.store.log import EventLog
from workers.node import NodeServer
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings
from workers.stark.parameters import PRODUCTION_NAMES, by_name

_RESTART_S = 1.0
#: Proof workers that one machine may be asked for (`proof.worker_threads`).
_MAX_SLOTS = 32

_log = get_logger("assembly")


@dataclass
class Parts:
    """The parts of one coordinator. `start` sets the loops going, `close` ends everything."""

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
    loop_failures: dict[str, int] = field(default_factory=dict)
    """How often a loop ended by a defect and was started again."""

    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _closed: bool = False

    @property
    def domain(self) -> bytes:
        """The chain's name and genesis, which every statement is bound to."""
        return self.chain.domain

    def start(self) -> None:
        """Listens to the journal and starts the loops; on a read-only journal they have nothing to do."""
        if self.journal.read_only is not None:
            return
        self.journal.listen(self.settling.hear)
        self.journal.listen(self.housekeeping.hear)
        self.journal.listen(Narration(self.engine, self.journal.operations_of).hear)
        self.journal.listen(lambda _seq, _events: self._wake())
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "proving": self.proving.run,
            "posting": self.posting.run,
            "settling": self.settling.run,
            "housekeeping": self.housekeeping.run,
        }
        for name, run in loops.items():
            self._tasks.append(asyncio.create_task(self._supervise(name, run), name=name))

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
            except Exception:
                self.loop_failures[name] = self.loop_failures.get(name, 0) + 1
                _log.exception("loop_failed", loop=name)
                await asyncio.sleep(_RESTART_S)

    async def close(self) -> None:
        """Ends loops, workers and Ray, then the files. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.node.stop()
        await self.pool.stop()
        await asyncio.to_thread(self.log.close)
        await asyncio.to_thread(self.chain.close)


async def assemble(
    settings: Settings,
    *,
    faults: FaultPlan,
    chain_tasks: Mapping[str, bytes],
    clock_ms: Callable[[], int],
) -> Parts:
    """Opens log and chain, folds the log, starts the workers and their endpoint; nothing is left open on a failure.

    Raises:
        StoreError, ChainError: the data folder cannot be used.
        StartError: Ray or the workers' endpoint cannot start.
    """
    folder = Path(settings.text("data_dir"))
    log = await asyncio.to_thread(EventLog.open, folder)
    try:
        chain = await asyncio.to_thread(_open_chain, settings, folder, faults, chain_tasks, clock_ms)
    except BaseException:
        await asyncio.to_thread(log.close)
        raise
    settling = Settling(chain=chain)
    state, corruption = await asyncio.to_thread(_fold, log, settling)
    if corruption is not None:
        settling = Settling(chain=chain)  # nothing is posted from a log that cannot be trusted
    gc.freeze()  # what was folded lives long: a full collection over it would stop the loop for nothing
    settings.set_overrides(state.overrides)
    engine = Engine(state, core_config(settings))
    journal = Journal(engine, log, read_only=None if corruption is None else str(corruption))
    proving: Proving | None = None

    def pool_changed() -> None:
        if proving is not None:
            proving.wake()

    pool = ProofPool(_pool_config(settings), runtime=_ray(settings), on_change=pool_changed)
    node = NodeServer(
        pool.report, host=settings.text("admin.host"), port=settings.integer("admin.workers_port")
    )
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
    housekeeping = Housekeeping(engine=engine, journal=journal, log=log, clock_ms=clock_ms)
    parts = Parts(engine, log, journal, chain, pool, node, settling, posting, proving, housekeeping)
    try:
        if corruption is None:
            await _resume(parts, clock_ms)
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


async def _resume(parts: Parts, clock_ms: Callable[[], int]) -> None:
    """Takes up what was under way: unfinished batches, secrets that should be gone."""
    await asyncio.to_thread(clean_after_restart, parts.log, parts.engine.state)
    parts.engine.resume(now_ms=clock_ms())
    await parts.journal.commit()


def _fold(log: EventLog, settling: Settling) -> tuple[CoreState, LogCorrupted | None]:
    """The state up to the end of the log, or up to where it is corrupted; `settling` hears what is not posted yet."""
    state = CoreState()
    posted = settling.resume_after()
    seq = 0
    try:
        for stored in log.replay():
            seq = stored.seq
            state.apply(stored.event)
            if seq > posted:
                settling.add(seq, stored.event)
    except LogCorrupted as error:
        return state, error
    except AssertionError as error:
        return state, LogCorrupted(seq, f"the event does not follow from those before it: {error}")
    return state, None


def _open_chain(
    settings: Settings,
    folder: Path,
    faults: FaultPlan,
    tasks: Mapping[str, bytes],
    clock_ms: Callable[[], int],
) -> LocalChain:
    chain = LocalChain(
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


def _pool_config(settings: Settings) -> PoolConfig:
    return PoolConfig(
        desired=settings.integer("speculation.proof.worker_threads"),
        generator=settings.text("speculation.proof.generator"),
        kernel_threads=settings.integer_or_auto("proof.worker_kernel_threads"),
    )


def _ray(settings: Settings) -> RayRuntime:
    cores = os.cpu_count() or 1
    return RayRuntime(RaySettings(slots=min(max(cores, 1), _MAX_SLOTS)))
