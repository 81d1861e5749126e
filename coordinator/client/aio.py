"""The asynchronous client."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import aconnect_sse

from coordinator.answers import (
    AgentAnswer,
    BatchAnswer,
    CancelAnswer,
    ClaimAnswer,
    OperationAnswer,
    OperationPage,
    OutputAnswer,
    RegisteredAgent,
    TaskAnswer,
)
from coordinator.answers_admin import (
    AgentLine,
    ConfigAnswer,
    ConfigChange,
    EmergencyAnswer,
    HealthAnswer,
    OperationDetail,
    Scalar,
    StaleAnswer,
    StatusAnswer,
    TimelineAnswer,
    WorkersAnswer,
)
from coordinator.answers_console import ConsoleAnswer
from coordinator.answers_planner import ScalingAnswer
from coordinator.client import calls
from coordinator.client.calls import MAX_WAIT_S, Call
from coordinator.client.errors import Unreachable, WaitTimeout
from coordinator.client.events import ServerEvent, parse_event
from coordinator.client.retry import RETRY_STATUSES, RetryPolicy
from coordinator.client.trust import trusted
from coordinator.core.states import OperationState
from coordinator.submission import OperationBody

T = TypeVar("T")

#: Beyond the time that the server takes on purpose.
TIMEOUT_S = 30.0


class AsyncClient:
    """One server, one token. An async context manager; `close` otherwise.

    Every method raises `ApiError` (see `errors`) for a refusal and `Unreachable` when nothing was heard. What
    may be sent again is, by `retry`; 429 and 503 are waited out.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        retry: RetryPolicy | None = None,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`tls`: whom to trust with an https address, instead of the system's authorities."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, transport=transport, verify=trusted(url, tls)
        )
        self._retry = retry or RetryPolicy()
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # -- agents and tasks ------------------------------------------------------------------------------------

    async def register_agent(
        self, agent_id: str, *, agent_key: bytes, deposit_lamports: int = 0
    ) -> RegisteredAgent:
        """A new agent, with its token: keep it, it is not shown again."""
        return await self._run(calls.register_agent(agent_id, agent_key, deposit_lamports))

    async def agent(self, agent_id: str) -> AgentAnswer:
        """An agent's stake."""
        return await self._run(calls.agent(agent_id))

    async def deposit(self, agent_id: str, lamports: int) -> AgentAnswer:
        """Add to an agent's stake."""
        return await self._run(calls.move_stake(agent_id, "deposit", lamports))

    async def withdraw(self, agent_id: str, lamports: int) -> AgentAnswer:
        """Take from an agent's free stake."""
        return await self._run(calls.move_stake(agent_id, "withdraw", lamports))

    async def register_task(
        self,
        task_id: str,
        *,
        constraint_hash: bytes | None = None,
        depends_on: Sequence[str] = (),
        claim_ttl_s: float | None = None,
    ) -> TaskAnswer:
        """Make a task known; its constraint hash is enforced."""
        return await self._run(calls.register_task(task_id, constraint_hash, depends_on, claim_ttl_s))

    async def claim_task(self, task_id: str, *, agent_id: str | None = None) -> ClaimAnswer:
        """Hold a task for a while."""
        return await self._run(calls.claim_task(task_id, agent_id))

    # -- operations ------------------------------------------------------------------------------------------

    async def submit(self, operation: OperationBody) -> OperationAnswer:
        """Submit one operation; it is durable when this returns."""
        return await self._run(calls.submit(operation))

    async def submit_batch(self, operations: Sequence[OperationBody]) -> BatchAnswer:
        """Submit up to 10,000; a verdict for each, and no exception for a refused one."""
        return await self._run(calls.submit_batch(operations))

    async def operation(self, operation_id: str) -> OperationAnswer:
        """How an operation stands."""
        return await self._run(calls.operation(operation_id))

    async def operations(
        self,
        *,
        state: OperationState | None = None,
        agent_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> OperationPage:
        """A page of operations in order of admission."""
        return await self._run(calls.operations(state=state, agent_id=agent_id, limit=limit, cursor=cursor))

    async def cancel(self, operation_id: str) -> CancelAnswer:
        """Roll an operation back with its descendants."""
        return await self._run(calls.cancel(operation_id))

    async def output(self, operation_id: str, agent_id: str, *, wait_s: float = 0.0) -> OutputAnswer:
        """An operation's output for an agent.

        Raises:
            SpeculationDenied: not confirmed (within `wait_s`), and speculation on it is denied.
        """
        return await self._run(calls.output(operation_id, agent_id, wait_s=wait_s))

    async def wait(
        self, operation_id: str, state: OperationState = OperationState.CONFIRMED, *, timeout_s: float
    ) -> OperationAnswer:
        """The operation once it is in the state or a later one, or has ended in whatever way.

        Raises:
            WaitTimeout: it did not get there in time.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            left_s = max(deadline_s - loop.time(), 0.0)
            part_s = min(left_s, MAX_WAIT_S)
            operation = await self._run(calls.operation(operation_id, wait=state, timeout_s=part_s))
            if calls.is_reached(operation, state):
                return operation
            if left_s <= part_s:
                raise WaitTimeout(operation, state)

    async def receipt(self, operation_id: str, *, wire: str | None = None) -> dict[str, Any]:
        """The receipt of a confirmed operation; `wire` names another encoding of its proof, `agenc-pruned-1`."""
        return await self._run(calls.receipt(operation_id, wire=wire))

    async def events(self, *, after: int | None = None) -> AsyncIterator[ServerEvent]:
        """Every event from now on, or all after an id. Connects again, where it was, when the connection
        breaks.

        Raises:
            Unreachable: it could not be connected again within the retry policy.
        """
        failures = 0
        while True:
            failures += 1
            headers = {} if after is None else {"last-event-id": str(after)}
            try:
                async with aconnect_sse(
                    self._http, "GET", "/v1/events", headers=headers, timeout=self._timeout_s
                ) as source:
                    if source.response.status_code != 200:
                        calls.refuse(source.response.status_code, await source.response.aread())
                    async for message in source.aiter_sse():
                        failures = 0
                        event = parse_event(message)
                        after = event.seq
                        yield event
            except httpx.TransportError as error:
                pause_s = self._retry.pause_s(failures)
                if pause_s is None:
                    raise Unreachable(f"the event stream: {error!r}") from error
            else:
                # Ended by the server: we were too slow for it, or it is going.
                pause_s = self._retry.base_s
            await asyncio.sleep(pause_s)

    # -- operator --------------------------------------------------------------------------------------------

    async def health(self) -> HealthAnswer:
        """Liveness."""
        return await self._run(calls.health())

    async def status(self) -> StatusAnswer:
        """The system at a glance."""
        return await self._run(calls.status())

    async def config(self) -> ConfigAnswer:
        """Every configuration key."""
        return await self._run(calls.config())

    async def set_config(self, changes: Mapping[str, Scalar]) -> ConfigChange:
        """Change the configuration, all or nothing."""
        return await self._run(calls.set_config(changes))

    async def agents(self, *, limit: int = 100, cursor: str | None = None) -> list[AgentLine]:
        """A page of agents in order of registration."""
        return await self._run(calls.agents(limit=limit, cursor=cursor))

    async def operation_detail(self, operation_id: str) -> OperationDetail:
        """All that is known of an operation."""
        return await self._run(calls.operation_detail(operation_id))

    async def timeline(self, operation_id: str) -> TimelineAnswer:
        """An operation's transitions, oldest first."""
        return await self._run(calls.timeline(operation_id))

    async def console(self) -> ConsoleAnswer:
        """How the system stands, against the runbook's thresholds."""
        return await self._run(calls.console())

    async def workers(self) -> WorkersAnswer:
        """The proof workers."""
        return await self._run(calls.workers())

    async def scaling(self) -> ScalingAnswer:
        """What the autoscaler would do now, and why."""
        return await self._run(calls.scaling())

    async def timeout_stale(self, older_than_seconds: int) -> StaleAnswer:
        """Roll back what was admitted longer ago and is not confirmed."""
        return await self._run(calls.timeout_stale(older_than_seconds))

    async def emergency(
        self, action: str, *, force: bool = False, deadline_seconds: int = 30
    ) -> EmergencyAnswer:
        """Stop speculation."""
        return await self._run(calls.emergency(action, force=force, deadline_seconds=deadline_seconds))

    async def _run(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.request(
                    call.method,
                    call.path,
                    params=call.params,
                    content=call.content(),
                    headers={"content-type": "application/json"},
                    timeout=self._timeout_s + call.wait_s,
                )
            except httpx.TransportError as error:
                pause_s = self._retry.pause_s(attempt) if calls.may_repeat(call, error) else None
                if pause_s is None:
                    raise Unreachable(f"{call.method} {call.path}: {error!r}") from error
            else:
                pause_s = None
                if response.status_code in RETRY_STATUSES:
                    pause_s = self._retry.pause_s(attempt, retry_after=response.headers.get("retry-after"))
                if pause_s is None:
                    return call.parse(response.status_code, response.content)
            await asyncio.sleep(pause_s)
