"""Simulated proof workers, behind the real pool: only Ray and the machines are made up.

`SimulatedRuntime` stands where `RayRuntime` does and hands the real `ProofPool` and `WorkerProcess` a module that looks
like Ray. A worker answers with real mock proofs of its batch after a virtual time, or does what its faults say.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol, TypeVar, cast

from coordinator.core.limits import PADDING_ROWS
from coordinator.sim.faults import Fault, Faults
from workers.airs.operation_trace import rows_for
from workers.messages import (
    BatchRequest,
    BatchResult,
    ProverError,
    ProverErrorCode,
    WorkerReady,
    WorkerStatus,
)
from workers.mock import MockGenerator, mock_proof
from workers.ray_runtime import RayRuntime, RaySettings

T = TypeVar("T")

#: Virtual seconds: a proof's fixed part, its part an operation, a worker's start, and a slow proof's greatest time.
_PROOF_S, _OPERATION_S, _START_S, _SLOWEST_S = 0.05, 0.01, 0.5, 8.0


class WorkerDied(Exception):
    """What the simulated Ray raises where the real one raises RayActorError."""


class _TaskError(Exception):
    """Where the real one raises RayTaskError; never raised here, since workers answer with values."""

    cause: BaseException


class Timers(Protocol):
    """What time is to the workers: a loop's, virtual or real."""

    def delay_s(self) -> float:
        """Seconds that a local call takes."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object:
        """Calls something after so many seconds."""


class Hand(Protocol):
    """Whose faults the workers have, and who hears of them."""

    faults: Faults

    def injected(self, fault: Fault, **facts: Any) -> None:
        """A fault was injected."""

    def poisoned(self, task_id: str) -> bool:
        """Whether every prover fails on this task's operation."""

    def keep_result(self, result: BatchResult) -> None:
        """A result that shall come again, or late."""


class SimulatedRuntime(RayRuntime):
    """A cluster of so many slots."""

    def __init__(self, timers: Timers, chance: Random, hand: Hand, *, slots: int) -> None:
        super().__init__(RaySettings(slots=slots, address="simulated"))
        self._timers = timers
        self._slots = slots
        self._pids = iter(range(100, 1 << 30))
        self._module = SimpleNamespace(
            remote=lambda _worker_class: _ActorClass(
                lambda: _Actor(timers, chance, hand, pid=next(self._pids))
            ),
            kill=lambda actor, no_restart: actor.die("it was killed"),
            exceptions=SimpleNamespace(RayTaskError=_TaskError, RayError=WorkerDied),
        )

    @property
    def ray(self) -> ModuleType:
        """What looks like the `ray` module."""
        return cast("ModuleType", self._module)

    async def start(self) -> None:
        """At once."""
        self._up = True

    async def stop(self) -> None:
        """At once."""
        self._up = False

    async def run(self, call: Callable[[], T]) -> T:
        """After a moment, as on a thread."""
        await asyncio.sleep(self._timers.delay_s())
        return call()

    async def slots(self) -> int:
        """As many as it was made with."""
        return self._slots

    async def gpus(self) -> int:
        """None."""
        return 0

    def alive(self) -> bool:
        """Always: the simulator kills workers, and the coordinator with the whole cluster."""
        return True


class _ActorClass:
    """`ray.remote(C).options(…).remote(…)` makes an actor."""

    def __init__(self, make: Callable[[], "_Actor"]) -> None:
        self._make = make

    def options(self, **_options: object) -> "_ActorClass":
        return self

    def remote(self, **_arguments: object) -> "_Actor":
        return self._make()


class _Reference:
    """An answer to come, as `ObjectRef` is one."""

    def __init__(self, future: "Future[Any]") -> None:
        self._future = future

    def future(self) -> "Future[Any]":
        return self._future


class _Method:
    """`actor.method.remote(…)`."""

    def __init__(self, call: Callable[..., "Future[Any]"]) -> None:
        self._call = call

    def remote(self, *arguments: object) -> _Reference:
        return _Reference(self._call(*arguments))


