"""The eight invariants as executable checks: the same code in tests, simulator and integrity check.

Each checks a whole state, by itself, from the records; an index that disagrees with its records fails the invariant
that rests on it.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from coordinator.core.records import Agent, Operation
from coordinator.core.state import CoreState
from coordinator.core.states import IN_BATCH, TRANSITIONS, BatchState, OperationState

_S = OperationState
#: Problems that a report names; there may be more.
_NAMED = 5


class InvariantReport(NamedTuple):
    """One invariant: whether it holds, and otherwise what breaks it."""

    name: str
    ok: bool
    detail: str


def check(state: CoreState) -> list[InvariantReport]:
    """All eight, in the order of the specification."""
    reports = []
    for name, find in CHECKS.items():
        problems = [problem for problem, _ in zip(find(state), range(_NAMED), strict=False)]
        reports.append(InvariantReport(name, not problems, "; ".join(problems)))
    return reports


def _proof_ordering(state: CoreState) -> Iterator[str]:
    """What is submitted has each parent confirmed, or earlier in the same batch; what is in flight, in flight."""
    for batch in state.batches.values():
        submitted = batch.state is BatchState.SUBMITTING
        before: dict[str, None] = {}
        for operation in state.members(batch):
            for parent_id in operation.parents:
                if parent_id in before or parent_id in state.confirmed_outputs:
                    continue
                if parent_id in state.orphans and not submitted:
                    continue
                parent = state.live.get(parent_id)
                if parent is None or parent.state not in IN_BATCH or parent.batch_id == batch.batch_id:
                    yield f"{operation.operation_id} stands in {batch.batch_id} before its parent {parent_id}"
                elif submitted:
                    yield f"{operation.operation_id} is submitted, its parent {parent_id} is {parent.state}"
            before[operation.operation_id] = None


def _stake_conservation(state: CoreState) -> Iterator[str]:
    bonded: dict[str, int] = {}
    latest: dict[str, Operation] = {}
    for operation in state.live.values():
        if operation.committed:
            payer = operation.bonded_by
            bonded[payer] = bonded.get(payer, 0) + operation.bond_lamports
            latest[payer] = operation
        elif operation.bond_lamports:
            yield f"{operation.operation_id} has a bond without a commitment"
    owned = state.totals.treasury_lamports
    for agent in state.agents.values():
        owned += agent.balance_lamports
        yield from _agent_conserves(agent, bonded.get(agent.agent_id, 0), latest.get(agent.agent_id))
    if owned != state.totals.deposited_lamports - state.totals.withdrawn_lamports:
        yield f"{owned} lamports are owned, {state.totals.deposited_lamports} came in"
    if state.locked_lamports != sum(bonded.values()):
        yield f"{state.locked_lamports} lamports are counted as locked, {sum(bonded.values())} are"


def _agent_conserves(agent: Agent, bonded: int, latest: Operation | None) -> Iterator[str]:
    name = agent.agent_id
    if agent.bonded_lamports != bonded:
        yield f"{name}: {agent.bonded_lamports} bonded, its operations hold {bonded}"
    ever = agent.bonded_lamports + agent.returned_lamports + agent.slashed_lamports
    if agent.bonded_ever_lamports != ever:
        yield f"{name}: {agent.bonded_ever_lamports} bonded ever, {ever} accounted for"
    came = agent.deposited_lamports + agent.received_lamports
    went = agent.withdrawn_lamports + agent.slashed_lamports
    if agent.balance_lamports != came - went or agent.free_lamports < 0:
        yield f"{name}: owns {agent.balance_lamports}, should own {came - went}"
    # Bonds grow only at admission: what is bonded now was within the limit of the latest commitment's.
    if latest is not None and latest.decision is not None:
        limit = latest.decision.max_stake_lamports
        if agent.bonded_lamports > limit:
            yield f"{name}: {agent.bonded_lamports} bonded, the limit was {limit}"


def _depth_and_branches(state: CoreState) -> Iterator[str]:
    branches = dict.fromkeys(state.agents, 0)
    snapshots = 0
    for operation in state.live.values():
        decision = operation.decision
        if operation.speculative:
            if decision is None or decision.denial is not None or not operation.committed:
                yield f"{operation.operation_id} speculates without a grant or a bond"
            elif operation.depth > decision.max_depth or decision.branches > decision.max_branches:
                yield f"{operation.operation_id} was admitted beyond the limits of depth or branches"
            snapshots += operation.snapshot
            if not _has_speculative_child(state, operation):
                branches[operation.agent_id] += 1
    for agent in state.agents.values():
        if agent.branches != branches[agent.agent_id]:
            yield f"{agent.agent_id}: {agent.branches} branches counted, {branches[agent.agent_id]} are"
    if not state.snapshots == len(state.assumed) == snapshots:
        yield f"{state.snapshots} snapshots counted, {len(state.assumed)} kept, {snapshots} are"


def _has_speculative_child(state: CoreState, operation: Operation) -> bool:
    children = (state.live.get(child_id) for child_id in operation.children)
    return any(
        child is not None and child.speculative and operation.operation_id in child.parents
        for child in children
    )


def _acyclic(state: CoreState) -> Iterator[str]:
    """The rank of every operation is above its live parents'; every parent is known."""
    for operation in state.live.values():
        unconfirmed = blocked = 0
        for parent_id in operation.parents:
            parent = state.live.get(parent_id)
            if parent is not None:
                unconfirmed += 1
                blocked += parent.state not in IN_BATCH
                if parent.rank >= operation.rank:
                    yield f"{operation.operation_id} ranks before its parent {parent_id}"
            elif parent_id in state.orphans:
                unconfirmed += 1
                blocked += 1
            elif parent_id not in state.confirmed_outputs:
                yield f"{operation.operation_id} names an unknown parent {parent_id}"
        if (operation.unconfirmed, operation.blocked) != (unconfirmed, blocked):
            yield f"{operation.operation_id}: its parents are not counted right"


