"""Proving: idle workers get the batches that the planner forms; their proofs, verified, go back to the core."""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordinator.chain.verification import InvalidProofError, Verify
from coordinator.core import hedging
from coordinator.core.commands import ProvedBatch
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.planner import PlannerView, plan
from coordinator.core.records import Batch, Operation
from coordinator.core.states import ReturnReason
from coordinator.logs import get_logger
from coordinator.shell import statements
from coordinator.shell.bundling import Bundling
from coordinator.shell.journal import Journal
from coordinator.shell.pause import wait_or_pause
from coordinator.shell.race import HedgeCounts, Race
from coordinator.store.proofs import ProofRecord
from coordinator.store.witnesses import Witness, WitnessStore
from workers.messages import (
    BatchRequest,
    BatchResult,
    ProofTimeout,
    ProverError,
    ProverErrorCode,
    WorkerLost,
    WorkerState,
)
from workers.pool import ProofPool
from workers.statement import OperationWitness

#: How often held dependent work is looked at, and how often everything is when nothing happens.
_HELD_S = 0.05
_QUIET_S = 1.0
#: Between two looks at the queue: a thousand admissions a second must not mean a thousand plans.
_BETWEEN_S = 0.005
#: How often it is looked whether a batch takes too long, while another worker idles.
_LATE_S = 0.25
#: A worker that a fault kills is let into its batch for this long.
_KILL_AFTER_S = 0.02

_log = get_logger("proving")

