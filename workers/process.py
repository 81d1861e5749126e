"""One worker process: a Ray actor, the calls to it, and its end.

Every wait here ends when the process dies, whoever noticed: a call that fails, the one call that never
returns (`watch`, which tells of a death within milliseconds), a heartbeat that stays out, or the pool itself.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.code_version import code_version
from workers.lasting import end_on_host, lasting_options, mismatch
from workers.messages import (
    BatchRequest,
    BatchResult,
    ProverError,
    ProverErrorCode,
    StartError,
    StartErrorCode,
    WorkerHome,
    WorkerReady,
    WorkerStatus,
)
from workers.ray_runtime import RayRuntime
from workers.sampling import Stack
from workers.worker import THREADS, ProofWorker

Call = asyncio.Future[Any]


class ProcessDied(Exception):
    """The process behind a call is gone; the text says why."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker is made with."""

    worker_id: str
    generator: str
    backend: str
    kernel_threads: int | None
    gpus: int = 0
    """GPUs that are the worker's alone; Ray shows it no others (CUDA_VISIBLE_DEVICES)."""


class WorkerProcess:
    """For one event loop. `dead` is set, with the cause, by whoever learns of the end first."""

    def __init__(self, runtime: RayRuntime) -> None:
        self._runtime = runtime
        self._actor: Any = None  # a Ray actor handle, which has no type
        self._watch: Call | None = None
        self._home: WorkerHome | None = None
        self.pid: int | None = None
        self.ready: WorkerReady | None = None
        self.status: WorkerStatus | None = None
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def die(self, cause: str) -> None:
        """Note the end; only the first cause counts."""
        if not self.dead.done():
            self.dead.set_result(cause)

    async def start(self, spec: WorkerSpec, *, timeout_s: float) -> WorkerReady:
        """Make the actor and wait until it is warm.

        Raises:
            StartError: it says that it cannot work.
            ProcessDied, TimeoutError: it did not come to say anything.
        """
        self._actor = await self._runtime.run(lambda: self._make_actor(spec))
        self.pid = await self._first(_future(self._actor.attach.remote()), timeout_s=timeout_s)
        if self._runtime.lasting:
            await self._find_home(timeout_s)
        ready = await self._first(_future(self._actor.prepare.remote()), timeout_s=timeout_s)
        if isinstance(ready, StartError):
            raise ready
        assert isinstance(ready, WorkerReady), "the worker's own answer"
        self._watch = _future(self._actor.watch.remote())
        self.ready = ready
        return ready

    async def _find_home(self, timeout_s: float) -> None:
        home = await self._first(_future(self._actor.home.remote()), timeout_s=timeout_s)
        assert isinstance(home, WorkerHome), "the worker's own answer"
        self._home = home
        if home.code != code_version():
            raise StartError(StartErrorCode.VERSION_MISMATCH, mismatch(home.code))

    def prove(self, request: BatchRequest) -> Call:
        """Begin a proof; `proof` waits for it."""
        return _future(self._actor.prove.remote(request))

    async def proof(self, call: Call, *, timeout_s: float) -> BatchResult:
        """The proof that was begun.

        Raises:
            ProverError: the worker says why there is none.
            ProcessDied, TimeoutError: it did not come to say anything.
        """
        outcome = await self._first(call, timeout_s=timeout_s)
        if isinstance(outcome, ProverError):
            raise outcome
        assert isinstance(outcome, BatchResult), "the worker's own answer"
        return outcome

    async def cancel(self, call: Call, batch_id: str, *, grace_s: float) -> None:
        """Ask the worker to give a batch up; if it has not within `grace_s`, the process is dead."""
        _future(self._actor.cancel.remote(batch_id))
        try:
            await self._first(call, timeout_s=grace_s)
        except TimeoutError:
            self.die(f"{batch_id} was cancelled and did not stop")
        except (ProcessDied, ProverError):
            pass

    async def sample(self, duration_s: float, *, timeout_s: float) -> dict[Stack, int]:
        """The stacks that the process samples in itself.

        Raises:
            ProcessDied, TimeoutError: it did not come to say anything.
        """
        stacks: dict[Stack, int] = await self._first(
            _future(self._actor.sample.remote(duration_s)), timeout_s=timeout_s
        )
        return stacks

    async def end(self) -> str:
        """Wait for the process's death, however it comes to be known; returns the cause."""
        assert self._watch is not None, "start comes first"
        with contextlib.suppress(ProcessDied, ProverError):
            await self._first(self._watch, timeout_s=None)
        self.die("its watch ended")
        return self.dead.result()

    async def heartbeat(
        self, *, interval_s: float, unresponsive_s: float, queue_size: Callable[[], int]
    ) -> None:
        """Ask for the status again and again; a process that does not answer in time is dead. The worker is told the
        cluster's queue, which its host's endpoint shows."""
        while not self.dead.done():
            try:
                self.status = await self._first(
                    _future(self._actor.status.remote(queue_size())), timeout_s=unresponsive_s
                )
                await asyncio.sleep(interval_s)
            except TimeoutError:
                self.die(f"no heartbeat for {unresponsive_s:g} s")
            except (ProcessDied, ProverError) as error:
                self.die(str(error))

    async def kill(self) -> None:
        """kill -9. By pid where the process is on this machine, for Ray cannot end a stopped one."""
        if self.pid is not None and self._runtime.embedded:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            await self._kill_by_ray()

    async def remove(self) -> None:
        """End the process, and the actor that Ray may still believe in, so that its slot is free."""
        self.die("it was let go")
        await self.kill()
        if self._runtime.embedded:
            await self._kill_by_ray()

    def leave(self) -> None:
        """Leave a lasting worker to the next coordinator."""
        self.die("it was left to the next coordinator")
        self._actor = None

    async def _kill_by_ray(self) -> None:
        actor, home, pid = self._actor, self._home, self.pid
        if actor is None or not self._runtime.up:
            return
        await self._runtime.run(lambda: self._runtime.ray.kill(actor, no_restart=True))
        if home is not None and pid is not None:
            await self._runtime.run(lambda: end_on_host(self._runtime.ray, home, pid))

    def _make_actor(self, spec: WorkerSpec) -> Any:
        actor_class = self._runtime.ray.remote(ProofWorker)
        lasting = lasting_options(spec, self._runtime.settings.namespace) if self._runtime.lasting else {}
        return actor_class.options(
            num_cpus=0,
            num_gpus=spec.gpus,
            resources=self._runtime.slot(),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS,
            **lasting,
        ).remote(
            worker_id=spec.worker_id,
            generator=spec.generator,
            backend=spec.backend,
            kernel_threads=spec.kernel_threads,
        )

    async def _first(self, call: Call, *, timeout_s: float | None) -> Any:
        """The call's answer, unless the process dies first."""
        done, _ = await asyncio.wait(
            {call, self.dead}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if call in done:
            return self._answer(call)
        if self.dead in done:
            raise ProcessDied(self.dead.result())
        raise TimeoutError

    def _answer(self, call: Call) -> Any:
        exceptions = self._runtime.ray.exceptions
        try:
            return call.result()
        except exceptions.RayTaskError as error:  # the call did not reach the worker's own error handling
            raise ProverError(ProverErrorCode.INTERNAL, _first_line(error.cause)) from error
        except exceptions.RayError as error:
            self.die(_first_line(error))
            raise ProcessDied(self.dead.result()) from error


def _future(reference: Any) -> Call:
    """A Ray object reference as a future that may be left alone: its exception never goes unretrieved."""
    future: Call = asyncio.wrap_future(reference.future())
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
