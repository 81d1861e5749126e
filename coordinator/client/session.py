"""An agent at work: from the parents' outputs to a confirmed operation, over every rollback that is not its
fault.

After a timeout, a reorg or a drain the same result is submitted again under a new id; it is computed again
only if the output of a parent changed.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from coordinator.answers import OperationAnswer, OutputAnswer
from coordinator.client.aio import AsyncClient
from coordinator.client.errors import Conflict, RolledBack, SpeculationDenied
from coordinator.core.errors import ErrorCode
from coordinator.core.states import RETRYABLE_ROLLBACKS, OperationState, RollbackReason
from coordinator.submission import SALT_BYTES, OperationBody

#: One request's wait for a parent's output, repeated until it is there.
OUTPUT_WAIT_S = 30.0
#: Between looks at a parent that is being replaced.
PAUSE_S = 0.1
FOLLOW_S = 3_600.0

#: After these there is something to build on again: the same parents, or their replacements.
RESUBMITTED = RETRYABLE_ROLLBACKS | {RollbackReason.PARENT_ROLLED_BACK, RollbackReason.INVALID_STATE}


@dataclass(frozen=True, kw_only=True)
class Work:
    """One task: `execute` computes its output of the parents' outputs, given by the ids in `parents`."""

    operation_id: str
    task_id: str
    operation_type: str
    execute: Callable[[Mapping[str, bytes]], Awaitable[bytes]]
    parents: tuple[str, ...] = ()
    priority: int = 0


@dataclass(frozen=True)
class _Result:
    """An execution's output, its salt (kept, for the same commitment again), and what it was made of."""

    output: bytes
    salt: bytes
    made_of: tuple[str, ...]


class Session:
    """One agent's work over a client that holds its token; `secret` is the agent's, 24 bytes."""

    def __init__(self, client: AsyncClient, *, agent_id: str, secret: bytes, max_attempts: int = 10) -> None:
        self._client = client
        self._agent_id = agent_id
        self._secret = secret
        self._max_attempts = max_attempts

    async def run(self, work: Work) -> OperationAnswer:
        """The confirmed operation, however many submissions it takes (it waits for as long as that needs).

        Raises:
            RolledBack: it, or a parent, ended in a way that submitting again cannot mend, or too often.
            ApiError: a submission was refused.
        """
        latest = {parent: parent for parent in work.parents}
        result: _Result | None = None
        previous: str | None = None
        attempt = 0
        while True:
            inputs = {parent: await self._input(parent, latest) for parent in work.parents}
            result = await self._result(work, inputs, result)
            operation_id = work.operation_id if attempt == 0 else f"{work.operation_id[:120]}~{attempt}"
            body = self._body(work, operation_id, latest, inputs, result, previous)
            try:
                await self._client.submit(body)
            except Conflict as conflict:
                if not conflict.is_code(ErrorCode.UNKNOWN_PARENT):
                    raise
                # A parent was rolled back since we asked for its output.
                await asyncio.sleep(PAUSE_S)
                continue
            ended = await self._client.wait(operation_id, timeout_s=FOLLOW_S)
            if ended.state == OperationState.CONFIRMED:
                return ended
            attempt += 1
            if attempt >= self._max_attempts or ended.reason not in RESUBMITTED:
                raise RolledBack(ended)
            previous = operation_id

    async def _input(self, parent: str, latest: dict[str, str]) -> OutputAnswer:
        """The parent's output as soon as it is given, of its latest replacement."""
        while True:
            try:
                return await self._client.output(latest[parent], self._agent_id, wait_s=OUTPUT_WAIT_S)
            except SpeculationDenied:
                continue
            except Conflict as conflict:
                if not conflict.is_code(ErrorCode.UNKNOWN_PARENT):
                    raise
            ended = await self._client.operation(latest[parent])
            if ended.replaced_by is not None:
                latest[parent] = ended.replaced_by
            elif ended.reason in RESUBMITTED:
                await asyncio.sleep(PAUSE_S)
            else:
                raise RolledBack(ended)

    async def _result(
        self, work: Work, inputs: Mapping[str, OutputAnswer], before: _Result | None
    ) -> _Result:
        made_of = tuple(answer.output_commitment for answer in inputs.values())
        if before is not None and before.made_of == made_of:
            return before
        output = await work.execute({parent: answer.output for parent, answer in inputs.items()})
        return _Result(output, os.urandom(SALT_BYTES), made_of)

    def _body(
        self,
        work: Work,
        operation_id: str,
        latest: Mapping[str, str],
        inputs: Mapping[str, OutputAnswer],
        result: _Result,
        previous: str | None,
    ) -> OperationBody:
        return OperationBody(
            operation_id=operation_id,
            agent_id=self._agent_id,
            task_id=work.task_id,
            operation_type=work.operation_type,
            depends_on=tuple(latest[parent] for parent in work.parents),
            parent_outputs={latest[parent]: answer.output_commitment for parent, answer in inputs.items()},
            output=result.output,
            salt=result.salt,
            secret=self._secret,
            priority=work.priority,
            retry_of=previous,
        )
