"""One worker process: a Ray actor, the calls to it, and its end.

Every wait here ends when the process dies, whoever noticed: a call that fails, the one call that never
returns (`watch`, which tells of a death within milliseconds), a heartbeat that stays out, or the pool itself.
"""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import Any

from workers.messages import (
    BatchRequest,
    BatchResult,
    ProverError,
    ProverErrorCode,
    StartError,
    WorkerReady,
    WorkerStatus,
)
from workers.ray_runtime import SLOT_RESOURCE, RayRuntime
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
    kernel_threads: int


class WorkerProcess:
    """For one event loop. `dead` is set, with the cause, by whoever learns of the end first."""

    def __init__(self, runtime: RayRuntime) -> None:
        self._runtime = runtime
        self._actor: Any = None  # a Ray actor handle, which has no type
        self._watch: Call | None = None
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
        ready = await self._first(_future(self._actor.prepare.remote()), timeout_s=timeout_s)
        if isinstance(ready, StartError):
            raise ready
        assert isinstance(ready, WorkerReady), "the worker's own answer"
        self._watch = _future(self._actor.watch.remote())
        self.ready = ready
        return ready

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

    async def end(self) -> str:
        """Wait for the process's death, however it comes to be known; returns the cause."""
        assert self._watch is not None, "start comes first"
        with contextlib.suppress(ProcessDied, ProverError):
            await self._first(self._watch, timeout_s=None)
        self.die("its watch ended")
        return self.dead.result()

    async def heartbeat(self, *, interval_s: float, unresponsive_s: float) -> None:
        """Ask for the status again and again; a process that does not answer in time is dead."""
        while not self.dead.done():
            try:
                self.status = await self._first(
                    _future(self._actor.status.remote()), timeout_s=unresponsive_s
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

    async def _kill_by_ray(self) -> None:
        actor = self._actor
        if actor is not None and self._runtime.up:
            await self._runtime.run(lambda: self._runtime.ray.kill(actor, no_restart=True))

    def _make_actor(self, spec: WorkerSpec) -> Any:
        actor_class = self._runtime.ray.remote(ProofWorker)
        return actor_class.options(
            num_cpus=0,
            resources={SLOT_RESOURCE: 1},
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS,
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
