"""The proof workers of a coordinator: placed, watched, replaced, resized.

One worker is one Ray actor in one slot. Its life is one task (`_live`): start a process, prepare it, watch it
until it dies or is let go, start the next one after a back-off. Everything happens on one event loop; every
blocking call into Ray runs on the runtime's thread.

Ray never restarts an actor here (`max_restarts=0`): with restarts a caller learns of a death only after
seconds, and with task retries a batch silently runs twice. So the pool replaces the dead, and whoever asked
for a proof gets `WorkerLost` within milliseconds and asks again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from workers import scaling
from workers.lasting import end_strangers, mismatch, name_of
from workers.machine import may_use_gpus, memory_bytes, usable_cpus
from workers.member import Member
from workers.messages import (
    BatchRequest,
    BatchResult,
    PoolReport,
    PoolScale,
    ProofTimeout,
    ProverError,
    ScaleLimit,
    StartError,
    WorkerError,
    WorkerInfo,
    WorkerLost,
    WorkerState,
)
from workers.process import Call, ProcessDied, WorkerProcess, WorkerSpec
from workers.ray_runtime import RayRuntime, usable
from workers.sampling import Stack
from workers.tally import Tally

_log = structlog.get_logger(__name__)

_UP = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING)


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How workers are made and watched.

    `kernel_threads` None: the CPUs shared out among the workers. `memory_limit_bytes` None: the machine's.
    `worker_memory_bytes` is what a worker may need for a batch of 2^17 rows. `unresponsive_s`: a worker that
    answers no heartbeat for so long is replaced. `cancel_grace_s`: within it a cancelled proof must reach its
    next phase, else its process is killed.
    """

    desired: int
    generator: str = "stark"
    backend: str = "auto"
    kernel_threads: int | None = None
    memory_limit_bytes: int | None = None
    worker_memory_bytes: int = 768 << 20  # measured: 543 MiB at 2^17 rows on the CPU
    start_timeout_s: float = 600.0  # a cold cache compiles every kernel first
    heartbeat_s: float = 2.0
    unresponsive_s: float = 20.0
    cancel_grace_s: float = 2.0
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    stable_s: float = 30.0  # a process that lived so long is replaced at once


