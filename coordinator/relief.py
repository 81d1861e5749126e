"""What an operator can turn to relieve a stage of the pipeline: the knob, where it stands, and what limits it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from coordinator.core.state import CoreState
from coordinator.core.states import ConnectionStatus, Denial, OperationState
from coordinator.pipeline import SAMPLED_OPERATIONS, Stage
from coordinator.settings import Settings
from coordinator.settings_sources import Source
from coordinator.settings_table import KEYS, Value
from workers.messages import PoolScale, ScaleLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A configuration key that moves the stage, its value now, what it may be, and what keeps it from helping more."""

    key: str
    value: Value
    range: str
    limited_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """What to do about a stage; `knob` is None where no key helps."""

    action: str
    knob: Knob | None


#: What would turn each denial into a grant; those without a key are explained in `_DENIAL_ACTIONS`.
_DENIAL_KEYS: Mapping[Denial, str] = {
    Denial.DISABLED: "speculation.enabled",
    Denial.ROLLOUT: "speculation.features.rollout_percentage",
    Denial.CIRCUIT_OPEN: "circuit_breaker.rollback_ratio",
    Denial.DEPTH_LIMIT: "speculation.max_depth",
    Denial.BRANCH_LIMIT: "speculation.max_parallel_branches",
    Denial.STAKE_INSUFFICIENT: "speculation.stake.max_stake",
    Denial.UNBONDED_PARENT: "speculation.stake.min_stake",
    Denial.COOLDOWN: "speculation.stake.cooldown_period_ms",
    Denial.SNAPSHOT_LIMIT: "speculation.limits.max_state_snapshots",
    Denial.MEMORY_LIMIT: "speculation.limits.max_memory_mb",
    Denial.PENDING_LIMIT: "speculation.limits.max_pending_operations",
    Denial.CLAIM_WINDOW: "claim_buffer_ms",
    Denial.CROSS_AGENT: "speculation.features.enable_cross_agent_speculation",
}
_DENIAL_ACTIONS: Mapping[Denial, str] = {
    Denial.CIRCUIT_OPEN: "find why it opened (GET /admin/circuit-breaker), then reset it",
    Denial.STAKE_INSUFFICIENT: "agents need a greater balance, or raise the cap",
    Denial.UNBONDED_PARENT: "the parents' agents need a balance that covers a bond",
    Denial.RISK: "too many of these agents' operations fail: see GET /admin/agent/ID/speculation",
}


def relief_of(stage: Stage, *, state: CoreState, settings: Settings, scale: PoolScale) -> Relief:
    """The knob for one stage, as things stand."""
    match stage:
        case Stage.ADMIT:
            return _admit(state, settings)
        case Stage.WAIT_FOR_PARENTS:
            return _wait_for_parents(state, settings)
        case Stage.QUEUE:
            return _queue(settings, scale)
        case Stage.PROVE:
            batch_size = "speculation.proof.batch_size"
            action = (
                "a smaller batch is proved sooner; more kernel threads or a GPU prove the same batch sooner"
            )
            return Relief(action=action, knob=_knob(settings, batch_size, limit="proof.max_log_rows"))
        case Stage.SUBMIT:
            return _submit(state, settings)
        case Stage.CONFIRM:
            return _confirm(state, settings)


def _admit(state: CoreState, settings: Settings) -> Relief:
    if state.queued >= settings.integer("speculation.proof.queue_size"):
        knob = _knob(settings, "speculation.proof.queue_size", limit="speculation.proof.worker_threads")
        return Relief(action="the queue is full: prove faster, or let it grow", knob=knob)
    return Relief(
        action="submit many operations a call (POST /v1/operations/batch), and keep data_dir on a quick disk",
        knob=None,
    )


def _wait_for_parents(state: CoreState, settings: Settings) -> Relief:
    """The denial that most of the waiting operations met; without one, what holds granted ones back."""
    waiting = islice(state.live.values(), SAMPLED_OPERATIONS)
    denials = Counter(
        one.decision.denial
        for one in waiting
        if one.state is OperationState.DEFERRED
        and one.decision is not None
        and one.decision.denial is not None
    )
    if denials:
        denial, count = denials.most_common(1)[0]
        why = f"speculation was denied to {count} of the waiting operations: {denial}"
        action = f"{why}; {_DENIAL_ACTIONS.get(denial, 'the key decides on it')}"
        key = _DENIAL_KEYS.get(denial)
        return Relief(action=action, knob=None if key is None else _knob(settings, key))
    optimistic = "speculation.features.enable_optimistic_proofs"
    if not settings.flag(optimistic):
        return Relief(
            action="prove speculative operations before their parents are confirmed",
            knob=_knob(settings, optimistic),
        )
    return Relief(
        action="proofs wait for their ancestors' confirmation: fewer, larger batches take fewer confirmations in a row",
        knob=_knob(settings, "speculation.proof.batch_size", limit="proof.max_log_rows"),
    )


def _queue(settings: Settings, scale: PoolScale) -> Relief:
    limits = {
        None: None,
        ScaleLimit.SLOTS: f"slots: {scale.running} of {scale.desired} desired workers run; add nodes or cores",
        ScaleLimit.MEMORY: f"memory: {scale.running} of {scale.desired} desired workers run; add memory or nodes",
    }
    knob = _knob(settings, "speculation.proof.worker_threads")
    limited = dataclasses.replace(knob, limited_by=limits[scale.limited_by] or knob.limited_by)
    return Relief(action="more proof workers take what is queued sooner", knob=limited)


def _submit(state: CoreState, settings: Settings) -> Relief:
    connection = state.totals.connection
    if connection is not ConnectionStatus.CONNECTED:
        return Relief(
            action=f"the chain is {connection}: see GET /admin/chain-status, and wait for it", knob=None
        )
    knob = _knob(settings, "chain.slot_ms")
    return Relief(action="proved batches go to the chain twice a slot", knob=knob)


def _confirm(state: CoreState, settings: Settings) -> Relief:
    connection = state.totals.connection
    if connection is not ConnectionStatus.CONNECTED:
        return Relief(
            action=f"the chain is {connection}: see GET /admin/chain-status, and wait for it", knob=None
        )
    return Relief(
        action="the chain takes this long; speculation hides it from agents that build on each other's results",
        knob=_knob(settings, "chain.confirmation_slots"),
    )


def _knob(settings: Settings, name: str, *, limit: str | None = None) -> Knob:
    """`limit`: the key that bounds this one's effect."""
    key = KEYS[name]
    limited_by = None if limit is None else f"{limit} = {settings.effective(limit)}"
    if settings.provenance(name).source is Source.ENVIRONMENT:
        limited_by = f"pinned by {key.environment_name}: unset it and restart"
    elif key.restart_only:
        limited_by = "changes at a restart only"
    return Knob(key=name, value=settings.effective(name), range=key.range_text, limited_by=limited_by)
