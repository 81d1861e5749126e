"""Rollbacks: leaves first, every reason, and what the policies do with descendants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import OperationFailed, OperationsRolledBack
from coordinator.core.states import ReturnReason, RollbackPolicy, RollbackReason, TransactionStatus
from tests.coordinator.core.world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    made.agent("bob")
    return made


@given(st.data())
def test_descendants_go_before_ancestors_each_once(data: st.DataObject) -> None:
    world = World(check=False)
    world.agent()
    known: list[str] = []
    for number in range(data.draw(st.integers(2, 16))):
        parents = data.draw(st.lists(st.sampled_from(known), max_size=3, unique=True)) if known else []
        known.append(world.submit(f"op{number}", *parents).operation_id)
    parents_of = {one.operation_id: one.parents for one in world.state.live.values()}
    root = data.draw(st.sampled_from(known))
    ended = world.do("cancel", root)
    descendants = {root}
    for one in known:
        if any(parent in descendants for parent in parents_of[one]):
            descendants.add(one)
    assert sorted(ended) == sorted(descendants)
    for at, one in enumerate(ended):
        assert not set(ended[at:]) & {child for child in known if one in parents_of[child]}
    (event,) = world.seen(OperationsRolledBack)
    assert event.operation_ids == ended
    assert event.reasons[-1] is RollbackReason.CANCELLED
    assert set(event.reasons[:-1]) <= {RollbackReason.PARENT_ROLLED_BACK}


def test_a_rollback_returns_bonds_whole_and_frees_the_nullifiers(world: World) -> None:
    world.chain_of(3)
    world.do("cancel", "op0")
    alice = world.state.agents["alice"]
    assert (alice.free_lamports, alice.bonded_lamports, alice.slashed_lamports) == (1_000_000_000, 0, 0)
    assert world.state.live_nullifiers == {}


@pytest.mark.parametrize("end", ["settle", "cancel"])
def test_what_has_ended_is_not_cancelled(world: World, end: str) -> None:
    world.submit("a")
    if end == "settle":
        world.settle("a")
    else:
        world.do("cancel", "a")
    with pytest.raises(CoreError) as refused:
        world.do("cancel", "a")
    assert refused.value.code is ErrorCode.NOT_CANCELLABLE
    with pytest.raises(CoreError) as refused:
        world.do("cancel", "ghost")
    assert refused.value.code is ErrorCode.UNKNOWN_OPERATION


def test_what_is_on_its_way_to_the_chain_is_not_cancelled(world: World) -> None:
    world.submit("a")
    world.to_submitting("a")
    with pytest.raises(CoreError) as refused:
        world.do("cancel", "a")
    assert refused.value.code is ErrorCode.NOT_CANCELLABLE


def test_giving_up_a_claimed_task_that_others_staked_on_is_a_fault(world: World) -> None:
    world.do("register_task", "task-a", constraint_hash=None, claim_ttl_ms=600_000)
    world.do("claim_task", "task-a", "alice")
    world.submit("a")
    world.submit("b", "a", agent="bob")
    assert world.do("cancel", "a") == ("b", "a")
    (failed,) = world.seen(OperationFailed)
    assert failed.code == "claim_abandoned"
    assert failed.slash is not None
    assert [agent for agent, _ in failed.slash.victims] == ["bob"]


def test_giving_up_a_claimed_task_that_nobody_staked_on_is_not(world: World) -> None:
    world.do("register_task", "task-a", constraint_hash=None, claim_ttl_ms=600_000)
    world.do("claim_task", "task-a", "alice")
    world.submit("a")
    world.submit("b", "a")
    world.do("cancel", "a")
    assert world.why("a") == "cancelled"


def test_every_reason_is_reached_but_one_that_admission_prevents() -> None:
    """`stake_insufficient` cannot end what is admitted: a bond is locked at admission, and only a free balance
    goes out."""
    world = World(workers=["w1"])
    world.agent("alice")
    world.agent("bob")
    world.submit("timeout")
    world.see(world.to_submitting("timeout"), TransactionStatus.EXPIRED)
    world.advance(30_000)
    world.submit("reorg")
    world.see(world.to_submitting("reorg"), TransactionStatus.REORGED)
    world.refuse(world.send_due()[0], "double_spend", 0)
    world.submit("winner", task="t")
    world.submit("loser", task="t", agent="bob", output="another")
    world.settle("winner")
    world.submit("broken")
    for _ in range(2):
        world.fail_batch(*world.start("broken"), ReturnReason.PROVER_ERROR)
    world.submit("guilty", task="g")
    world.submit("below", "guilty")
    world.do("register_task", "g", constraint_hash=bytes(32))
    world.configure(cooldown_period_ms=0)
    world.now_ms += 60_000
    world.submit("parent")
    world.submit("child", "parent")
    world.do("cancel", "parent")
    world.submit("drained")
    world.do("emergency", "drain_speculation", deadline_s=1, by="operator")
    world.advance(1_000)
    world.do("set_config", {"speculation.enabled": True}, by="operator")
    world.submit("emergency")
    world.do("emergency", "disable_speculation", force=True, by="operator")
    reasons = {
        name: world.why(name)
        for name in (
            "timeout",
            "reorg",
            "loser",
            "broken",
            "below",
            "parent",
            "child",
            "drained",
            "emergency",
        )
    }
    assert reasons == {
        "timeout": "confirmation_timeout",
        "reorg": "chain_reorg",
        "loser": "invalid_state",
        "broken": "proof_failed",
        "below": "parent_failed",
        "parent": "cancelled",
        "child": "parent_rolled_back",
        "drained": "drained",
        "emergency": "emergency",
    }
    counted = {reason for reason, count in world.state.totals.rollbacks_by_reason.items() if count}
    assert counted == set(RollbackReason) - {RollbackReason.STAKE_INSUFFICIENT}
    by_minute: dict[str, int] = {}
    for minute in world.state.rollback_minutes.values():
        for reason, count in minute.items():
            by_minute[reason] = by_minute.get(reason, 0) + count
    assert sum(by_minute.values()) == world.state.totals.rolled_back == len(reasons)


# -- policies ------------------------------------------------------------------------------------------------------


def time_out(world: World, operation_id: str) -> None:
    transaction = world.to_submitting(operation_id)
    world.advance(30_000)
    world.see(transaction, TransactionStatus.EXPIRED)


def selective() -> World:
    world = World()
    world.configure(rollback_policy=RollbackPolicy.SELECTIVE)
    world.agent("alice")
    world.agent("bob")
    return world


def test_selective_lets_descendants_wait_for_the_same_output() -> None:
    world = selective()
    world.chain_of(3)
    time_out(world, "op0")
    assert world.where("op0", "op1", "op2") == ["ROLLED_BACK", "QUEUED", "QUEUED"]
    assert world.start() == [], "what waits for a replacement is not proved"
    again = world.submit("again", task="task-op0", retry_of="op0")
    assert world.state.live["op1"].parents == ("again",)
    assert again.rank < world.state.live["op1"].rank
    world.run_until_quiet()
    assert world.where("again", "op1", "op2") == ["CONFIRMED"] * 3


def test_selective_cascades_when_no_replacement_comes() -> None:
    world = selective()
    world.chain_of(3)
    time_out(world, "op0")
    world.advance(29_999)
    assert world.where("op1", "op2") == ["QUEUED", "QUEUED"]
    world.advance(1)
    assert [world.why(one) for one in ("op1", "op2")] == ["parent_rolled_back"] * 2
    assert world.state.orphans == {}


def test_selective_ends_a_child_of_two_lost_parents_once() -> None:
    world = selective()
    for one in ("a", "b"):
        world.submit(one)
    world.submit("join", "a", "b")
    time_out(world, "a")
    world.now_ms -= 30_000
    time_out(world, "b")
    assert set(world.state.orphans) == {"a", "b"}
    world.advance(30_000)
    assert world.why("join") == "parent_rolled_back"
    assert world.state.orphans == {}


def test_selective_takes_no_replacement_with_another_output_or_out_of_order() -> None:
    world = selective()
    world.chain_of(3)
    time_out(world, "op0")
    world.submit("other", task="task-op0", output="another", retry_of="op0")
    assert world.state.live["op1"].parents == ("op0",)
    # Its parent comes after the waiting children: taking them over could close a cycle.
    world.submit("late", "op2", task="task-op0", retry_of="op0")
    assert world.state.live["op1"].parents == ("op0",)
    world.advance(30_000)
    assert world.where("op1", "op2", "late") == ["ROLLED_BACK"] * 3


def test_selective_cascades_after_faults_of_content() -> None:
    world = selective()
    world.chain_of(2)
    world.do("register_task", "task-op0", constraint_hash=bytes(32))
    assert world.where("op0", "op1") == ["FAILED", "ROLLED_BACK"]
    world.configure(cooldown_period_ms=0)
    world.chain_of(2, agent="bob", prefix="b")
    world.do("cancel", "b0")
    assert world.where("b0", "b1") == ["ROLLED_BACK", "ROLLED_BACK"]


def test_selective_returns_batches_that_wait_on_what_was_rolled_back() -> None:
    world = selective()
    world.workers.append("w2")
    world.chain_of(3)
    transaction = world.to_submitting("op0")
    (second,) = world.start("op1")
    world.prove(second)
    world.advance(30_000)
    world.see(transaction, TransactionStatus.EXPIRED)
    assert world.where("op0", "op1", "op2") == ["ROLLED_BACK", "QUEUED", "QUEUED"]
    world.submit("again", task="task-op0", retry_of="op0")
    world.run_until_quiet()
    assert world.where("op1", "op2") == ["CONFIRMED"] * 2


def test_checkpoint_rolls_back_like_cascade_but_keeps_fewer_snapshots() -> None:
    world = World()
    world.configure(rollback_policy=RollbackPolicy.CHECKPOINT)
    world.agent()
    ids = world.chain_of(10)
    kept = [one.depth for one in world.state.live.values() if one.snapshot]
    assert kept == [1, 5, 9]
    assert world.state.snapshots == 3
    assert len(world.do("cancel", ids[2])) == 8
    assert world.state.snapshots == 1