class ProofPool:
    """Proof workers on a Ray cluster; for one event loop. `on_change` is called on it, soon, after a worker
    became ready or free, died or left, or the scale changed."""

    def __init__(
        self,
        config: PoolConfig,
        *,
        runtime: RayRuntime,
        on_change: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._on_change = on_change
        self._clock = clock
        self._members: dict[int, Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cluster_up = asyncio.Event()
        self._changed = asyncio.Event()
        self._tally = Tally()
        self._desired = config.desired
        limit_bytes = memory_bytes() if config.memory_limit_bytes is None else config.memory_limit_bytes
        self._memory_workers = limit_bytes // config.worker_memory_bytes
        self._owns_runtime = True
        self._slots = 0
        self._gpus: int | None = None
        self._refused: tuple[str, ...] = ()
        self._queue_size = 0
        self._stopping = False
        self._notified = False

    # --- the pool as a whole

    async def start(self) -> None:
        """Start Ray (seconds) and begin to start workers; `wait_ready` waits for them.

        A runtime that runs already is used, and left running by `stop`.

        Raises:
            StartError: Ray cannot start.
        """
        self._owns_runtime = not self._runtime.up
        if self._owns_runtime:
            await self._runtime.start()
        await self._count_slots()
        if self._runtime.lasting:
            await self._end_strangers()
        self._cluster_up.set()
        self._fit()
        self._begin(self._keep_cluster())

    async def wait_ready(self, count: int = 1, *, timeout_s: float) -> None:
        """Until `count` workers are up.

        Raises:
            TimeoutError: they are not within the time.
        """
        async with asyncio.timeout(timeout_s):
            while self.scale().running < count:
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> None:
        """End every worker, then Ray. Running `prove` calls get `WorkerLost`. Idempotent.

        Lasting workers on a cluster stay, for the coordinator that comes next.
        """
        self._stopping = True
        for member in self._members.values():
            if member.process is not None:
                member.process.die("the pool was stopped")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._members.clear()
        if self._owns_runtime:
            await self._runtime.stop()

    @property
    def runtime(self) -> RayRuntime:
        """The Ray that the workers run on."""
        return self._runtime

    def workers(self) -> list[WorkerInfo]:
        """Every worker there is or is to be, by number."""
        now_s = self._clock()
        return [self._members[number].info(now_s) for number in sorted(self._members)]

    def scale(self) -> PoolScale:
        """How many workers are desired, run, and may run."""
        target, limited_by = self._target()
        return PoolScale(
            desired=self._desired,
            running=sum(member.state in _UP for member in self._members.values()),
            target=target,
            limited_by=limited_by,
            refused_hosts=self._refused,
        )

    def most_workers(self) -> int:
        """As many as slots and memory allow now, however many are desired; one at least."""
        memory_workers = self._memory_workers if self._runtime.embedded else self._slots
        return max(1, min(self._slots, memory_workers))

    async def resize(self, desired: int) -> PoolScale:
        """Change the desired number; any number is accepted. Growing starts workers; shrinking lets idle ones
        go at once and busy ones after their batch."""
        assert desired >= 1, "a pool keeps at least one worker"
        self._desired = desired
        self._fit()
        return self.scale()

    async def kill(self, worker_id: str) -> None:
        """Fault injection: kill -9 of the worker's process. It is replaced like any dead one.

        Raises:
            WorkerLost: no process to kill under that id.
        """
        process = self._process_of(worker_id)
        if process is None or process.pid is None or process.dead.done():
            raise WorkerLost(worker_id, "it has no process now")
        await process.kill()

    @property
    def embedded(self) -> bool:
        """Whether the workers are processes of this machine, and not of a cluster's hosts."""
        return self._runtime.embedded

    async def sample(self, worker_id: str, duration_s: float) -> dict[Stack, int]:
        """How often a worker's process met each Python stack within that time; it proves on meanwhile.

        Raises:
            WorkerLost: no process under that id, or it died or stopped answering.
        """
        process = self._process_of(worker_id)
        if process is None or process.ready is None or process.dead.done():
            raise WorkerLost(worker_id, "it has no process now")
        try:
            return await process.sample(duration_s, timeout_s=duration_s + self._config.unresponsive_s)
        except ProcessDied as died:
            raise WorkerLost(worker_id, str(died)) from None
        except TimeoutError:
            raise WorkerLost(worker_id, "it does not answer") from None

    def set_queue_size(self, queued: int) -> None:
        """What 9091 shows as the cluster's `proof_queue_size`."""
        self._queue_size = queued

    def report(self) -> PoolReport:
        """All that 9091 shows."""
        return PoolReport(
            scale=self.scale(),
            workers=tuple(self.workers()),
            queue_size=self._queue_size,
            failures=dict(self._tally.failures),
            permutations=self._tally.permutations,
            generation_counts=self._tally.generation_counts,
            generation_sum_s=self._tally.generation_sum_s,
        )

    # --- one proof

    async def prove(self, worker_id: str, request: BatchRequest, timeout_s: float) -> BatchResult:
        """The batch's proof, made by an idle worker in one call.

        If the task that waits is cancelled, the work stops too.

        Raises:
            ProverError: the worker lives and says why there is no proof.
            WorkerLost: the worker died, or is no longer there and idle.
            ProofTimeout: no answer in time; the worker was killed and is replaced.
        """
        member = self._member_of(worker_id)
        if member is None or member.state is not WorkerState.IDLE:
            state = "unknown" if member is None else member.state.value
            raise WorkerLost(worker_id, f"it is {state}, not idle")
        process = member.process
        assert process is not None, "an idle worker has a process"
        member.begin(request.batch_id, self._clock())
        call = process.prove(request)
        try:
            result = await process.proof(call, timeout_s=timeout_s)
        except asyncio.CancelledError:
            self._begin(self._abandon(member, process, call, request.batch_id))
            raise
        except TimeoutError:
            process.die(f"no proof of {request.batch_id} within {timeout_s:g} s")
            error: WorkerError = ProofTimeout(worker_id, timeout_s)
        except ProcessDied as died:
            error = WorkerLost(worker_id, str(died))
        except ProverError as failure:
            error = failure
        else:
            self._finish(member)
            member.batches += 1
            member.permutations += result.permutations
            self._tally.proved(result)
            return result
        self._finish(member)
        raise self._failed(error, member)

    def _finish(self, member: Member) -> None:
        member.end(self._clock())
        self._notify()

    def _failed(self, error: WorkerError, member: Member) -> WorkerError:
        self._tally.failed(error)
        member.failures += 1
        member.last_error = str(error)
        return error

    async def _abandon(self, member: Member, process: WorkerProcess, call: Call, batch_id: str) -> None:
        """Stop a proof nobody waits for. The worker is busy until it has stopped, or is dead."""
        try:
            await process.cancel(call, batch_id, grace_s=self._config.cancel_grace_s)
        finally:
            self._finish(member)

    # --- one worker's life

    async def _live(self, member: Member) -> None:
        """One process after the other until the member is let go."""
        backoff_s = 0.0
        while True:
            await self._cluster_up.wait()
            if member.let_go.is_set():
                break
            started_s = self._clock()
            cause = await self._one_process(member)
            if member.let_go.is_set():
                break
            member.last_error = cause
            stable = self._clock() - started_s >= self._config.stable_s
            if stable:
                backoff_s = 0.0
            _log.warning("worker_died", worker_id=member.worker_id, reason=cause, backoff_s=backoff_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(member.let_go.wait(), backoff_s)
            backoff_s = min(max(2 * backoff_s, self._config.first_backoff_s), self._config.longest_backoff_s)
        del self._members[member.number]
        self._notify()

    async def _one_process(self, member: Member) -> str:
        """Start a process and see it through; returns what ended it."""
        process = member.process = WorkerProcess(self._runtime)
        member.processes += 1
        heart: asyncio.Task[None] | None = None
        try:
            ready = await process.start(self._spec(member.worker_id), timeout_s=self._config.start_timeout_s)
            _log.info("worker_ready", worker_id=member.worker_id, **asdict(ready))
            self._notify()
            heart = asyncio.create_task(
                process.heartbeat(
                    interval_s=self._config.heartbeat_s,
                    unresponsive_s=self._config.unresponsive_s,
                    queue_size=lambda: self._queue_size,
                )
            )
            await process.end()
        except TimeoutError:
            process.die(f"it was not ready within {self._config.start_timeout_s:g} s")
        except Exception as error:  # whatever it is, the worker's life goes on, with a back-off
            process.die(str(error))
        finally:
            if heart is not None:
                heart.cancel()
            if self._stopping and self._runtime.lasting:
                process.leave()
            else:
                await process.remove()
        self._notify()
        return process.dead.result()

    def _spec(self, worker_id: str) -> WorkerSpec:
        config = self._config
        return WorkerSpec(
            worker_id=worker_id,
            generator=config.generator,
            backend=config.backend,
            kernel_threads=config.kernel_threads or self._shared_threads(),
            gpus=1 if self._gpus else 0,
        )

    def _shared_threads(self) -> int | None:
        """This machine's CPUs shared out; on other hosts each worker finds its own share."""
        return max(1, usable_cpus() // self._target()[0]) if self._runtime.embedded else None

    # --- size and cluster

    def _target(self) -> tuple[int, ScaleLimit | None]:
        memory_workers = self._memory_workers if self._runtime.embedded else self._slots
        return scaling.target(self._desired, slots=self._slots, memory_workers=memory_workers)

    def _fit(self) -> None:
        """Start or let go workers until as many stay as should."""
        if self._stopping:
            return
        target, _ = self._target()
        staying = [member for member in self._members.values() if not member.let_go.is_set()]
        leaving = [member for member in self._members.values() if member.let_go.is_set()]
        for member in leaving[: max(0, target - len(staying))]:
            member.stay()
            staying.append(member)
        for number in scaling.new_numbers(self._members, target - len(staying)):
            member = self._members[number] = Member(number, now_s=self._clock())
            self._begin(self._live(member))
        states = [(member.number, member.state) for member in staying]
        for number in scaling.who_goes(states, max(0, len(staying) - target)):
            self._members[number].leave()
        self._notify()

    async def _keep_cluster(self) -> None:
        """Every second: start the embedded Ray anew when its own processes died, follow a cluster's slots."""
        while True:
            await asyncio.sleep(1.0)
            if not self._runtime.alive():
                await self._restart_cluster()
            before = self._slots
            try:
                await self._count_slots()
            except self._runtime.ray.exceptions.RayError as error:  # the head is away for a while
                _log.warning("cluster_silent", reason=str(error))
            if self._slots != before:
                _log.info("slots_changed", slots=self._slots, before=before)
                self._fit()

    async def _count_slots(self) -> None:
        """How many workers fit now. Where they compute on GPUs there is one worker a card: two that share one would
        share its memory. Without any card they start all the same, and say why they cannot, or that it is the CPU."""
        await self._count_hosts()
        if may_use_gpus(self._config.backend, embedded=self._runtime.embedded):
            if self._gpus is None or not self._runtime.embedded:
                self._gpus = await self._runtime.gpus()
            self._slots = min(self._slots, self._gpus or self._slots)

    async def _count_hosts(self) -> None:
        """The slots of all hosts; one with other code is told of once."""
        if self._runtime.embedded or not self._runtime.lasting:
            self._slots = await self._runtime.slots()
            return
        nodes = await self._runtime.nodes()
        used = usable(nodes)
        self._slots = sum(node.slots for node in used)
        refused = tuple(
            f"{node.address}: {mismatch(node.code or 'unnamed')}" for node in nodes if node not in used
        )
        for reason in refused:
            if reason not in self._refused:
                _log.error("host_refused", reason=reason)
        self._refused = refused

    async def _end_strangers(self) -> None:
        """Workers of an earlier coordinator that this one has no use for hold slots: end them."""
        namespace = self._runtime.settings.namespace
        assert namespace is not None, "lasting workers have one"
        wanted = {name_of(self._spec(f"w-{number}")) for number in scaling.new_numbers((), self._target()[0])}
        ended = await self._runtime.run(lambda: end_strangers(self._runtime.ray, namespace, wanted))
        for name in ended:
            _log.info("stranger_ended", worker=name)

    async def _restart_cluster(self) -> None:
        _log.error("cluster_died")
        self._cluster_up.clear()
        for member in self._members.values():
            if member.process is not None:
                member.process.die("the cluster died")
        while not self._cluster_up.is_set():
            try:
                await self._runtime.restart()
                self._cluster_up.set()
            except StartError as error:
                _log.error("cluster_not_restarted", reason=str(error))
                await asyncio.sleep(self._config.longest_backoff_s)

    # --- small things

    def _member_of(self, worker_id: str) -> Member | None:
        return next((m for m in self._members.values() if m.worker_id == worker_id), None)

    def _process_of(self, worker_id: str) -> WorkerProcess | None:
        member = self._member_of(worker_id)
        return None if member is None else member.process

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a task of the proof pool failed", "exception": error, "task": task}
            )

    def _notify(self) -> None:
        self._changed.set()
        if self._on_change is not None and not self._notified:
            self._notified = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._notified = False
        if self._on_change is not None:
            self._on_change()
