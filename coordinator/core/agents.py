"""Agents, their lamports and delegations, tasks and claims."""

from coordinator.core.core import Core
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import (
    AgentRegistered,
    AgentTokenIssued,
    StakeDelegated,
    StakeDeposited,
    StakeWithdrawn,
    TaskClaimed,
    TaskRegistered,
)
from coordinator.core.operators import note
from coordinator.core.rollback import fail, return_batches
from coordinator.core.states import FailureCode, ReturnReason

#: Stands for an agent's key that a rebuild from the chain could not find: no secret's digest.
UNKNOWN_KEY = bytes(32)
#: How long a claim holds where the task does not say.
DEFAULT_CLAIM_TTL_MS = 600_000
#: Delegators of one agent: each of its bonds may have to look at all of them.
MAX_DELEGATORS = 100
#: More than any balance: the sum of all of them stays within 64 bits.
MAX_LAMPORTS = 1 << 53


def register_agent(
    core: Core,
    agent_id: str,
    *,
    agent_key: bytes,
    token_hash: bytes,
    deposit_lamports: int,
    now_ms: int,
) -> None:
    """A new agent, with its first deposit (which may be 0).

    Raises:
        CoreError: `id_conflict`, `invalid`.
    """
    if agent_id in core.state.agents:
        raise CoreError(ErrorCode.ID_CONFLICT, f"agent {agent_id!r} is registered", field="agent_id")
    _check_lamports(deposit_lamports, at_least=0, field="deposit_lamports")
    core.emit(AgentRegistered(now_ms, agent_id, agent_key, token_hash, deposit_lamports))


def _check_lamports(lamports: int, *, at_least: int, field: str) -> None:
    if not at_least <= lamports <= MAX_LAMPORTS:
        message = f"{lamports} lamports, must be {at_least} to {MAX_LAMPORTS}"
        raise CoreError(ErrorCode.INVALID, message, field=field)


def deposit(core: Core, agent_id: str, lamports: int, *, now_ms: int) -> None:
    """Lamports come in.

    Raises:
        CoreError: `unknown_agent`, `invalid`.
    """
    core.agent(agent_id)
    _check_lamports(lamports, at_least=1, field="lamports")
    core.emit(StakeDeposited(now_ms, agent_id, lamports))


def issue_token(
    core: Core, agent_id: str, *, agent_key: bytes | None, token_hash: bytes, by: str, now_ms: int
) -> None:
    """Another token for an agent, by an operator; a key too where a rebuild could not find it, and only there.

    Raises:
        CoreError: `unknown_agent`, `invalid` (the key is known, or is needed).
    """
    agent = core.agent(agent_id)
    lost = agent.agent_key == UNKNOWN_KEY
    if lost is (agent_key is None):
        message = "the key was lost: name it" if lost else "the agent's key is known and cannot be changed"
        raise CoreError(ErrorCode.INVALID, message, field="agent_key")
    core.emit(AgentTokenIssued(now_ms, agent_id, agent_key or agent.agent_key, token_hash))
    note(core, "issue_token", before={}, after={"agent_id": agent_id}, by=by, now_ms=now_ms)


def withdraw(core: Core, agent_id: str, lamports: int, *, now_ms: int) -> None:
    """Free lamports go out.

    Raises:
        CoreError: `unknown_agent`, `invalid`, `stake_insufficient`.
    """
    agent = core.agent(agent_id)
    _check_lamports(lamports, at_least=1, field="lamports")
    if lamports > agent.free_lamports:
        message = f"{agent.free_lamports} lamports are free, {agent.bonded_lamports} are bonded"
        raise CoreError(ErrorCode.STAKE_INSUFFICIENT, message, field="lamports")
    core.emit(StakeWithdrawn(now_ms, agent_id, lamports))


