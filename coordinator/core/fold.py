"""The fold: how each event changes the state. Pure; an event that cannot follow from the state is an assertion.

This module holds the events of agents, tasks, settings, breaker and chain; those of operations and batches have
modules of their own.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordinator.core import events as ev
from coordinator.core.fold_admission import fold_admitted
from coordinator.core.fold_batches import (
    fold_awaiting,
    fold_confirmed,
    fold_proved,
    fold_queue_cleared,
    fold_returned,
    fold_reverted,
    fold_started,
    fold_submitted,
)
from coordinator.core.fold_ends import fold_failed, fold_rolled_back
from coordinator.core.fold_operations import fold_pending, fold_queued
from coordinator.core.records import Agent, Breaker, Delegation, Task
from coordinator.core.states import BatchState, ConnectionStatus

if TYPE_CHECKING:
    from coordinator.core.state import CoreState


def _agent_registered(state: "CoreState", event: ev.AgentRegistered) -> None:
    from coordinator.core.state import rollout_position

    assert event.agent_id not in state.agents, f"agent {event.agent_id!r} registered twice"
    state.agents[event.agent_id] = Agent(
        agent_id=event.agent_id,
        agent_key=event.agent_key,
        token_hash=event.token_hash,
        registered_at_ms=event.at_ms,
        rollout_position=rollout_position(event.agent_id),
    )
    _pay_in(state, event.agent_id, event.deposit_lamports)


def _pay_in(state: "CoreState", agent_id: str, lamports: int) -> None:
    agent = state.agents[agent_id]
    agent.free_lamports += lamports
    agent.deposited_lamports += lamports
    state.totals.deposited_lamports += lamports


def _deposited(state: "CoreState", event: ev.StakeDeposited) -> None:
    _pay_in(state, event.agent_id, event.lamports)


def _withdrawn(state: "CoreState", event: ev.StakeWithdrawn) -> None:
    agent = state.agents[event.agent_id]
    assert 0 <= event.lamports <= agent.free_lamports, "a withdrawal of more than the free balance"
    agent.free_lamports -= event.lamports
    agent.withdrawn_lamports += event.lamports
    state.totals.withdrawn_lamports += event.lamports


def _delegated(state: "CoreState", event: ev.StakeDelegated) -> None:
    delegators = state.agents[event.agent_id].delegators
    delegation = delegators.setdefault(event.delegator_id, Delegation(cap_lamports=0))
    delegation.cap_lamports = event.cap_lamports
    if not event.cap_lamports and not delegation.used_lamports:
        del delegators[event.delegator_id]


def _task_registered(state: "CoreState", event: ev.TaskRegistered) -> None:
    known = state.tasks.get(event.task_id)
    task = Task(
        task_id=event.task_id,
        constraint_hash=event.constraint_hash,
        depends_on=event.depends_on,
        claim_ttl_ms=event.claim_ttl_ms,
        registered_at_ms=event.at_ms,
    )
    if known is not None:
        task.claimed_by, task.claim_expires_ms = known.claimed_by, known.claim_expires_ms
    state.tasks[event.task_id] = task


def _task_claimed(state: "CoreState", event: ev.TaskClaimed) -> None:
    task = state.tasks[event.task_id]
    task.claimed_by = event.agent_id
    task.claim_expires_ms = event.expires_at_ms


def _config_changed(state: "CoreState", event: ev.ConfigChanged) -> None:
    for key, value in event.changes.items():
        if value is None:
            state.overrides.pop(key, None)
        else:
            state.overrides[key] = value


def _latch_changed(state: "CoreState", event: ev.LatchChanged) -> None:
    state.totals.latch = event.latch
    state.totals.drain_until_ms = event.drain_until_ms


def _breaker_changed(state: "CoreState", event: ev.BreakerChanged) -> None:
    # Each move empties the window: what opened the breaker must not open it again.
    state.breaker = Breaker(
        state=event.state, reason=event.reason, changed_at_ms=event.at_ms, until_ms=event.until_ms
    )


def _connection_changed(state: "CoreState", event: ev.ChainConnectionChanged) -> None:
    totals = state.totals
    totals.paused_ms += event.paused_ms
    totals.connection = event.status
    if event.status is not ConnectionStatus.DISCONNECTED:
        totals.disconnected_since_ms = None
    elif totals.disconnected_since_ms is None or event.paused_ms:
        totals.disconnected_since_ms = event.at_ms


def _finality_violated(state: "CoreState", event: ev.FinalityViolated) -> None:
    for batch_id in event.batch_ids:
        batch = state.ended_batches[batch_id]
        if batch.state is BatchState.CONFIRMED:
            batch.reorged = True
            if batch.operation_ids[0] in state.ended:  # else it is too old to be posted again
                batch.reposting = batch.repost_due = True
                state.reposting[batch_id] = state.due[batch_id] = None
        else:
            batch.confirmed_slot = event.slot


def _rebuilt(state: "CoreState", event: ev.StateRebuilt) -> None:
    assert not state.agents, "a rebuild starts a new log"
    for agent in event.agents:
        _agent_registered(
            state,
            ev.AgentRegistered(
                event.at_ms, agent.agent_id, agent.agent_key, agent.token_hash, agent.balance_lamports
            ),
        )
    totals = state.totals
    totals.treasury_lamports = event.treasury_lamports
    totals.deposited_lamports += event.treasury_lamports
    totals.last_batch_number = event.last_batch_number
    totals.admitted = totals.confirmed = len(event.confirmed)
    for operation in event.confirmed:
        state.confirmed_outputs[operation.operation_id] = operation.output_commitment
        state.confirmed_tasks[operation.task_id] = operation.operation_id
        state.spent_nullifiers[operation.nullifier] = operation.operation_id
    state.count_ends()


def _token_issued(state: "CoreState", event: ev.AgentTokenIssued) -> None:
    agent = state.agents[event.agent_id]
    agent.agent_key, agent.token_hash = event.agent_key, event.token_hash


def _nothing(state: "CoreState", event: ev.AdminActed) -> None:
    """The audit trail lives in the log."""


_HANDLERS: dict[type[Any], Callable[["CoreState", Any], None]] = {
    ev.AgentRegistered: _agent_registered,
    ev.StakeDeposited: _deposited,
    ev.StakeWithdrawn: _withdrawn,
    ev.StakeDelegated: _delegated,
    ev.TaskRegistered: _task_registered,
    ev.TaskClaimed: _task_claimed,
    ev.OperationsAdmitted: fold_admitted,
    ev.OperationsQueued: fold_queued,
    ev.BatchStarted: fold_started,
    ev.BatchReturned: fold_returned,
    ev.QueueCleared: fold_queue_cleared,
    ev.BatchProved: fold_proved,
    ev.BatchAwaiting: fold_awaiting,
    ev.BatchSubmitted: fold_submitted,
    ev.BatchReverted: fold_reverted,
    ev.BatchConfirmed: fold_confirmed,
    ev.RollbackPending: fold_pending,
    ev.OperationsRolledBack: fold_rolled_back,
    ev.OperationFailed: fold_failed,
    ev.ConfigChanged: _config_changed,
    ev.LatchChanged: _latch_changed,
    ev.BreakerChanged: _breaker_changed,
    ev.ChainConnectionChanged: _connection_changed,
    ev.FinalityViolated: _finality_violated,
    ev.StateRebuilt: _rebuilt,
    ev.AgentTokenIssued: _token_issued,
    ev.AdminActed: _nothing,
}


def apply(state: "CoreState", event: ev.Event) -> None:
    """Fold one event into the state."""
    _HANDLERS[type(event)](state, event)
    note_time(state, event)


def note_time(state: "CoreState", event: ev.Event) -> None:
    """Remember when something last happened; the clock may have been set back meanwhile."""
    if event.at_ms > state.totals.last_event_at_ms:
        state.totals.last_event_at_ms = event.at_ms