def _leaves_first(state: CoreState) -> Iterator[str]:
    """No live operation descends from one that was rolled back or failed (but for waiting orphans); ends are ends."""
    for operation in state.live.values():
        for parent_id in operation.parents:
            ended = state.ended.get(parent_id)
            if ended is not None and ended.state is not _S.CONFIRMED and parent_id not in state.orphans:
                yield f"{operation.operation_id} outlived its parent {parent_id}, which is {ended.state}"
    for operation in state.ended.values():
        confirmed = operation.operation_id in state.confirmed_outputs
        if confirmed is not (operation.state is _S.CONFIRMED):
            yield f"{operation.operation_id} is {operation.state}, confirmed: {confirmed}"


def _claim_window(state: CoreState) -> Iterator[str]:
    for operation in state.live.values():
        decision = operation.decision
        if not operation.speculative or decision is None or decision.claim_margin_ms is None:
            continue
        if decision.claim_margin_ms <= decision.claim_buffer_ms:
            yield f"{operation.operation_id} speculates within the claim buffer"


def _no_double_spend(state: CoreState) -> Iterator[str]:
    nullifiers: dict[bytes, str] = {}
    in_flight: dict[str, str] = {}
    for operation in state.live.values():
        operation_id = operation.operation_id
        if operation.nullifier in nullifiers or operation.nullifier in state.spent_nullifiers:
            yield f"{operation_id} uses a nullifier that is used"
        nullifiers[operation.nullifier] = operation_id
        if operation.task_id in state.confirmed_tasks:
            yield f"{operation_id} is live, its task is confirmed"
        if operation_id in state.confirmed_outputs:
            yield f"{operation_id} is live and confirmed"
        if operation.state in IN_BATCH:
            if operation.task_id in in_flight:
                yield f"{operation_id} and {in_flight[operation.task_id]} are in flight for one task"
            in_flight[operation.task_id] = operation_id
    counts = {len(state.confirmed_outputs), len(state.confirmed_tasks), len(state.spent_nullifiers)}
    if counts != {state.totals.confirmed}:
        yield f"{state.totals.confirmed} confirmed, but {sorted(counts)} operations, tasks and nullifiers"
    if nullifiers != state.live_nullifiers or in_flight != state.task_in_flight:
        yield "the indexes of nullifiers and tasks differ from the records"


def _no_zombie(state: CoreState) -> Iterator[str]:
    """Only what is on its way to the chain (or just came back) waits for its end; all moves stand in the table."""
    for operation in state.live.values():
        batch = state.batches.get(operation.batch_id or "")
        if (operation.state in IN_BATCH) is not (batch is not None):
            yield f"{operation.operation_id} is {operation.state} in {operation.batch_id}"
        elif batch is not None and batch.state.value != operation.state.value:
            yield f"{operation.operation_id} is {operation.state}, its batch {batch.state}"
        if operation.pending is not None and operation.state not in (_S.SUBMITTING, _S.PROVED):
            yield f"{operation.operation_id} waits for its end in {operation.state}"
        yield from _wrong_moves(operation)
    for operation in state.ended.values():
        yield from _wrong_moves(operation)
    for batch in state.batches.values():
        if batch.state is BatchState.SUBMITTING and (batch.transaction is None or batch.lost):
            yield f"{batch.batch_id} is submitted without a transaction, or not whole"


def _wrong_moves(operation: Operation) -> Iterator[str]:
    moves = [entry[1] for entry in operation.timeline]
    if moves[0] is not _S.SUBMITTED or moves[-1] is not operation.state:
        yield f"{operation.operation_id} is {operation.state}, its timeline {moves[0]} … {moves[-1]}"
    for before, after in pairwise(moves):
        if after not in TRANSITIONS[before]:
            yield f"{operation.operation_id} moved from {before} to {after}"


CHECKS: dict[str, Callable[[CoreState], Iterator[str]]] = {
    "proof_ordering": _proof_ordering,
    "stake_conservation": _stake_conservation,
    "depth_and_branches": _depth_and_branches,
    "acyclic": _acyclic,
    "leaves_first": _leaves_first,
    "claim_window": _claim_window,
    "no_double_spend": _no_double_spend,
    "no_zombie": _no_zombie,
}
