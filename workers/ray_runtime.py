"""The embedded Ray: a local cluster that belongs to this process, keeps to loopback, and leaves nothing.

Traps that shape this file (Ray 2.60, Linux):

- Ray asks the kernel to kill its processes when the *thread* that started them ends (PR_SET_PDEATHSIG). So
  one thread, as old as the runtime, makes every blocking call into Ray. An executor's would not do: it ends
  with its loop, or before `atexit` where a forgotten runtime is still stopped.
- It reads its environment at import: `_ENVIRONMENT` is in place before this module imports it, lazily.
- Unless told that this is "Windows or macOS" it listens on every interface.
- It opens its temporary folder to everybody (chmod 0777): ours lies inside a folder of mode 0700.
- A local cluster turns token authentication on and leaves the token readable in the home folder, unless mode
  and token are given. With authentication off, any user of this machine could run code as this one.
- Unix socket paths have at most 107 bytes, so the folder lies under the system's temporary folder.
- "(raylet) A worker died" goes to stdout whatever `log_to_driver` says; the deduplicator's filter stops it.
- Without its GCS, Ray ends this process after 60 s, uncatchably: `alive` tells in time to restart.
- Never `ray stop`: it ends every Ray on the machine.
"""

import asyncio
import atexit
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

import psutil

from workers.code_version import code_version
from workers.messages import StartError, StartErrorCode
from workers.private_folder import PrivateFolder

T = TypeVar("T")

SLOT_RESOURCE = "proof_worker"
"""The resource that a node offers once for every worker it can hold."""

LOCAL = "local"


_CODE_RESOURCE = "agenc_code_"
_CODE_SHARE = 0.001


def code_resource(version: str) -> str:
    """The resource that a host offers beside its slots, to say whose code it runs (`code_version`)."""
    return f"{_CODE_RESOURCE}{version}"


#: Ray listens on loopback alone where this is "0", and then no other host can join.
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

_ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    LOOPBACK_ONLY: "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_AUTH_MODE": "token",
}
_TOKEN_VARIABLE = "RAY_AUTH_TOKEN"

_RAY_FOLDER = "r"
_SESSION_BYTES = len("/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.sock")
_LONGEST_FOLDER_BYTES = 107 - _SESSION_BYTES
_END_TIMEOUT_S = 5.0
_CORE_PROCESSES = ("gcs_server", "raylet")


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """The shape of the cluster. `slots` is how many workers it can hold.

    `temporary_parent` None: the system's temporary folder. `environment` is what workers see beside this
    process's own variables. An `address` other than `local` joins a running cluster, whose operator sets its
    authentication. A `namespace` makes workers outlive this process: they are named in it, and the next coordinator
    that joins with the same one takes them over. None: they end with this process. `gpus` of this machine are what Ray
    may give to workers; None: those that it finds.
    """

    slots: int
    object_store_bytes: int = 256 << 20
    num_cpus: int = 1  # workers ask for none: this is only how many processes Ray keeps started in reserve
    temporary_parent: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = LOCAL
    namespace: str | None = None
    gpus: int | None = None


@dataclass(frozen=True, kw_only=True)
class RayNode:
    """A living host of the cluster. `slots` workers fit on it; `code` is the version that it says it runs, if any."""

    node_id: str
    address: str
    slots: int
    code: str | None


def usable(nodes: Sequence[RayNode]) -> list[RayNode]:
    """The hosts that may hold our workers. Where any host says whose code it runs, only those with ours."""
    if not any(node.code is not None for node in nodes):
        return list(nodes)
    return [node for node in nodes if node.code == code_version()]


