"""The machine around a coordinator: all that it takes from outside and that no decision may depend on.

The simulator hands in a machine of its own: simulated disk, workers, memory and chance.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from coordinator.chain.faults import FaultPlan
from coordinator.chain.local import LocalChain
from coordinator.settings import Settings
from coordinator.store import snapshotter
from coordinator.store.log import EventLog
from coordinator.store.snapshot import SnapshotHeader
from coordinator.tls import tls_of
from workers.messages import StartError, StartErrorCode
from workers.node import NodeServer
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import LOCAL, RayRuntime, RaySettings
from workers.scale_requests import (
    KubernetesScale,
    NobodyElse,
    RayAutoscaler,
    ScaleRequestError,
    ScaleRequests,
)

#: Proof workers that one machine may be asked for (`proof.worker_threads`).
_MAX_SLOTS = 32
_TOKEN_BYTES = 32
#: `scaling.machines`: there are no more than there are.
FIXED = "fixed"


#: A snapshot that takes longer than this is given up.
_SNAPSHOT_TIMEOUT_S = 600
#: Objects made before the young are looked at, then how many such looks before the middle and the old (700, 10, 10).
_COLLECT_AFTER = (100_000, 20, 100)
#: What must be free, and can be written, before a full disk counts as usable again.
_ROOM_BYTES = 8 * 2**20
_PROBE_BYTES = 2**20
_REST_S = 0.002


#: glibc's way to give memory back; other C libraries have none.
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)


class SnapshotFailed(Exception):
    """There is no snapshot, and why."""


class Machine:
    """The real one: this process's disk, Ray and memory."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def open_log(self, folder: Path) -> EventLog:
        """The log of a data folder. Blocks.

        Raises:
            StoreError: the folder cannot be used.
        """
        return EventLog.open(folder)

    async def make_snapshot(self, log: EventLog) -> SnapshotHeader:
        """A snapshot of the log's state as of now, made by a process beside this one.

        Raises:
            SnapshotFailed: there is none.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", snapshotter.__name__, str(log.folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_SNAPSHOT_TIMEOUT_S):
                _, said = await process.communicate()
        except TimeoutError:
            raise SnapshotFailed(f"it took more than {_SNAPSHOT_TIMEOUT_S} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise SnapshotFailed(said.decode(errors="replace").strip()[-500:])
        found = await asyncio.to_thread(log.snapshots.headers)
        if not found:
            raise SnapshotFailed("it cannot be read again")
        return found[0]

    def has_room(self, folder: Path) -> bool:
        """Whether a disk that was full takes writes again. Blocks."""
        probe = folder / "probe.part"
        try:
            free = os.statvfs(folder)
            if free.f_bavail * free.f_frsize < _ROOM_BYTES:
                return False
            with probe.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        return True

    def rest(self) -> None:
        """Lets others run, between two pieces of a long work in a thread."""
        time.sleep(_REST_S)

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
        """The local chain of a folder. Blocks.

        Raises:
            ChainError: it cannot be used, or is another chain than this.
        """
        return LocalChain(
            folder,
            clock_ms=clock_ms,
            faults=faults,
            accepted=accepted,
            slot_ms=slot_ms,
            confirmation_slots=confirmation_slots,
        )

    def new_pool(self, settings: Settings, on_change: Callable[[], None]) -> ProofPool:
        """The proof workers, not started."""
        config = PoolConfig(
            desired=settings.integer("speculation.proof.worker_threads"),
            generator=settings.text("speculation.proof.generator"),
            kernel_threads=settings.integer_or_auto("proof.worker_kernel_threads"),
        )
        address = settings.text("ray.address")
        ray = RaySettings(
            slots=min(max(os.cpu_count() or 1, 1), _MAX_SLOTS),
            address=address,
            namespace=None if address == LOCAL else settings.text("ray.namespace"),
        )
        return ProofPool(config, runtime=RayRuntime(ray), on_change=on_change)

    def new_scale_requests(self, settings: Settings, pool: ProofPool) -> ScaleRequests:
        """Whom the autoscaler asks for machines.

        Raises:
            StartError: Kubernetes is to be asked, and this is no pod that may.
        """
        match settings.text("scaling.machines"):
            case "ray":
                return RayAutoscaler(pool.runtime)
            case "kubernetes":
                try:
                    return KubernetesScale(settings.text("scaling.deployment"))
                except ScaleRequestError as error:
                    raise StartError(StartErrorCode.SCALING_UNAVAILABLE, str(error)) from None
            case _:
                return NobodyElse()

    def new_node(self, settings: Settings, pool: ProofPool) -> NodeServer:
        """The workers' own endpoint, not started."""
        return NodeServer(
            pool.report,
            host=settings.text("admin.host"),
            port=settings.integer("admin.workers_port"),
            allowed_hosts=settings.texts("admin.allowed_hosts"),
            tls=tls_of(settings),
        )

    def memory_bytes(self) -> int:
        """Resident memory of this process."""
        return int(self._process.memory_info().rss)

    def collect_garbage(self, *, thorough: bool) -> int:
        """Frees what only refers to itself, and gives the operating system what nothing uses; how many objects.

        What survives is not looked at again until a `thorough` one: most of it lives as long as the operations do.
        """
        if thorough:
            gc.unfreeze()
        collected = gc.collect()
        gc.freeze()
        if _TRIM is not None:
            _TRIM(0)
        return collected

    def new_token(self) -> str:
        """A bearer token that nobody can guess."""
        return secrets.token_urlsafe(_TOKEN_BYTES)

    def keep_loaded(self) -> None:
        """What was loaded lives long: a full collection over it would stop the loop for nothing.

        10,000 submissions make half a million objects, nearly all of which live: at Python's own thresholds the
        collector took a quarter of their admission's time. Cycles are rare, and `collect_garbage` comes anyway.
        """
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