class _Actor:
    """One worker's process."""

    def __init__(self, timers: Timers, chance: Random, hand: Hand, *, pid: int) -> None:
        self._timers = timers
        self._chance = chance
        self._hand = hand
        self._pid = pid
        self._calls: dict[Future[Any], None] = {}
        self._proving: tuple[str, Future[Any]] | None = None
        self._stalled = False
        self._dead = False
        self._generator = MockGenerator(clock=lambda: 0.0)
        self.attach = _Method(lambda: self._answer(self._delay_s(), lambda: pid))
        self.prepare = _Method(lambda: self._answer(_START_S * (0.5 + chance.random()), self._ready))
        self.watch = _Method(self._new_call)
        self.status = _Method(lambda _queue_size: self._answer(self._delay_s(), self._status))
        self.prove = _Method(self._prove)
        self.cancel = _Method(self._cancel)

    def die(self, cause: str) -> None:
        """The process ends: every call fails."""
        self._dead = True
        calls, self._calls = self._calls, {}
        for call in calls:
            if not call.done():
                call.set_exception(WorkerDied(cause))

    def _delay_s(self) -> float:
        return self._timers.delay_s()

    def _new_call(self) -> "Future[Any]":
        call: Future[Any] = Future()
        if self._dead:
            call.set_exception(WorkerDied("it is dead"))
        else:
            self._calls[call] = None
        return call

    def _answer(self, after_s: float, make: Callable[[], object]) -> "Future[Any]":
        call = self._new_call()
        self._timers.call_later(after_s, self._settle, call, make)
        return call

    def _settle(self, call: "Future[Any]", make: Callable[[], object]) -> None:
        if self._stalled or call not in self._calls:
            return
        del self._calls[call]
        if self._proving is not None and self._proving[1] is call:
            self._proving = None
        call.set_result(make())

    def _ready(self) -> WorkerReady:
        return WorkerReady(pid=self._pid, backend="mock", backend_reason="simulated", startup_s=_START_S)

    def _status(self) -> WorkerStatus:
        return WorkerStatus(
            pid=self._pid,
            busy_s=None,
            batch_id=None if self._proving is None else self._proving[0],
            batches=0,
            failures=0,
            permutations=0,
            last_error=None,
            rss_bytes=1 << 20,
        )

    def _cancel(self, batch_id: str) -> "Future[Any]":
        if self._proving is not None and self._proving[0] == batch_id:
            call = self._proving[1]
            error = ProverError(ProverErrorCode.CANCELLED, "the batch was given up")
            self._timers.call_later(self._delay_s(), self._settle, call, lambda: error)
        return self._answer(self._delay_s(), lambda: None)

    # -- proofs ------------------------------------------------------------------------------------

    def _happens(self, fault: Fault, **facts: Any) -> bool:
        if self._chance.random() >= self._hand.faults.probability(fault):
            return False
        self._hand.injected(fault, **facts)
        return True

    def _prove(self, request: BatchRequest) -> "Future[Any]":
        batch_id, count = request.batch_id, len(request.operations)
        duration_s = (_PROOF_S + _OPERATION_S * count) * (0.5 + self._chance.random())
        if self._happens(Fault.SLOW_PROOF, batch_id=batch_id):
            duration_s = self._chance.uniform(0.5, _SLOWEST_S)
        call = self._answer(duration_s, lambda: self._outcome(request, duration_s))
        self._proving = (batch_id, call)
        part_s = duration_s * self._chance.random()
        if self._happens(Fault.WORKER_DEATH, batch_id=batch_id):
            self._timers.call_later(part_s, self.die, "it was killed by the simulator")
        elif self._happens(Fault.WORKER_STALL, batch_id=batch_id):
            self._timers.call_later(part_s, self._stall)
        elif self._happens(Fault.LATE_RESULT, batch_id=batch_id):
            self._hand.keep_result(self._proof(request, duration_s))
            self._timers.call_later(part_s, self.die, "it was cut off: its result comes late")
        return call

    def _stall(self) -> None:
        self._stalled = True

    def _outcome(self, request: BatchRequest, duration_s: float) -> BatchResult | ProverError:
        batch_id, count = request.batch_id, len(request.operations)
        for index, operation in enumerate(request.operations):
            if self._hand.poisoned(operation.task_id.decode()):
                named = index if self._chance.random() < 0.5 else None
                return ProverError(ProverErrorCode.INTERNAL, "a poisoned operation", named)
        if self._happens(Fault.OUT_OF_MEMORY, batch_id=batch_id):
            return ProverError(ProverErrorCode.OUT_OF_MEMORY, "no memory")
        if self._happens(Fault.PROVER_ERROR, batch_id=batch_id):
            blamed = self._chance.choice((None, self._chance.randrange(count)))
            return ProverError(ProverErrorCode.INTERNAL, "a fault of the prover", blamed)
        result = self._proof(request, duration_s)
        if self._happens(Fault.INVALID_PROOF, batch_id=batch_id):
            return dataclasses.replace(result, proof=mock_proof(bytes(32), count))
        if self._happens(Fault.DUPLICATE_RESULT, batch_id=batch_id):
            self._hand.keep_result(result)
        return result

    def _proof(self, request: BatchRequest, duration_s: float) -> BatchResult:
        """The real mock proof, with the size and the time that a real one would have."""
        result = self._generator.prove(request, lambda: None)
        rows = sum(rows_for(len(operation.output)) for operation in request.operations)
        log_rows = (rows + PADDING_ROWS - 1).bit_length()
        return dataclasses.replace(
            result, prove_ms=round(duration_s * 1000), rows=1 << log_rows, log_rows=log_rows
        )