def delegate(core: Core, delegator_id: str, agent_id: str, cap_lamports: int, *, now_ms: int) -> None:
    """Let another agent bond up to `cap_lamports` of the delegator's balance; 0 revokes, once bonds have returned.

    Raises:
        CoreError: `unknown_agent`, `invalid`.
    """
    core.agent(delegator_id)
    agent = core.agent(agent_id)
    if delegator_id == agent_id:
        raise CoreError(ErrorCode.INVALID, "an agent bonds for itself anyway", field="agent_id")
    _check_lamports(cap_lamports, at_least=0, field="cap_lamports")
    known = agent.delegators.get(delegator_id)
    if known is None and cap_lamports and len(agent.delegators) >= MAX_DELEGATORS:
        message = f"{agent_id!r} has {MAX_DELEGATORS} delegators, the most"
        raise CoreError(ErrorCode.INVALID, message, field="agent_id")
    if cap_lamports != (0 if known is None else known.cap_lamports):
        core.emit(StakeDelegated(now_ms, delegator_id, agent_id, cap_lamports))


def register_task(
    core: Core,
    task_id: str,
    *,
    constraint_hash: bytes | None,
    depends_on: tuple[str, ...],
    claim_ttl_ms: int | None,
    now_ms: int,
) -> None:
    """Make a task known; a constraint hash is enforced from now on, also on operations that were admitted before:
    those with another one fail by their own fault. The same again changes nothing; a hash may be added later.

    Raises:
        CoreError: `id_conflict`, `cycle`, `task_confirmed` (with another output than the one asked for).
    """
    state = core.state
    if task_id in depends_on:
        raise CoreError(ErrorCode.CYCLE, f"task {task_id!r} would depend on itself", field="depends_on")
    known = state.tasks.get(task_id)
    if known is not None:
        asked = (constraint_hash, depends_on, claim_ttl_ms)
        if asked == (known.constraint_hash, known.depends_on, known.claim_ttl_ms):
            return
        if known.constraint_hash not in (None, constraint_hash):
            message = f"task {task_id!r} is registered with another constraint hash"
            raise CoreError(ErrorCode.ID_CONFLICT, message, field="constraint_hash")
    confirmed = state.ended.get(state.confirmed_tasks.get(task_id, ""))
    if confirmed is not None and constraint_hash not in (None, confirmed.constraint_hash):
        message = f"task {task_id!r} was confirmed with another output"
        raise CoreError(ErrorCode.TASK_CONFIRMED, message, field="constraint_hash")
    core.emit(TaskRegistered(now_ms, task_id, constraint_hash, depends_on, claim_ttl_ms))
    if constraint_hash is not None:
        _enforce(core, task_id, constraint_hash, now_ms=now_ms)


def _enforce(core: Core, task_id: str, constraint_hash: bytes, *, now_ms: int) -> None:
    detail = f"task {task_id!r} asks for another output"
    guilty = [
        (operation, FailureCode.CONSTRAINT_MISMATCH, detail)
        for operation in core.live(core.state.task_live.get(task_id, ()))
        if operation.constraint_hash != constraint_hash
    ]
    lost = fail(core, guilty, now_ms=now_ms)
    return_batches(core, lost, ReturnReason.MEMBER_LOST, detail=detail, now_ms=now_ms)
    core.move_breaker(now_ms=now_ms)


def claim_task(core: Core, task_id: str, agent_id: str, *, now_ms: int) -> int:
    """Hold a task against others until the claim expires; claiming again renews it.

    Returns:
        When it expires, in milliseconds since the epoch.

    Raises:
        CoreError: `unknown_agent`, `unknown_task`, `task_confirmed`, `task_claimed`.
    """
    core.agent(agent_id)
    task = core.state.tasks.get(task_id)
    if task is None:
        raise CoreError(ErrorCode.UNKNOWN_TASK, f"task {task_id!r} is not registered", field="task_id")
    if task_id in core.state.confirmed_tasks:
        raise CoreError(ErrorCode.TASK_CONFIRMED, f"task {task_id!r} is done", field="task_id")
    if task.claimed_by not in (None, agent_id) and now_ms < task.claim_expires_ms:
        raise CoreError(ErrorCode.TASK_CLAIMED, f"{task.claimed_by!r} holds the claim", field="task_id")
    ttl_ms = DEFAULT_CLAIM_TTL_MS if task.claim_ttl_ms is None else task.claim_ttl_ms
    core.emit(TaskClaimed(now_ms, task_id, agent_id, now_ms + ttl_ms))
    return now_ms + ttl_ms
