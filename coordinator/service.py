"""The shell around the core: everything a request or a loop may do, each with its decision made durable first.

    opening      open the log, fold it, open the chain, start the workers, resume what was under way
    serving      the methods below: ask the core, commit, answer
    loops        proving, posting, settling, housekeeping (coordinator/shell/)

All methods run on the one event loop; hashing, disk and chain run in threads.
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple, Self

from coordinator import simulation
from coordinator.answers_planner import SimulateAnswer, SimulateBody
from coordinator.chain.faults import NO_FAULTS, FaultPlan
from coordinator.chain.interface import Chain
from coordinator.core.commands import Outcome, Submission
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import Event
from coordinator.core.records import Operation
from coordinator.core.states import Denial, OperationState
from coordinator.core.stuck import StakeRecovery
from coordinator.pipeline import AdmissionTimes
from coordinator.settings import Scalar, Settings
from coordinator.shell import assembly, bundling, hashing, integrity, receipts, statements
from coordinator.shell.assembly import Parts
from coordinator.shell.bundling import Bundling
from coordinator.shell.machine import Machine
from coordinator.shell.profiling import Profile, Profiler
from coordinator.shell.tracing import open_tracing
from coordinator.store.witnesses import Witness
from coordinator.submission import NewOperation, SubmitResult
from workers.batch_proof import Wire
from workers.statement import Commitments

WORKER_THREADS = "speculation.proof.worker_threads"

_RECHECK_S = 0.25
"""How often a waiting reader's decision is made anew while nothing it waits for has moved."""


class SpeculationDenied(Exception):
    """The parent is not confirmed, and speculation on it is not granted to this agent now."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.value)
        self.denial = denial


class OutputAnswer(NamedTuple):
    """An operation's output; `final` once it is confirmed."""

    output: bytes
    output_commitment: bytes
    final: bool