_RETURNS: Mapping[ProverErrorCode, ReturnReason] = {
    ProverErrorCode.OUT_OF_MEMORY: ReturnReason.OUT_OF_MEMORY,
    ProverErrorCode.TOO_LARGE: ReturnReason.PROVER_ERROR,
}


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a batch came back without a proof; `index`: the operation that the prover names, where it does."""

    reason: ReturnReason
    detail: str
    index: int | None = None


class Proving:
    """The planner's live loop. A batch is a task here from its start until its proof or failure is durable."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        pool: ProofPool,
        witnesses: WitnessStore,
        domain: bytes,
        verify: Verify,
        parameters: str,
        clock_ms: Callable[[], int],
        killed_batches: frozenset[int] = frozenset(),
    ) -> None:
        """`killed_batches`: a fault on demand; the worker of the N-th batch (from 1) is killed under it."""
        self._engine = engine
        self._journal = journal
        self._pool = pool
        self._witnesses = witnesses
        self._domain = domain
        self._verify = verify
        self._parameters = parameters
        self._clock_ms = clock_ms
        self._killed_batches = killed_batches
        self._running: dict[str, asyncio.Task[None]] = {}
        self._races: dict[str, Race] = {}
        self.hedges = HedgeCounts()
        """Batches that were started a second time because the first took too long."""

        self._stranded: dict[str, str] = {}
        self._killer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._started = 0
        self.bundling: Bundling | None = None
        """Where failed batches are kept to be proved again, or None."""

    def wake(self) -> None:
        """Something changed that the planner should see."""
        self._wake.set()

    async def run(self) -> None:
        """Plans on every change, and while dependent work is held back for its time; until cancelled or read-only."""
        try:
            while self._journal.read_only is None:
                self._wake.clear()
                self._cancel_lost()
                await self._return_stranded()
                await self._start_planned()
                await asyncio.sleep(_BETWEEN_S)
                await wait_or_pause(self._wake, self._pause_s())
        finally:
            await self._cancel()

    def _pause_s(self) -> float:
        if self._engine.state.queued:
            return _HELD_S
        return _LATE_S if self._races and self._engine.config.hedge else _QUIET_S

    async def _start_planned(self) -> None:
        """Starts what the planner forms for the idle workers."""
        now_ms = self._clock_ms()
        workers = self._pool.workers()
        ids = [worker.worker_id for worker in workers]
        self._engine.set_workers(ids)
        batches = self._engine.state.batches
        busy = {batches[batch_id].worker_id for batch_id in self._running if batch_id in batches}
        busy.update(worker_id for race in self._races.values() for worker_id in race.workers)
        idle = [w.worker_id for w in workers if w.state is WorkerState.IDLE and w.worker_id not in busy]
        if not idle:
            return
        view = PlannerView(
            state=self._engine.state, config=self._engine.config, idle_workers=idle, worker_ids=ids
        )
        plans = plan(view, now_ms=now_ms)
        given = {each.worker_id for each in plans}
        self._hedge([worker_id for worker_id in idle if worker_id not in given], now_ms=now_ms)
        started = [self._engine.start_batch(each, now_ms=now_ms) for each in plans]
        if not started:
            return
        await self._journal.commit()
        for batch_id in started:
            batch = batches.get(batch_id)
            if batch is not None:
                task = asyncio.create_task(self._prove(batch), name=f"prove {batch_id}")
                self._running[batch_id] = task
                task.add_done_callback(functools.partial(self._done, batch_id))

    def _hedge(self, idle: list[str], *, now_ms: int) -> None:
        """Starts what takes too long a second time, on workers that have nothing else to do."""
        if not self._engine.config.hedge or not self._races:
            return
        hedged = {batch_id for batch_id, race in self._races.items() if race.hedged}
        state = self._engine.state
        for batch_id, worker_id in hedging.seconds(state, idle=idle, hedged=hedged, now_ms=now_ms):
            race = self._races.get(batch_id)
            if race is not None:
                _log.warning("batch_hedged", batch_id=batch_id, worker_id=worker_id)
                race.enter(worker_id)

    def _done(self, batch_id: str, task: "asyncio.Task[None]") -> None:
        self._running.pop(batch_id, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CoreError) and error.code is ErrorCode.READ_ONLY:
            return  # the disk refuses: what the batch becomes is decided anew from what is on it
        if error is not None:
            _log.error("prove_failed", batch_id=batch_id, exc_info=error)
            # A defect must not leave the batch in PROVING for ever.
            self._stranded[batch_id] = f"a defect in the coordinator: {type(error).__name__}"
        self.wake()

    def _cancel_lost(self) -> None:
        """Batches that lost a member are not worth proving any more."""
        for batch_id in self._engine.cancelled_batches():
            if (task := self._running.get(batch_id)) is not None:
                task.cancel()

    async def _return_stranded(self) -> None:
        stranded, self._stranded = self._stranded, {}
        for batch_id, detail in stranded.items():
            reason = ReturnReason.PROVER_ERROR
            self._engine.batch_failed(batch_id, reason, detail, now_ms=self._clock_ms())
        if stranded:
            await self._journal.commit()

    async def _cancel(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _prove(self, batch: Batch) -> None:
        self._started += 1
        if self._started in self._killed_batches:
            self._kill_soon(batch.worker_id)
        operations = [self._engine.state.operation(i) for i in batch.operation_ids]
        request = await self._request(batch, operations)

        async def attempt(worker_id: str) -> BatchResult:
            timeout_s = self._engine.config.proof_timeout_ms / 1000
            result = await self._pool.prove(worker_id, request, timeout_s)
            await self._check(operations, result)
            return result

        race = Race(attempt, self.hedges)
        try:
            await self._require_statements(operations, request)
            race.enter(batch.worker_id)
            self._races[batch.batch_id] = race
            worker_id, result = await race.result()
        except ProverError as error:
            failure = _Failure(
                _RETURNS.get(error.code, ReturnReason.PROVER_ERROR), str(error), index=error.index
            )
        except WorkerLost as error:
            failure = _Failure(ReturnReason.WORKER_LOST, str(error))
        except ProofTimeout as error:
            failure = _Failure(ReturnReason.TIMEOUT, str(error))
        except InvalidProofError as error:
            failure = _Failure(ReturnReason.INVALID_PROOF, str(error))
        else:
            await self._proved(batch, worker_id, result)
            return
        finally:
            self._races.pop(batch.batch_id, None)
        await self._failed(batch, failure)
        if self.bundling is not None:
            await self.bundling.keep(
                batch,
                operations,
                request,
                reason=failure.reason.value,
                detail=failure.detail,
                index=failure.index,
            )

    async def _request(self, batch: Batch, operations: list[Operation]) -> BatchRequest:
        witnesses = await asyncio.to_thread(self._witnesses.get, batch.operation_ids)
        return BatchRequest(
            batch_id=batch.batch_id,
            domain=self._domain,
            operations=tuple(self._witness(o, witnesses[o.operation_id]) for o in operations),
            parameters=self._parameters,
        )

    async def _require_statements(self, operations: list[Operation], request: BatchRequest) -> None:
        """Raises ProverError with the place of an operation whose witness, as it is kept, is not its statement's: found
        here it costs a few hashes, found by the verifier a proof of the whole batch.
        """
        expected = [operation.statement for operation in operations]
        place = await asyncio.to_thread(statements.first_mismatch, self._domain, request.operations, expected)
        if place is not None:
            detail = "the witness that is kept is not its statement's"
            raise ProverError(ProverErrorCode.INVALID_WITNESS, detail, place)

    def _witness(self, operation: Operation, witness: Witness) -> OperationWitness:
        assert witness.secret is not None, "a secret is erased only after confirmation"
        parents = [self._engine.state.commitment_of(parent) for parent in operation.parents]
        return OperationWitness(
            task_id=operation.task_id.encode(),
            agent_id=operation.agent_id.encode(),
            output=witness.output,
            salt=witness.salt,
            secret=witness.secret,
            parents=tuple(parent for parent in parents if parent is not None),
        )

    async def _check(self, operations: list[Operation], result: BatchResult) -> None:
        """Raises InvalidProofError unless the proof proves what the log says of the batch's operations."""
        expected = [operation.statement for operation in operations]
        await asyncio.to_thread(self._verify, result.proof, expected, self._parameters)

    async def _proved(self, batch: Batch, worker_id: str, result: BatchResult) -> None:
        proved = ProvedBatch(
            root=result.root,
            proof_digest=hashlib.sha256(result.proof).digest(),
            proof_bytes=len(result.proof),
            worker_id=worker_id,
            backend=result.backend,
            prove_ms=result.prove_ms,
            permutations=result.permutations,
            rows=result.rows,
        )
        record = ProofRecord(batch.batch_id, result.proof, result.root, self._parameters, result.log_rows)
        if self._engine.batch_proved(batch.batch_id, proved, now_ms=self._clock_ms()):
            await self._journal.commit(proofs=[record])

    async def _failed(self, batch: Batch, failure: "_Failure") -> None:
        reason, detail = failure.reason, failure.detail
        _log.warning("batch_failed", batch_id=batch.batch_id, reason=reason.value, detail=detail)
        self._engine.batch_failed(
            batch.batch_id, reason, detail, index=failure.index, now_ms=self._clock_ms()
        )
        await self._journal.commit()

    def _kill_soon(self, worker_id: str) -> None:
        async def kill() -> None:
            await asyncio.sleep(_KILL_AFTER_S)
            with contextlib.suppress(WorkerLost):  # it is dead already
                await self._pool.kill(worker_id)

        self._killer = asyncio.create_task(kill(), name=f"kill {worker_id}")
