"""Stuck stake: what counts as stuck, whose it is, and that freeing it returns every bond whole."""

import pytest

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.states import OperationState, RollbackReason
from coordinator.core.stuck import StakeRecovery, stuck_bonds
from tests.coordinator.core.world import World

TIMEOUT_MS = 30_000


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    made.agent("bob")
    return made


def stuck_ids(world: World) -> dict[str, list[str]]:
    found = stuck_bonds(world.engine, now_ms=world.now_ms)
    return {agent_id: [one.operation_id for one in operations] for agent_id, operations in found.items()}


def test_a_bond_is_stuck_once_its_operation_has_not_moved_for_the_timeout(world: World) -> None:
    world.submit("a")
    world.now_ms += TIMEOUT_MS - 1
    assert stuck_ids(world) == {}
    world.now_ms += 1
    assert stuck_ids(world) == {"alice": ["a"]}
    world.start("a")
    assert stuck_ids(world) == {}, "it moved"


def test_recovery_returns_bonds_whole_slashes_nobody_and_takes_descendants(world: World) -> None:
    for one, parents in (("a", ()), ("b", ("a",)), ("c", ("b",))):
        world.submit(one, *parents)
    world.submit("other", agent="bob")
    world.now_ms += TIMEOUT_MS
    verdicts = world.do("recover_stake", ["alice", "nobody"], by="tester")
    assert verdicts["alice"] == StakeRecovery(("c", "b", "a"), (), 1_000_000 + 1_100_000 + 1_200_000, 0)
    refused = verdicts["nobody"]
    assert isinstance(refused, CoreError)
    assert refused.code is ErrorCode.UNKNOWN_AGENT
    alice = world.state.agents["alice"]
    assert (alice.bonded_lamports, alice.slashed_lamports, alice.free_lamports) == (0, 0, 1_000_000_000)
    assert world.state.ended["a"].reason == RollbackReason.CONFIRMATION_TIMEOUT
    assert stuck_ids(world) == {"bob": ["other"]}


def test_recover_all_takes_everyone_that_has_some(world: World) -> None:
    world.submit("a")
    world.now_ms += TIMEOUT_MS
    world.submit("young", agent="bob")
    assert world.do("recover_stake", None, by="tester").keys() == {"alice"}
    assert world.do("recover_stake", None, by="tester") == {}
    assert "young" in world.state.live


def test_an_agent_with_nothing_stuck_gets_an_empty_verdict(world: World) -> None:
    assert world.do("recover_stake", ["bob", "bob"], by="tester") == {"bob": StakeRecovery()}


def test_what_is_on_its_way_to_the_chain_waits_for_its_transaction_and_may_still_confirm(
    world: World,
) -> None:
    world.submit("a")
    (batch_id,) = world.start("a")
    world.prove(batch_id)
    due = world.do("batch_submitting", batch_id, slot=world.slot)
    world.now_ms += TIMEOUT_MS
    verdict = world.do("recover_stake", ["alice"], by="tester")["alice"]
    assert verdict == StakeRecovery((), ("a",), 0, 1_000_000)
    assert stuck_ids(world) == {}, "its end is decided"
    assert world.state.live["a"].state is OperationState.SUBMITTING
    world.confirm(due.transaction)
    assert world.state.ended["a"].state is OperationState.CONFIRMED


def test_with_delegation_the_stake_is_the_delegators(world: World) -> None:
    world.configure(stake_delegation=True)
    world.agent("poor", deposit_lamports=0)
    world.do("delegate", "bob", "poor", 5_000_000)
    world.submit("a", agent="poor")
    world.now_ms += TIMEOUT_MS
    assert stuck_ids(world) == {"bob": ["a"]}
    assert world.do("recover_stake", ["bob"], by="tester")["bob"].returned_lamports == 1_000_000
