"""From the core's records to the API's JSON."""

from typing import Any

import msgspec

from coordinator.answers import AgentAnswer, OperationAnswer, SpeculationAnswer, StatementAnswer
from coordinator.core.config import CoreConfig
from coordinator.core.events import Event
from coordinator.core.records import Agent, Operation
from coordinator.core.speculation import COMMITTED, GRANTED, in_rollout
from coordinator.http.wire import rfc3339

#: Fields of events that stay inside.
_HIDDEN = frozenset({"token_hash", "content_digest"})


def agent_view(agent: Agent, config: CoreConfig) -> AgentAnswer:
    """An agent's stake as `/v1/agents/{id}` shows it."""
    return AgentAnswer(
        agent_id=agent.agent_id,
        agent_key=agent.agent_key.hex(),
        balance_lamports=agent.balance_lamports,
        bonded_lamports=agent.bonded_lamports,
        slashed_lamports=agent.slashed_lamports,
        cooldown_until=rfc3339(agent.cooldown_until_ms) if agent.cooldown_until_ms else None,
        in_rollout=in_rollout(agent, config),
    )


def operation_view(operation: Operation) -> OperationAnswer:
    """An operation as it stands."""
    timeline = operation.timeline
    return OperationAnswer(
        operation_id=operation.operation_id,
        state=operation.state,
        depth=operation.depth,
        speculation=speculation_view(operation),
        statement=StatementAnswer(
            constraint_hash=operation.constraint_hash.hex(),
            output_commitment=operation.output_commitment.hex(),
            nullifier=operation.nullifier.hex(),
            agent_key=operation.agent_key.hex(),
            public_digest=operation.public_digest.hex(),
            binding=operation.binding.hex(),
        ),
        agent_id=operation.agent_id,
        task_id=operation.task_id,
        operation_type=operation.operation_type,
        depends_on=operation.parents,
        reason=operation.reason,
        batch_id=operation.batch_id,
        submitted_at=rfc3339(operation.admitted_at_ms),
        updated_at=rfc3339(timeline[-1][0]),
        priority=operation.priority,
        deadline=None if operation.deadline_ms is None else rfc3339(operation.deadline_ms),
        retry_of=operation.retry_of,
        replaced_by=operation.replaced_by,
    )


def speculation_view(operation: Operation) -> SpeculationAnswer:
    """The decision at admission: granted on unconfirmed parents, or the rule that denied it or the bond."""
    decision = operation.decision
    granted = operation.depth > 0 and decision is not None and decision.denial is None
    favourable = decision is None or decision.rule in (GRANTED, COMMITTED)
    return SpeculationAnswer(
        granted=granted,
        reason=None if favourable or decision is None else decision.rule,
        stake_lamports=operation.bond_lamports,
    )


def event_view(event: Event) -> dict[str, Any]:
    """An event with its fields by name, digests in hex and its time as RFC 3339."""
    fields = {name: value for name, value in _by_name(event).items() if name != "at_ms"}
    return {"event": type(event).__name__, "at": rfc3339(event.at_ms), **fields}


def _by_name(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: _plain(getattr(struct, name)) for name in struct.__struct_fields__ if name not in _HIDDEN}


def _plain(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            return _by_name(value)
        case bytes():
            return value.hex()
        case tuple() | list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value