class RayRuntime:
    """Ray for this process, at most one at a time; its coroutines are for one event loop."""

    def __init__(self, settings: RaySettings) -> None:
        assert settings.slots >= 1, "a cluster without slots proves nothing"
        self.settings = settings
        self._thread: _LastingThread | None = None
        self._folder: PrivateFolder | None = None
        self._core: list[psutil.Process] = []
        self._up = False
        self._by_code = False

    @property
    def ray(self) -> ModuleType:
        """The `ray` module; there once the runtime was started."""
        return load_ray(embedded=self.embedded)

    @property
    def up(self) -> bool:
        """Whether calls into Ray can be answered: between a start and the beginning of a stop."""
        return self._up

    @property
    def embedded(self) -> bool:
        """Whether the cluster is ours to start and stop, with all its processes on this machine."""
        return self.settings.address == LOCAL

    async def start(self) -> None:
        """Start the cluster, or join it: seconds.

        Raises:
            StartError: Ray cannot start; the detail says why.
        """
        assert self._thread is None, "a runtime starts once"
        self._thread = _LastingThread("ray-runtime")
        atexit.register(self._stop)
        try:
            await self.run(self._start)
        except BaseException:
            await self.stop()
            raise
        self._up = True

    async def stop(self) -> None:
        """Stop the cluster and wait until none of its processes is left. Idempotent."""
        self._up = False
        if self._thread is None:
            return
        try:
            await self.run(self._stop)
        finally:
            atexit.unregister(self._stop)
            thread, self._thread = self._thread, None
            thread.end()

    async def restart(self) -> None:
        """Stop what is left and start anew. Everything that ran on the cluster is lost."""
        await self.stop()
        await self.start()

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking call into Ray on the runtime's thread."""
        assert self._thread is not None, "the runtime is not started"
        return await asyncio.wrap_future(self._thread.submit(call))

    @property
    def lasting(self) -> bool:
        """Whether workers outlive this process, for the next one to take over."""
        return self.settings.namespace is not None

    async def slots(self) -> int:
        """How many workers the cluster can hold now, on hosts that run this process's code."""
        if self.embedded:
            return self.settings.slots
        return sum(node.slots for node in usable(await self.nodes()))

    async def nodes(self) -> list[RayNode]:
        """The living hosts of a cluster that offer slots."""
        nodes = await self.run(
            lambda: [node for each in self.ray.nodes() if (node := _node(each)) is not None]
        )
        self._by_code = any(node.code is not None for node in nodes)
        return nodes

    async def gpus(self) -> int:
        """How many GPUs the cluster has for workers."""
        return await self.run(lambda: int(self.ray.cluster_resources().get("GPU", 0)))

    def slot(self) -> dict[str, float]:
        """What a worker takes of a host's resources: it goes only where there is a slot, and our code."""
        return {SLOT_RESOURCE: 1} | ({code_resource(code_version()): _CODE_SHARE} if self._by_code else {})

    def alive(self) -> bool:
        """Whether Ray's own processes still run. False only for an embedded cluster that was started."""
        return all(_runs(process) for process in self._core)

    def processes(self) -> list[psutil.Process]:
        """Every process of the embedded cluster, workers included."""
        return [] if self._folder is None else _processes_of(self._folder.path / _RAY_FOLDER)

    def _start(self) -> None:
        if self.embedded:
            self._folder = PrivateFolder(self.settings.temporary_parent, longest_bytes=_LONGEST_FOLDER_BYTES)
            # Ray's processes inherit these; `runtime_env` would cost every worker a fresh process.
            with _environment(self.settings.environment):
                self._start_local(self._folder.path / _RAY_FOLDER)
        else:
            self._init(address=self.settings.address, namespace=self.settings.namespace)

    def _start_local(self, folder: Path) -> None:
        address = self._init(
            address=LOCAL,
            num_cpus=self.settings.num_cpus,
            num_gpus=self.settings.gpus,
            resources={SLOT_RESOURCE: self.settings.slots},
            object_store_memory=self.settings.object_store_bytes,
            include_dashboard=False,
            _temp_dir=str(folder),
        )
        self._core = [process for process in _processes_of(folder) if _name(process) in _CORE_PROCESSES]
        if address != "127.0.0.1":
            raise StartError(StartErrorCode.RAY_FAILED, f"Ray listens on {address}, not on loopback")

    def _init(self, **options: object) -> str:
        """`ray.init`; returns this node's address."""
        ray = self.ray
        try:
            context = ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            raise StartError(StartErrorCode.RAY_FAILED, f"Ray did not start: {error}") from error
        return str(context.address_info["node_ip_address"])

    def _stop(self) -> None:
        # Workers are the raylet's children: once it is gone they are nobody's, and a stopped one would stay.
        left = self.processes()
        if not self.alive():
            _end(left, grace_s=0.0)  # without its GCS, Ray's processes take long to give up
        self._core = []
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        _end(left, grace_s=_END_TIMEOUT_S)
        if self._folder is not None:
            self._folder.remove()
            self._folder = None


class _LastingThread:
    """A daemon thread that makes the calls given to it, one after the other."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Make the call when those before it are done."""
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)

        self._calls.put(run)
        return future

    def end(self) -> None:
        """End when the calls before it are done."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_settled = False


def load_ray(*, embedded: bool = True) -> ModuleType:
    """The `ray` module, imported with the environment it needs.

    Raises:
        StartError: something else imported it already, with another environment.
    """
    global _settled
    if embedded and not _settled:
        wrong = [name for name, value in _ENVIRONMENT.items() if os.environ.get(name) != value]
        if "ray" in sys.modules and wrong:
            raise StartError(
                StartErrorCode.RAY_IMPORTED_EARLIER,
                f"ray was imported before this runtime could set {', '.join(wrong)}: import it later, or set "
                f"{' '.join(f'{name}={_ENVIRONMENT[name]}' for name in wrong)} in the environment",
            )
        os.environ.update(_ENVIRONMENT)
        # Ray reads the token once a process: made once, it serves every later cluster of this process too.
        os.environ.setdefault(_TOKEN_VARIABLE, secrets.token_hex(32))
        _settled = True
    import ray

    return ray


def _node(described: Mapping[str, Any]) -> RayNode | None:
    """One entry of `ray.nodes()`, if it is alive and offers slots."""
    resources = described["Resources"]
    if not described["Alive"] or SLOT_RESOURCE not in resources:
        return None
    codes = [name.removeprefix(_CODE_RESOURCE) for name in resources if name.startswith(_CODE_RESOURCE)]
    return RayNode(
        node_id=described["NodeID"],
        address=described["NodeManagerAddress"],
        slots=int(resources[SLOT_RESOURCE]),
        code=codes[0] if codes else None,
    )


def _processes_of(folder: Path) -> list[psutil.Process]:
    """This process's children that were started for that session folder, with all their descendants."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        try:
            if any(str(folder) in argument for argument in child.cmdline()):
                found += [child, *child.children(recursive=True)]
        except psutil.Error:
            continue
    return found


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end(processes: list[psutil.Process], *, grace_s: float) -> None:
    """Wait for the processes to end, and kill those that do not within the grace."""
    _, left = psutil.wait_procs(processes, timeout=grace_s)
    for process in left:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue
    psutil.wait_procs(left, timeout=_END_TIMEOUT_S)
