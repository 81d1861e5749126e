"""The API's calls as data: what is sent, what comes back. Both clients carry out the same ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from coordinator.answers import (
    AgentAnswer,
    AgentBody,
    BatchAnswer,
    BatchBody,
    CancelAnswer,
    ClaimAnswer,
    ClaimBody,
    LamportsBody,
    OperationAnswer,
    OperationPage,
    OutputAnswer,
    RegisteredAgent,
    TaskAnswer,
    TaskBody,
)
from coordinator.answers_admin import (
    AgentLine,
    ConfigAnswer,
    ConfigChange,
    EmergencyAnswer,
    EmergencyBody,
    HealthAnswer,
    OperationDetail,
    Scalar,
    StaleAnswer,
    StaleBody,
    StatusAnswer,
    TimelineAnswer,
    WorkersAnswer,
)
from coordinator.answers_console import ConsoleAnswer
from coordinator.answers_planner import ScalingAnswer
from coordinator.client.errors import ApiError, Unreachable, api_error
from coordinator.core.states import OperationState
from coordinator.submission import OperationBody
from coordinator.waiting import reached_states

T = TypeVar("T")

#: The server waits at most so long in one request; a longer wait is made of several.
MAX_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request and the type of its answer.

    `repeatable`: carrying it out twice is carrying it out once, so it may be sent again when nothing was
    heard. `wait_s`: how long the server may take on purpose.
    """

    method: str
    path: str
    answer: type[T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    repeatable: bool = True
    wait_s: float = 0.0

    def content(self) -> bytes | None:
        """The body as JSON."""
        return None if self.body is None else msgspec.json.encode(self.body)

    def parse(self, status: int, content: bytes) -> T:
        """The answer.

        Raises:
            ApiError: the server refused.
            Unreachable: this is no answer of the API (a proxy's page, say).
        """
        try:
            if status >= 400:
                raise _parse_error(status, content)
            return msgspec.json.decode(content, type=self.answer)
        except ValueError as error:
            message = f"{self.method} {self.path}: HTTP {status} without this API's JSON ({error})"
            raise Unreachable(message) from None


class _ErrorBody(msgspec.Struct):
    code: str
    message: str
    detail: dict[str, Any]


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


def _parse_error(status: int, content: bytes) -> ApiError:
    body = msgspec.json.decode(content, type=_ErrorAnswer).error
    return api_error(status, body.code, body.message, body.detail)


def is_reached(operation: OperationAnswer, state: OperationState) -> bool:
    """Whether a wait for the state is over."""
    return OperationState(operation.state) in reached_states(state)


def refuse(status: int, content: bytes) -> NoReturn:
    """Raise what a refusal says, outside of a call (an event stream).

    Raises:
        ApiError: the server refused.
        Unreachable: this is no answer of the API.
    """
    try:
        raise _parse_error(status, content)
    except ValueError:
        raise Unreachable(f"HTTP {status} without this API's JSON") from None


def may_repeat(call: Call[Any], error: httpx.TransportError) -> bool:
    """Whether to send it again: it changes nothing the second time, or never left."""
    never_left = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return call.repeatable or never_left


def _segment(name: str) -> str:
    return quote(name, safe="")


def register_agent(agent_id: str, agent_key: bytes, deposit_lamports: int) -> Call[RegisteredAgent]:
    """Not repeatable: the token of a registration that was carried out unheard is lost."""
    body = AgentBody(agent_id=agent_id, agent_key=agent_key.hex(), deposit_lamports=deposit_lamports)
    return Call(method="POST", path="/v1/agents", answer=RegisteredAgent, body=body, repeatable=False)


def agent(agent_id: str) -> Call[AgentAnswer]:
    """An agent's stake."""
    return Call(method="GET", path=f"/v1/agents/{_segment(agent_id)}", answer=AgentAnswer)


def move_stake(agent_id: str, direction: str, lamports: int) -> Call[AgentAnswer]:
    """`direction`: deposit or withdraw. Not repeatable: each adds up."""
    path = f"/v1/agents/{_segment(agent_id)}/{direction}"
    body = LamportsBody(lamports=lamports)
    return Call(method="POST", path=path, answer=AgentAnswer, body=body, repeatable=False)


def register_task(
    task_id: str, constraint_hash: bytes | None, depends_on: Sequence[str], claim_ttl_s: float | None
) -> Call[TaskAnswer]:
    """A task with the constraint that it enforces."""
    body = TaskBody(
        task_id=task_id,
        constraint_hash=None if constraint_hash is None else constraint_hash.hex(),
        depends_on=tuple(depends_on),
        claim_ttl_s=claim_ttl_s,
    )
    return Call(method="POST", path="/v1/tasks", answer=TaskAnswer, body=body)


def claim_task(task_id: str, agent_id: str | None) -> Call[ClaimAnswer]:
    """The token's agent, unless an operator names one."""
    path = f"/v1/tasks/{_segment(task_id)}/claim"
    return Call(method="POST", path=path, answer=ClaimAnswer, body=ClaimBody(agent_id=agent_id))


def submit(operation: OperationBody) -> Call[OperationAnswer]:
    """Repeatable: the same id with the same content is the same operation."""
    return Call(method="POST", path="/v1/operations", answer=OperationAnswer, body=operation)


def submit_batch(operations: Sequence[OperationBody]) -> Call[BatchAnswer]:
    """Up to 10,000, parents before their children."""
    body = BatchBody(operations=tuple(operations))
    return Call(method="POST", path="/v1/operations/batch", answer=BatchAnswer, body=body)


def operation(
    operation_id: str, *, wait: OperationState | None = None, timeout_s: float = 0.0
) -> Call[OperationAnswer]:
    """How an operation stands; with `wait`, once it is there or the time is over."""
    params = {} if wait is None else {"wait": wait.value, "timeout": f"{timeout_s:.3f}"}
    path = f"/v1/operations/{_segment(operation_id)}"
    return Call(method="GET", path=path, answer=OperationAnswer, params=params, wait_s=timeout_s)


def operations(
    *, state: OperationState | None, agent_id: str | None, limit: int, cursor: str | None
) -> Call[OperationPage]:
    """A page of operations."""
    given = {"state": state, "agent": agent_id, "limit": str(limit), "cursor": cursor}
    params = {name: str(value) for name, value in given.items() if value is not None}
    return Call(method="GET", path="/v1/operations", answer=OperationPage, params=params)


def cancel(operation_id: str) -> Call[CancelAnswer]:
    """Not repeatable: what is cancelled already cannot be cancelled."""
    path = f"/v1/operations/{_segment(operation_id)}"
    return Call(method="DELETE", path=path, answer=CancelAnswer, repeatable=False)


def output(operation_id: str, agent_id: str, *, wait_s: float = 0.0) -> Call[OutputAnswer]:
    """The speculation decision."""
    params = {"agent": agent_id, "wait": f"{wait_s:.3f}"}
    path = f"/v1/operations/{_segment(operation_id)}/output"
    return Call(method="GET", path=path, answer=OutputAnswer, params=params, wait_s=wait_s)


def receipt(operation_id: str, *, wire: str | None = None) -> Call[dict[str, Any]]:
    """What `agenc verify` needs; `wire` names another encoding of the proof than the plain one."""
    path = f"/v1/operations/{_segment(operation_id)}/proof"
    params = {} if wire is None else {"wire": wire}
    return Call(method="GET", path=path, answer=dict[str, Any], params=params)


def health() -> Call[HealthAnswer]:
    """Liveness."""
    return Call(method="GET", path="/health", answer=HealthAnswer)


def status() -> Call[StatusAnswer]:
    """The system at a glance."""
    return Call(method="GET", path="/admin/status", answer=StatusAnswer)


def config() -> Call[ConfigAnswer]:
    """Every configuration key."""
    return Call(method="GET", path="/admin/config", answer=ConfigAnswer)


def set_config(changes: Mapping[str, Scalar]) -> Call[ConfigChange]:
    """All or nothing; None takes a runtime value back."""
    return Call(method="POST", path="/admin/config", answer=ConfigChange, body=dict(changes))


def agents(*, limit: int, cursor: str | None) -> Call[list[AgentLine]]:
    """A page of agents in order of registration; the cursor is the place of the last one seen."""
    given = {"limit": str(limit), "cursor": cursor}
    params = {name: value for name, value in given.items() if value is not None}
    return Call(method="GET", path="/admin/agents", answer=list[AgentLine], params=params)


def operation_detail(operation_id: str) -> Call[OperationDetail]:
    """All that is known of an operation."""
    path = f"/admin/operation/{_segment(operation_id)}"
    return Call(method="GET", path=path, answer=OperationDetail)


def timeline(operation_id: str) -> Call[TimelineAnswer]:
    """An operation's transitions."""
    path = f"/admin/operation/{_segment(operation_id)}/timeline"
    return Call(method="GET", path=path, answer=TimelineAnswer)


def console() -> Call[ConsoleAnswer]:
    """How the system stands, against the runbook's thresholds."""
    return Call(method="GET", path="/admin/console", answer=ConsoleAnswer)


def workers() -> Call[WorkersAnswer]:
    """The proof workers."""
    return Call(method="GET", path="/admin/workers", answer=WorkersAnswer)


def scaling() -> Call[ScalingAnswer]:
    """The autoscaler's decision now."""
    return Call(method="GET", path="/admin/scaling", answer=ScalingAnswer)


def timeout_stale(older_than_seconds: int) -> Call[StaleAnswer]:
    """Rolls back what was admitted longer ago."""
    path = "/admin/operations/timeout-stale"
    return Call(
        method="POST", path=path, answer=StaleAnswer, body=StaleBody(older_than_seconds=older_than_seconds)
    )


def emergency(action: str, *, force: bool, deadline_seconds: int) -> Call[EmergencyAnswer]:
    """`drain_speculation` or `disable_speculation`."""
    body = msgspec.convert(
        {"action": action, "force": force, "deadline_seconds": deadline_seconds}, EmergencyBody
    )
    return Call(method="POST", path="/admin/emergency", answer=EmergencyAnswer, body=body)
