"""Snapshots: what a speculative operation rests on, shared between them, and the same wherever it is replayed from."""

from random import Random

import pytest

from coordinator.core.invariants import check
from coordinator.core.snapshots import estimated_bytes, returns_to
from coordinator.core.state import CoreState
from coordinator.core.states import RollbackPolicy
from tests.coordinator.core.chaos import Chaos
from tests.coordinator.core.test_rollback import time_out
from tests.coordinator.core.world import World, digest


def commitment(operation_id: str) -> bytes:
    return digest("O", f"output-of-task-{operation_id}")


@pytest.fixture
def world() -> World:
    made = World()
    made.agent()
    return made


def rests_on(world: World, operation_id: str) -> dict[str, bytes]:
    return dict(returns_to(world.state, world.state.live[operation_id]))


def test_a_snapshot_holds_the_unconfirmed_ancestors_outputs(world: World) -> None:
    ids = world.chain_of(6)
    for depth, operation_id in enumerate(ids):
        assert rests_on(world, operation_id) == {above: commitment(above) for above in ids[:depth]}
    assert len(world.state.assumed) == world.state.snapshots == 5, (
        "the first rests on nothing that is not final"
    )
    assert estimated_bytes(world.state) > 0


def test_a_diamond_rests_on_both_of_its_sides(world: World) -> None:
    world.submit("a")
    world.submit("b", "a")
    world.submit("c", "a")
    world.submit("d", "b", "c")
    assert rests_on(world, "d").keys() == {"a", "b", "c"}


def test_what_is_confirmed_is_final_and_what_ended_has_no_snapshot(world: World) -> None:
    world.chain_of(4)
    world.settle("op0")
    assert rests_on(world, "op3").keys() == {"op1", "op2"}
    assert "op1" not in world.state.assumed
    world.do("cancel", "op2")
    assert world.state.assumed == {}
    assert estimated_bytes(world.state) == 0


@pytest.mark.parametrize("policy", [RollbackPolicy.CASCADE, RollbackPolicy.CHECKPOINT])
def test_between_checkpoints_the_state_is_replayed(policy: RollbackPolicy) -> None:
    world = World()
    world.configure(rollback_policy=policy)
    world.agent()
    ids = world.chain_of(10)
    kept = {"cascade": ids[1:], "checkpoint": [ids[1], ids[5], ids[9]]}[policy]
    assert list(world.state.assumed) == kept
    for depth, operation_id in enumerate(ids):
        assert rests_on(world, operation_id) == {above: commitment(above) for above in ids[:depth]}


def test_a_replacement_stands_in_the_snapshots_of_those_below(world: World) -> None:
    world.configure(rollback_policy=RollbackPolicy.SELECTIVE)
    world.chain_of(4)
    time_out(world, "op0")
    assert rests_on(world, "op3").keys() == {"op1", "op2"}
    world.submit("again", task="task-op0", retry_of="op0")
    assert rests_on(world, "op1") == {"again": commitment("op0")}
    assert rests_on(world, "op3").keys() == {"again", "op1", "op2"}


@pytest.mark.parametrize("policy", [RollbackPolicy.CASCADE, RollbackPolicy.CHECKPOINT])
def test_a_loaded_state_has_the_same_snapshots(policy: RollbackPolicy) -> None:
    random = Random(11)
    chaos = Chaos(World(workers=["w1", "w2"], check=False), policy)
    for _ in range(200):
        chaos.step(random)
    state = chaos.world.state
    loaded = CoreState.load(state.dump())
    assert all(report.ok for report in check(loaded))
    assert loaded.assumed.keys() == state.assumed.keys()
    for operation_id in state.assumed:
        straight = returns_to(state, state.live[operation_id])
        assert returns_to(loaded, loaded.live[operation_id]) == straight
