"""The simulated coordinator process: the real service and shell on a virtual machine, to be killed at any instant."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

from coordinator.chain.faults import FaultPlan
from coordinator.chain.local import LocalChain
from coordinator.core.events import Event
from coordinator.service import Service
from coordinator.settings import Settings
from coordinator.shell.machine import Machine, SnapshotFailed
from coordinator.sim.chain import ChainFaults, SimulatedChain
from coordinator.sim.cluster import Hand, SimulatedRuntime
from coordinator.sim.disk import SimulatedLog
from coordinator.sim.loop import OWNER, VirtualLoop
from coordinator.store import snapshotter
from coordinator.store.errors import LogCorrupted
from coordinator.store.log import EventLog
from coordinator.store.snapshot import SnapshotHeader
from workers.node import NodeServer
from workers.pool import PoolConfig, ProofPool

T = TypeVar("T")

#: Simulated memory, and what it is under pressure: far above any limit.
_MEMORY_BYTES, _PRESSED_BYTES = 256 << 20, 1 << 50
_WORKER_MEMORY_BYTES = 1 << 30
_REST_S = 0.02
_LOG_ID = b"simulated log id"
#: What every simulated chain begins with.
GENESIS = b"simulate"
#: A killed task may clean up behind itself this many times before it is left alone.
_UNWINDINGS = 20


class Unreachable(Exception):
    """The coordinator does not answer: it is down, or it died under the call."""


class Watcher(Hand, Protocol):
    """Who is told of the log's events, whose faults the workers have, and what time it is."""

    workers: int
    chain_faults: ChainFaults
    disk_is_full: bool

    def now_ms(self) -> int:
        """The clock."""

    def heard(self, events: Sequence[Event]) -> None:
        """A write begins."""

    def durable(self, events: Sequence[Event]) -> None:
        """A write has ended."""


class SimulatedNode(NodeServer):
    """The workers' endpoint, which nobody asks."""

    def __init__(self) -> None:
        """Nothing to serve, nothing to listen on."""
        self.host, self.port = "simulated", 0

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


class SimulatedMachine(Machine):
    """Disk, workers, memory and chance as a run has them."""

    def __init__(self, loop: VirtualLoop, chance: Random, watcher: Watcher) -> None:
        super().__init__()
        self._loop = loop
        self._chance = chance
        self._watcher = watcher
        self.log: SimulatedLog | None = None
        self.chain: SimulatedChain | None = None
        self.pressed = False

    def open_log(self, folder: Path) -> EventLog:
        """The real log, on the loop's disk."""
        self.log = SimulatedLog.begin(
            folder,
            log_id=_LOG_ID,
            loop=self._loop,
            heard=self._watcher.heard,
            durable=self._watcher.durable,
        )
        return self.log

    def open_chain(
        self,
        folder: Path,
        *,
        clock_ms: Callable[[], int],
        faults: FaultPlan,
        accepted: frozenset[str],
        slot_ms: int,
        confirmation_slots: int,
    ) -> LocalChain:
        """The real chain, of a known name, with the run's faults."""
        self.chain = SimulatedChain(
            folder,
            clock_ms=clock_ms,
            accepted=accepted,
            slot_ms=slot_ms,
            confirmation_slots=confirmation_slots,
            genesis=GENESIS,
            wrong=self._watcher.chain_faults,
        )
        return self.chain

    def new_pool(self, settings: Settings, on_change: Callable[[], None]) -> ProofPool:
        """The real pool of simulated workers."""
        slots = self._watcher.workers
        config = PoolConfig(
            desired=settings.integer("speculation.proof.worker_threads"),
            generator="mock",
            kernel_threads=1,
            memory_limit_bytes=slots * _WORKER_MEMORY_BYTES,
            worker_memory_bytes=_WORKER_MEMORY_BYTES,
            start_timeout_s=5.0,
            heartbeat_s=2.0,
            unresponsive_s=4.0,
            longest_backoff_s=4.0,
            stable_s=5.0,
        )
        runtime = SimulatedRuntime(self._loop, self._chance, self._watcher, slots=slots)
        return ProofPool(config, runtime=runtime, on_change=on_change, clock=self._loop.time)

    def new_node(self, settings: Settings, pool: ProofPool) -> NodeServer:
        """An endpoint without a port."""
        return SimulatedNode()

    async def make_snapshot(self, log: EventLog) -> SnapshotHeader:
        """The same snapshot, made in this process."""
        try:
            return await asyncio.to_thread(snapshotter.make_snapshot, log.folder)
        except (OSError, sqlite3.Error, LogCorrupted) as error:
            raise SnapshotFailed(str(error)) from error

    def has_room(self, folder: Path) -> bool:
        """As the run has it."""
        return not self._watcher.disk_is_full

    def collect_garbage(self, *, thorough: bool) -> int:
        """Nothing: it would only take time."""
        return 0

    def rest(self) -> None:
        """A moment passes."""
        self._loop.pass_time(_REST_S)

    def memory_bytes(self) -> int:
        """Little, or too much."""
        return _PRESSED_BYTES if self.pressed else _MEMORY_BYTES

    def new_token(self) -> str:
        """A token of the run's chance."""
        return self._chance.randbytes(16).hex()

    def keep_loaded(self) -> None:
        """Nothing lasts: the process dies soon."""


class SimulatedProcess:
    """One life of the coordinator in a data folder, from `start` until it dies."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        loop: VirtualLoop,
        chance: Random,
        watcher: Watcher,
    ) -> None:
        self.folder = folder
        self.dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.machine = SimulatedMachine(loop, chance, watcher)
        self.service: Service | None = None
        self._settings = settings
        self._watcher = watcher
        self._chance = chance
        self._context = copy_context()
        self._context.run(OWNER.set, self)

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self.service is not None and not self.dead

    async def start(self) -> None:
        """Opens everything. What goes wrong while it opens is raised; Unreachable if it is killed meanwhile."""
        opening = Service.open(self._settings, clock_ms=self._watcher.now_ms, machine=self.machine)
        self.service = await self._await(opening)

    async def call(self, work: Callable[[Service], Coroutine[Any, Any, T]]) -> T:
        """Has the process do something, as a client's request does.

        Raises:
            Unreachable: it is down, or died meanwhile; whether it did it is not known.
        """
        service = self.service
        if service is None or self.dead:
            raise Unreachable
        return await self._await(work(service))

    async def _await(self, work: Coroutine[Any, Any, T]) -> T:
        if self.dead:
            work.close()
            raise Unreachable
        loop = asyncio.get_running_loop()
        task: asyncio.Task[T] = self._context.run(loop.create_task, work)
        await asyncio.wait({task})
        if task.cancelled() or self.dead:
            if not task.cancelled():
                task.exception()  # marked as seen: nobody is there to hear it
            raise Unreachable
        return task.result()

    async def kill(self, target: Path, *, torn: bool) -> bool:
        """kill -9. Afterwards `target` holds the files as they were at that instant, and nothing of it is left.

        Returns:
            Whether the last write was torn.
        """
        assert not self.dead, "a process dies once"
        self.dead = True
        is_torn = False
        log, chain = self.machine.log, self.machine.chain
        if log is not None:
            is_torn = log.die(target, self._chance, torn=torn)
        else:
            shutil.copytree(self.folder, target, dirs_exist_ok=True)
        if chain is not None:
            chain.close()
        for _ in range(_UNWINDINGS):
            if not self.tasks:
                break
            for task in list(self.tasks):
                task.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
        return is_torn
