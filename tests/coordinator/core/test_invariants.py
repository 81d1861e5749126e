"""The checks find what they are for: each is shown a state that breaks its invariant, and no other notices but those
that rest on the same facts."""

from collections.abc import Callable

import msgspec
import pytest

from coordinator.core.invariants import CHECKS, check
from coordinator.core.records import PendingEnd
from coordinator.core.state import CoreState
from coordinator.core.states import BatchState, OperationState, RollbackReason
from tests.coordinator.core.world import World


def busy() -> CoreState:
    """Two chains: one batch on its way to the chain, one being proved, others queued and ended."""
    world = World(workers=["w1", "w2"])
    world.agent("alice")
    world.agent("bob")
    world.chain_of(4)
    world.submit("gone")
    world.do("cancel", "gone")
    world.submit("done", agent="bob")
    world.settle("done")
    world.to_submitting("op0", "op1")
    world.start("op2")
    assert all(report.ok for report in check(world.state))
    return world.state


def broken(state: CoreState) -> set[str]:
    return {report.name for report in check(state) if not report.ok}


def _unconfirmed_parent(state: CoreState) -> None:
    state.batches["batch-3"].state = BatchState.SUBMITTING
    state.live["op2"].state = OperationState.SUBMITTING
    state.batches["batch-3"].transaction = "batch-3:1"


def _wrong_order(state: CoreState) -> None:
    state.batches["batch-2"].operation_ids = ("op1", "op0")


def _created_lamport(state: CoreState) -> None:
    state.agents["bob"].free_lamports += 1


def _lost_lamport(state: CoreState) -> None:
    state.totals.treasury_lamports -= 1


def _uncounted_bond(state: CoreState) -> None:
    state.live["op3"].committed = False


def _beyond_the_limit(state: CoreState) -> None:
    last = state.live["op3"]
    assert last.decision is not None
    last.decision = msgspec.structs.replace(last.decision, max_stake_lamports=1)


def _too_deep(state: CoreState) -> None:
    state.live["op3"].depth = 21


def _miscounted_branches(state: CoreState) -> None:
    state.agents["bob"].branches = 1


def _cycle(state: CoreState) -> None:
    state.live["op0"].parents = ("op3",)


def _unknown_parent(state: CoreState) -> None:
    state.live["op0"].parents = ("ghost",)


def _outlived_parent(state: CoreState) -> None:
    state.live["op0"].parents = ("gone",)


def _undone_confirmation(state: CoreState) -> None:
    state.ended["done"].state = OperationState.ROLLED_BACK


def _within_the_buffer(state: CoreState) -> None:
    last = state.live["op3"]
    assert last.decision is not None
    last.decision = msgspec.structs.replace(last.decision, claim_margin_ms=60_000, claim_buffer_ms=60_000)


def _spent_twice(state: CoreState) -> None:
    state.spent_nullifiers[state.live["op3"].nullifier] = "done"


def _task_done_twice(state: CoreState) -> None:
    state.confirmed_tasks[state.live["op3"].task_id] = "done"


def _zombie(state: CoreState) -> None:
    operation = state.ended["gone"]
    operation.timeline.insert(-1, (0, OperationState.SUBMITTING, ""))


def _pending_in_the_queue(state: CoreState) -> None:
    state.live["op3"].pending = PendingEnd(RollbackReason.DRAINED, None, "", True)


BREAKS: list[tuple[str, Callable[[CoreState], None]]] = [
    ("proof_ordering", _unconfirmed_parent),
    ("proof_ordering", _wrong_order),
    ("stake_conservation", _created_lamport),
    ("stake_conservation", _lost_lamport),
    ("stake_conservation", _uncounted_bond),
    ("stake_conservation", _beyond_the_limit),
    ("depth_and_branches", _too_deep),
    ("depth_and_branches", _miscounted_branches),
    ("acyclic", _cycle),
    ("acyclic", _unknown_parent),
    ("leaves_first", _outlived_parent),
    ("leaves_first", _undone_confirmation),
    ("claim_window", _within_the_buffer),
    ("no_double_spend", _spent_twice),
    ("no_double_spend", _task_done_twice),
    ("no_zombie", _zombie),
    ("no_zombie", _pending_in_the_queue),
]


@pytest.mark.parametrize(("name", "break_it"), BREAKS, ids=lambda one: getattr(one, "__name__", one))
def test_a_broken_invariant_is_reported(name: str, break_it: Callable[[CoreState], None]) -> None:
    state = busy()
    break_it(state)
    assert name in broken(state)
    (report,) = [one for one in check(state) if one.name == name]
    assert report.detail


def test_every_invariant_is_broken_by_some_state() -> None:
    assert {name for name, _ in BREAKS} == set(CHECKS)
    assert len(CHECKS) == 8