class Service:
    """One coordinator. Made by `open`, ended by `close`."""

    def __init__(self, settings: Settings, parts: Parts, *, clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self._parts = parts
        self._clock_ms = clock_ms
        self._agents_by_token: dict[bytes, str] = {}
        self._hasher = hashing.GroupHasher(parts.domain)
        self.admissions = AdmissionTimes()
        self.profiler = Profiler(workers=parts.pool, clock_ms=clock_ms)
        self._tracing = open_tracing(
            settings,
            state=lambda: self.engine.state,
            operations_of=lambda event: self._parts.journal.operations_of(event),
        )

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        faults: FaultPlan = NO_FAULTS,
        chain_tasks: Mapping[str, bytes] | None = None,
        clock_ms: Callable[[], int],
        machine: Machine | None = None,
    ) -> Self:
        """Opens the data folder and starts everything. `chain_tasks` (task id → constraint hash) are known to the
        local chain alone: a fault on demand. `machine` None: the real one.

        Raises:
            StoreError, ChainError: the data folder cannot be used.
            StartError: Ray or the workers' endpoint cannot start.
        """
        parts = await assembly.assemble(
            settings,
            faults=faults,
            chain_tasks=chain_tasks or {},
            clock_ms=clock_ms,
            machine=machine or Machine(),
        )
        service = cls(settings, parts, clock_ms=clock_ms)
        service._index_tokens()
        parts.on_taken_up(service._index_tokens)
        if service._tracing is not None:
            parts.journal.listen(service._tracing.hear)
        if machine is None:
            folder = Path(settings.text("data_dir")) / bundling.FOLDER
            generator = settings.text("speculation.proof.generator")
            parts.proving.bundling = Bundling(folder, generator=generator, clock_ms=clock_ms)
        parts.start()
        return service

    async def close(self) -> None:
        """Stops the loops, the workers and Ray, and closes the files. Idempotent."""
        await self.profiler.stop()
        await self._parts.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    # -- what others look at ------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The core: its state is for reading."""
        return self._parts.engine

    @property
    def chain(self) -> Chain:
        """The chain; its calls block."""
        return self._parts.chain

    @property
    def parts(self) -> Parts:
        """The loops and stores, for views and tests."""
        return self._parts

    @property
    def read_only(self) -> str | None:
        """Why nothing can be written, or None."""
        return self._parts.journal.read_only

    def now_ms(self) -> int:
        """The clock that decisions are made with, milliseconds since the epoch."""
        return self._clock_ms()

    # -- agents and tasks ---------------------------------------------------------------------------------------------

    async def register_agent(self, agent_id: str, agent_key: bytes, deposit_lamports: int) -> str:
        """The new agent's token, which is not kept and cannot be shown again."""
        self._require_writable()
        token = self._parts.machine.new_token()
        token_hash = _token_hash(token)
        self.engine.register_agent(
            agent_id,
            agent_key=agent_key,
            token_hash=token_hash,
            deposit_lamports=deposit_lamports,
            now_ms=self._clock_ms(),
        )
        await self._commit()
        self._agents_by_token[token_hash] = agent_id
        return token

    async def issue_token(self, agent_id: str, agent_key: bytes | None, by: str) -> str:
        """Another token for an agent that lost its own, which is void from now on."""
        self._require_writable()
        token = self._parts.machine.new_token()
        self.engine.issue_token(
            agent_id, agent_key=agent_key, token_hash=_token_hash(token), by=by, now_ms=self._clock_ms()
        )
        await self._commit()
        self._index_tokens()
        return token

    def agent_for_token(self, token: str) -> str | None:
        """The agent that holds a token. Looked up by its hash, so that timing tells nothing about tokens."""
        return self._agents_by_token.get(_token_hash(token))

    async def deposit(self, agent_id: str, lamports: int) -> None:
        """Adds to an agent's free balance."""
        self._require_writable()
        self.engine.deposit(agent_id, lamports, now_ms=self._clock_ms())
        await self._commit()

    async def withdraw(self, agent_id: str, lamports: int) -> None:
        """Takes from an agent's free balance; bonded stake cannot leave."""
        self._require_writable()
        self.engine.withdraw(agent_id, lamports, now_ms=self._clock_ms())
        await self._commit()

    async def delegate(self, delegator_id: str, agent_id: str, cap_lamports: int) -> None:
        """Lets an agent bond on the delegator's balance, up to the cap."""
        self._require_writable()
        self.engine.delegate(delegator_id, agent_id, cap_lamports, now_ms=self._clock_ms())
        await self._commit()

    async def register_task(
        self,
        task_id: str,
        constraint_hash: bytes | None,
        depends_on: Sequence[str],
        claim_ttl_s: float | None,
    ) -> None:
        """Makes a task known here and on chain; its constraint hash is enforced from now on."""
        self._require_writable()
        ttl_ms = None if claim_ttl_s is None else round(claim_ttl_s * 1000)
        self.engine.register_task(
            task_id,
            constraint_hash=constraint_hash,
            depends_on=tuple(depends_on),
            claim_ttl_ms=ttl_ms,
            now_ms=self._clock_ms(),
        )
        await self._commit()

    async def claim_task(self, task_id: str, agent_id: str) -> int:
        """When the claim expires, milliseconds since the epoch."""
        self._require_writable()
        expires_ms = self.engine.claim_task(task_id, agent_id, now_ms=self._clock_ms())
        await self._commit()
        return expires_ms

    # -- operations ---------------------------------------------------------------------------------------------------

    async def submit(self, operations: Sequence[NewOperation]) -> list[SubmitResult]:
        """A verdict for each operation, in order; acknowledged ones survive anything."""
        self._require_writable()
        began_s = time.perf_counter()
        digests = [statements.content_digest(operation) for operation in operations]
        staged: dict[str, bytes] = {}
        commitments = None
        if statements.has_children_within(operations):
            commitments = await asyncio.to_thread(statements.commitments_of, operations)
            ids = [operation.operation_id for operation in operations]
            staged = dict(zip(ids, commitments.digests(), strict=True))
        results: dict[int, SubmitResult] = {}
        prepared: list[tuple[int, statements.Prepared]] = []
        for at, (operation, digest) in enumerate(zip(operations, digests, strict=True)):
            known = self._known(operation.operation_id, digest)
            item = known or statements.prepare(self.engine, operation, digest, staged)
            if isinstance(item, statements.Prepared):
                prepared.append((at, item))
            else:
                results[at] = _result(operation.operation_id, item)
        if commitments is not None and results:
            commitments = commitments.take([at for at, _ in prepared])
        submissions = await self._submissions([item for _, item in prepared], commitments)
        self._require_writable()
        verdicts = self.engine.submit(submissions, now_ms=self._clock_ms())
        witnesses = []
        for (at, item), verdict in zip(prepared, verdicts, strict=True):
            results[at] = SubmitResult(
                operation_id=verdict.operation_id, created=verdict.created, error=verdict.error
            )
            if verdict.created:
                operation = item.operation
                witnesses.append(
                    Witness(operation.operation_id, operation.output, operation.salt, operation.secret)
                )
        await self._commit(witnesses)
        self.admissions.add(at_ms=self._clock_ms(), took_s=time.perf_counter() - began_s)
        return [results[at] for at in range(len(operations))]

    async def _submissions(
        self, prepared: Sequence[statements.Prepared], commitments: Commitments | None
    ) -> list[Submission]:
        if len(prepared) == 1 and len(prepared[0].operation.output) <= hashing.MAX_OUTPUT_BYTES:
            return [await self._hasher.submission(prepared[0])]
        return await asyncio.to_thread(statements.submissions_of, self._parts.domain, prepared, commitments)

    def _known(self, operation_id: str, digest: bytes) -> CoreError | bool | None:
        """True for the same operation again, an error for an id with other content, None for a new one."""
        state = self.engine.state
        found = state.live.get(operation_id) or state.ended.get(operation_id)
        if found is None:
            return None
        if found.content_digest == digest:
            return True
        return CoreError(ErrorCode.ID_CONFLICT, f"{operation_id} is an operation with other content")

    def operation(self, operation_id: str) -> Operation:
        """The record of an operation. Raises unknown_operation."""
        return self.engine.state.operation(operation_id)

    async def wait_operation(
        self, operation_id: str, states: AbstractSet[OperationState], timeout_s: float
    ) -> Operation:
        """The operation once it is in one of the states, or has ended, or as it is when the time is over."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            operation = self.operation(operation_id)
            left_s = deadline_s - loop.time()
            if operation.state in states or operation.terminal or left_s <= 0:
                return operation
            await self._parts.journal.changed(operation_id, timeout_s=left_s)

    async def output(self, operation_id: str, agent_id: str, wait_s: float) -> OutputAnswer:
        """An operation's output for an agent that wants to build on it.

        Raises:
            SpeculationDenied: it is not confirmed, and the agent may not speculate on it.
            CoreError: unknown_operation, unknown_agent, unknown_parent (it ended without confirmation).
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while True:
            decision = self.engine.output_decision(agent_id, operation_id, now_ms=self._clock_ms())
            if decision.final or decision.granted:
                return await self._output(operation_id, final=decision.final)
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                assert decision.denial is not None, "what is neither final nor granted is denied"
                raise SpeculationDenied(decision.denial)
            await self._parts.journal.changed(operation_id, timeout_s=min(left_s, _RECHECK_S))

    async def _output(self, operation_id: str, *, final: bool) -> OutputAnswer:
        commitment = self.engine.state.commitment_of(operation_id)
        output = await asyncio.to_thread(self._parts.log.witnesses.output, operation_id)
        if commitment is None or output is None:
            raise CoreError(ErrorCode.UNKNOWN_OPERATION, f"the output of {operation_id} is not kept")
        return OutputAnswer(output, commitment, final)

    async def receipt(self, operation_id: str, wire: Wire = Wire.PLAIN) -> dict[str, Any]:
        """The receipt of a confirmed operation, its proof in that encoding. Raises not_confirmed."""
        parts = self._parts
        return await receipts.receipt(self.engine, parts.log.proofs, parts.domain, operation_id, wire=wire)

    async def cancel(self, operation_id: str) -> tuple[str, ...]:
        """Cancels an operation with its descendants; the ids rolled back, descendants first."""
        self._require_writable()
        ended = self.engine.cancel(operation_id, now_ms=self._clock_ms())
        await self._commit()
        return ended

    def events(self, after: int | None) -> AsyncIterator[tuple[int, Event]]:
        """Durable events as they come, all after a sequence number where one is given."""
        return self._parts.journal.events(after)

    # -- the operator's commands --------------------------------------------------------------------------------------

    async def set_config(self, changes: Mapping[str, Scalar], by: str) -> dict[str, dict[str, Scalar]]:
        """Changes runtime configuration, all or nothing; the effective values before and after."""
        self._require_writable()
        validated = self.settings.validate_changes(changes)
        before = {key: self._scalar(key) for key in changes}
        self.engine.set_config(validated, by=by, now_ms=self._clock_ms())
        self.settings.set_overrides(self.engine.state.overrides)
        self.engine.config = assembly.core_config(self.settings)
        await self._commit()
        if WORKER_THREADS in changes:  # other changes leave the autoscaler's number alone
            self._parts.scaling.hold()
            await self._parts.pool.resize(self.settings.integer(WORKER_THREADS))
        self._parts.proving.wake()
        return {"before": before, "after": {key: self._scalar(key) for key in changes}}

    def _scalar(self, key: str) -> Scalar:
        value = self.settings.effective(key)
        return ", ".join(value) if isinstance(value, tuple) else value

    async def emergency(self, action: str, *, force: bool, deadline_seconds: float, by: str) -> Outcome:
        """Drains or disables speculation; see the runbook."""
        self._require_writable()
        outcome = self.engine.emergency(
            action, force=force, deadline_s=round(deadline_seconds), by=by, now_ms=self._clock_ms()
        )
        await self._commit()
        return outcome

    async def clear_queue(self, by: str) -> tuple[int, int]:
        """Discards batches that are not on their way to the chain, never operations.

        Returns:
            (batches discarded, operations held until the next tick).
        """
        self._require_writable()
        cleared = self.engine.clear_queue(by=by, now_ms=self._clock_ms())
        await self._commit()
        return cleared

    async def timeout_stale(self, older_than_seconds: float, by: str) -> Outcome:
        """Rolls back what was admitted long ago and is not confirmed."""
        self._require_writable()
        outcome = self.engine.timeout_stale(round(older_than_seconds), by=by, now_ms=self._clock_ms())
        await self._commit()
        return outcome

    async def recover_stake(
        self, agent_ids: Sequence[str] | None, by: str
    ) -> dict[str, StakeRecovery | CoreError]:
        """Frees stuck stake of these agents, or of all; a verdict for each."""
        self._require_writable()
        verdicts = self.engine.recover_stake(agent_ids, by=by, now_ms=self._clock_ms())
        await self._commit()
        return verdicts

    def simulation(self, body: SimulateBody) -> Callable[[], SimulateAnswer]:
        """A what-if, to be asked in a thread: what it needs of the running system is copied here.

        Raises:
            CoreError: as a change of these settings would.
        """
        changes = self.settings.validate_changes(body.settings)
        config = assembly.core_config(self.settings.with_changes(changes))
        measured = simulation.Measured(self.engine.state, config)
        workers = max(1, len(self._parts.pool.workers()))
        return functools.partial(simulation.simulate, body, config=config, measured=measured, workers=workers)

    async def reset_breaker(self, by: str) -> None:
        """Closes the circuit breaker and empties its window."""
        self._require_writable()
        self.engine.reset_breaker(by=by, now_ms=self._clock_ms())
        await self._commit()

    async def start_profile(self, *, worker: str | None, duration_seconds: int, by: str) -> Profile:
        """Begins a profile of the coordinator or of a worker. Raises profile_running, not_found.

        A log that cannot be written does not keep it from being taken; then only the log lines tell of it.
        """
        profile = self.profiler.start(worker=worker, duration_s=duration_seconds)
        after = {"target": profile.target, "duration_seconds": duration_seconds}
        if self.read_only is None:
            self.engine.note("profile", before={}, after=after, by=by, now_ms=self._clock_ms())
            await self._commit()
        return profile

    # -- views --------------------------------------------------------------------------------------------------------

    async def note(
        self, action: str, *, before: Mapping[str, Scalar], after: Mapping[str, Scalar], by: str
    ) -> None:
        """Keeps what an operator did that changes no state of the core, for the audit."""
        self._require_writable()
        self.engine.note(action, before=dict(before), after=dict(after), by=by, now_ms=self._clock_ms())
        await self._commit()

    async def integrity(self) -> dict[str, Any]:
        """The log's hashes, the invariants, and the agreement with the chain."""
        return await integrity.check_all(self._parts)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _require_writable(self) -> None:
        self._parts.journal.require_writable()

    async def _commit(self, witnesses: Sequence[Witness] = ()) -> None:
        await self._parts.journal.commit(witnesses=witnesses)

    def _index_tokens(self) -> None:
        self._agents_by_token = {
            agent.token_hash: agent.agent_id for agent in self.engine.state.agents.values()
        }


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _result(operation_id: str, outcome: CoreError | bool) -> SubmitResult:
    error = outcome if isinstance(outcome, CoreError) else None
    return SubmitResult(operation_id=operation_id, created=False, error=error)
