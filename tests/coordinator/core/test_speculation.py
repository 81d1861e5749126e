"""The speculation decision: every denial, the order of the rules, the numbers it keeps, and what counts as depth and
branch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import OperationsAdmitted
from coordinator.core.graph import lineage
from coordinator.core.records import Operation
from coordinator.core.speculation import PRIOR_BAD, PRIOR_GOOD, RULES, all_confirm, in_rollout
from coordinator.core.state import CoreState, rollout_position
from coordinator.core.states import Denial, OperationState
from tests.coordinator.core.world import OPEN, World


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    made.agent("bob")
    return made


def denial(operation: Operation) -> str | None:
    assert operation.decision is not None
    return operation.decision.denial


# -- grants --------------------------------------------------------------------------------------------------------


def test_a_granted_child_is_queued_at_once_by_way_of_speculating(world: World) -> None:
    world.submit("a")
    child = world.submit("b", "a")
    states = [entry[1].value for entry in child.timeline]
    assert states == ["SUBMITTED", "SPECULATING", "QUEUED"]
    assert (child.depth, child.committed, child.speculative) == (1, True, True)


def test_without_optimistic_proofs_it_speculates_until_its_parents_are_confirmed(world: World) -> None:
    world.configure(optimistic_proofs=False)
    world.submit("a")
    assert world.submit("b", "a").state is OperationState.SPECULATING
    world.settle("a")
    assert world.where("b") == ["QUEUED"]
    assert world.why("b") == "parents_confirmed"


def test_a_denied_child_is_deferred_and_goes_on_without_speculation(world: World) -> None:
    world.configure(max_depth=1)
    world.chain_of(3)
    deferred = world.state.live["op2"]
    assert (deferred.state, deferred.committed, deferred.bond_lamports) == (OperationState.DEFERRED, False, 0)
    assert world.why("op2") == "depth_limit"
    world.run_until_quiet()
    assert world.where("op2") == ["CONFIRMED"]


def test_with_speculation_off_nothing_is_bonded(world: World) -> None:
    world.configure(enabled=False)
    assert not world.submit("a").committed
    assert denial(world.submit("b", "a")) == "disabled"
    assert world.state.agents["alice"].bonded_lamports == 0


# -- denials -------------------------------------------------------------------------------------------------------


def outside_of(percentage: float) -> str:
    return next(name for name in map(str, range(1_000)) if rollout_position(name) >= percentage)


def test_disabled_by_configuration_and_by_a_latch(world: World) -> None:
    world.submit("a")
    world.do("emergency", "drain_speculation", by="operator")
    assert denial(world.submit("b", "a")) == "disabled"
    world.do("set_config", {"speculation.enabled": True}, by="operator")
    assert denial(world.submit("c", "a")) is None
    world.configure(enabled=False)
    assert denial(world.submit("d", "a")) == "disabled"


def test_rollout(world: World) -> None:
    name = outside_of(50.0)
    world.agent(name)
    world.submit("a", agent=name)
    world.configure(rollout_percentage=50.0)
    assert denial(world.submit("b", "a", agent=name)) == "rollout"
    assert not world.submit("c", agent=name).committed


def test_cooldown_after_a_slash(world: World) -> None:
    world.configure(cooldown_period_ms=1_000)
    world.submit("bad", task="t", output="wrong")
    world.do("register_task", "t", constraint_hash=bytes(32))
    assert world.where("bad") == ["FAILED"]
    unbonded = world.submit("a")
    assert (unbonded.committed, unbonded.decision.rule if unbonded.decision else None) == (False, "cooldown")
    world.submit("other", agent="bob")
    assert denial(world.submit("b", "other")) == "cooldown"
    world.now_ms += 1_000
    assert denial(world.submit("c", "other")) is None


def test_cross_agent(world: World) -> None:
    world.configure(cross_agent=False)
    world.submit("a", agent="bob")
    assert denial(world.submit("b", "a")) == "cross_agent"
    assert denial(world.submit("c", "a", agent="bob")) is None


def test_unbonded_parent(world: World) -> None:
    world.agent("poor", 0)
    parent = world.submit("a", agent="poor")
    assert (parent.state, parent.committed) == (OperationState.QUEUED, False)
    assert parent.decision is not None
    assert parent.decision.rule == "stake_insufficient"
    assert denial(world.submit("b", "a")) == "unbonded_parent"


def test_depth_limit_slides_with_confirmations(world: World) -> None:
    world.configure(max_depth=2)
    world.chain_of(3)
    assert denial(world.submit("x", "op2")) == "depth_limit"
    world.settle("op0")
    granted = world.submit("y", "op2")
    assert (granted.depth, denial(granted)) == (2, None)


def test_branch_limit_counts_leaves_per_agent(world: World) -> None:
    world.configure(max_parallel_branches=2)
    world.submit("root")
    world.submit("a", "root")
    world.submit("b", "root")
    assert denial(world.submit("c", "root")) == "branch_limit"
    assert denial(world.submit("d", "a")) is None, "a child takes its parent's place as a leaf"
    assert denial(world.submit("e", "root", agent="bob")) is None
    world.do("cancel", "b")
    assert denial(world.submit("f", "root")) is None


def test_without_parallel_speculation_there_is_one_branch(world: World) -> None:
    world.configure(parallel_speculation=False)
    world.submit("root")
    world.submit("a", "root")
    assert denial(world.submit("b", "root")) == "branch_limit"
    assert denial(world.submit("c", "a")) is None


def test_a_join_of_two_leaves_leaves_one_branch(world: World) -> None:
    world.submit("root")
    world.submit("a", "root")
    world.submit("b", "root")
    world.submit("join", "a", "b")
    assert world.state.agents["alice"].branches == 1
    world.do("cancel", "join")
    assert world.state.agents["alice"].branches == 2


@pytest.mark.parametrize("claimed", ["task-a", "task-b"])
def test_claim_window_of_an_ancestor_and_of_its_own_task(world: World, claimed: str) -> None:
    world.submit("a")
    world.do("register_task", claimed, constraint_hash=None, claim_ttl_ms=60_000)
    world.do("claim_task", claimed, "alice")
    assert denial(world.submit("b", "a", task="task-b")) == "claim_window"
    world.do("cancel", "b")
    world.configure(claim_buffer_ms=59_999)
    granted = world.submit("c", "a", task="task-b")
    assert denial(granted) is None
    assert granted.decision is not None
    assert granted.decision.claim_margin_ms == 60_000


def test_pending_limit(world: World) -> None:
    world.configure(max_pending_operations=1)
    world.submit("a")
    assert denial(world.submit("b", "a")) == "pending_limit"
    assert not world.submit("c").committed


def test_snapshot_limit(world: World) -> None:
    world.configure(max_state_snapshots=1)
    world.chain_of(2)
    assert denial(world.submit("x", "op1")) == "snapshot_limit"


def test_memory_limit(world: World) -> None:
    world.submit("a")
    world.engine.memory_bytes = OPEN.max_memory_mb << 20
    assert denial(world.submit("b", "a")) == "memory_limit"
    world.engine.memory_bytes -= 1
    assert denial(world.submit("c", "a")) is None


def test_stake_insufficient_by_balance_and_by_the_limit(world: World) -> None:
    world.agent("poor", 1_000_000)
    world.submit("a", agent="poor")
    assert denial(world.submit("b", "a", agent="poor")) == "stake_insufficient"
    world.submit("c")
    world.configure(stake_max_lamports=2_000_000)
    assert denial(world.submit("d", "c")) == "stake_insufficient"


def test_risk_is_learned_from_an_agent_that_fails(world: World) -> None:
    world.configure(cooldown_period_ms=0)
    world.submit("probe", agent="bob")
    assert denial(world.submit("x", "probe")) is None
    for number in range(4):
        world.submit(f"bad{number}", agent="bob", task=f"t{number}")
        world.do("register_task", f"t{number}", constraint_hash=bytes(32))
    refused = world.submit("y", "probe")
    assert denial(refused) == "risk"
    assert refused.decision is not None
    assert 0 < refused.decision.probability < 0.5
    assert refused.decision.loss_ms > refused.decision.gain_ms
    world.submit("mine", operation_type="other")
    assert denial(world.submit("z", "mine")) is None, "another agent's type is not blamed"


def test_circuit_open_and_half_open_probes(world: World) -> None:
    world.configure(breaker_min_finished=2, breaker_probes=2, breaker_pause_ms=1_000)
    world.submit("root", operation_type="root")
    for name in ("a", "b", "c"):
        world.submit(name, "root", task=name)
        world.do("register_task", name, constraint_hash=bytes(32))
    assert world.state.breaker.state.value == "open"
    world.configure(cooldown_period_ms=0)
    world.now_ms += 100_000
    assert denial(world.submit("d", "root")) == "circuit_open"
    world.advance(0)
    assert world.state.breaker.state.value == "half_open"
    assert [denial(world.submit(name, "root")) for name in "efg"] == [None, None, "circuit_open"]
    world.run_until_quiet()
    assert world.state.breaker.state.value == "closed"
    assert "2 probes" in world.state.breaker.reason


def test_every_denial_has_one_rule_in_the_order_of_the_table() -> None:
    assert [one.denial.value for one in RULES] == [
        "disabled",
        "circuit_open",
        "rollout",
        "cooldown",
        "cross_agent",
        "unbonded_parent",
        "depth_limit",
        "branch_limit",
        "claim_window",
        "pending_limit",
        "snapshot_limit",
        "memory_limit",
        "stake_insufficient",
        "risk",
    ]
    assert {one.denial for one in RULES} == set(Denial)


def test_denials_are_counted_by_reason(world: World) -> None:
    world.configure(max_depth=1)
    world.chain_of(4)
    counts = world.state.totals.denials_by_reason
    assert counts[Denial.DEPTH_LIMIT] == 1
    assert counts[Denial.UNBONDED_PARENT] == 1
    assert sum(counts.values()) == 2


# -- decisions kept ------------------------------------------------------------------------------------------------


def test_the_decision_keeps_the_numbers_it_saw(world: World) -> None:
    world.submit("a")
    world.submit("b", "a")
    (first, second) = world.seen(OperationsAdmitted)
    bonded, granted = first.operations[0].decision, second.operations[0].decision
    assert bonded is not None
    assert (bonded.rule, bonded.stake_lamports) == ("committed", 1_000_000)
    assert granted is not None
    assert (granted.rule, granted.denial, granted.stake_lamports) == ("granted", None, 1_100_000)
    assert granted.gain_ms == pytest.approx(3_000 * granted.probability)
    assert granted.loss_ms == pytest.approx(3_000 * (1 - granted.probability))
    assert (granted.branches, granted.max_branches, granted.max_depth) == (1, 16, 20)
    assert granted.bonded_lamports == 2_100_000


def test_confirmations_raise_the_probability_of_later_ones(world: World) -> None:
    world.submit("a")
    before = all_confirm(world.state, lineage(world.state, [world.state.live["a"]]))
    assert before == pytest.approx(PRIOR_GOOD / (PRIOR_GOOD + PRIOR_BAD))
    for number in range(20):
        world.submit(f"op{number}")
    world.run_until_quiet()
    world.submit("z")
    assert before < all_confirm(world.state, lineage(world.state, [world.state.live["z"]])) < 1


def test_a_wide_join_of_one_agents_parents_is_not_condemned_by_their_number(world: World) -> None:
    ids = [f"op{number}" for number in range(92)]
    world.do("submit", [world.submission(one) for one in ids])
    joined = world.submit("join", *ids)
    assert denial(joined) is None
    assert joined.decision is not None
    mean = PRIOR_GOOD / (PRIOR_GOOD + PRIOR_BAD)
    assert mean**92 < joined.decision.probability < mean


# -- an output asked for -------------------------------------------------------------------------------------------


def test_asking_for_an_output_is_the_decision(world: World) -> None:
    world.submit("a")
    granted = world.do("output_decision", "alice", "a")
    assert (granted.final, granted.granted, granted.denial) == (False, True, None)
    world.configure(enabled=False)
    refused = world.do("output_decision", "alice", "a")
    assert (refused.granted, refused.denial) == (False, Denial.DISABLED)
    world.run_until_quiet()
    assert world.do("output_decision", "alice", "a").final
    assert not world.state.totals.denials_by_reason[Denial.DISABLED], (
        "asking is free and not counted in the log"
    )


def test_asking_for_the_output_of_nothing(world: World) -> None:
    world.submit("a")
    world.do("cancel", "a")
    for agent_id, parent_id, code in (
        ("nobody", "a", ErrorCode.UNKNOWN_AGENT),
        ("alice", "ghost", ErrorCode.UNKNOWN_OPERATION),
        ("alice", "a", ErrorCode.UNKNOWN_PARENT),
    ):
        with pytest.raises(CoreError) as refused:
            world.do("output_decision", agent_id, parent_id)
        assert refused.value.code is code


# -- depth and rollout ---------------------------------------------------------------------------------------------


@given(st.data())
def test_depth_is_one_more_than_the_deepest_unconfirmed_parent(data: st.DataObject) -> None:
    world = World(check=False)
    world.agent()
    known: list[str] = []
    for number in range(data.draw(st.integers(1, 14))):
        parents = data.draw(st.lists(st.sampled_from(known), max_size=3, unique=True)) if known else []
        known.append(world.submit(f"op{number}", *parents).operation_id)
        if data.draw(st.integers(0, 4)) == 0:
            closed = next(one for one in world.state.live.values() if not one.unconfirmed)
            world.settle(closed.operation_id)
    state = world.state

    def depth(operation: Operation) -> int:
        return max((1 + depth(state.live[one]) for one in operation.parents if one in state.live), default=0)

    for operation in state.live.values():
        assert state.depth_of(operation) == depth(operation)
    loaded = CoreState.load(state.dump())
    for operation in loaded.live.values():
        assert loaded.depth_of(operation) == state.depth_of(operation)


def test_a_very_long_chain_does_not_exhaust_the_stack(world: World) -> None:
    world.check = False
    world.configure(enabled=False)
    ids = [f"op{number}" for number in range(5_000)]
    parents = [(), *((one,) for one in ids)]
    world.do("submit", [world.submission(one, *above) for one, above in zip(ids, parents, strict=False)])
    world.state.depth_cache.clear()
    assert world.state.depth_of(world.state.live[ids[-1]]) == 4_999
    assert len(world.do("cancel", ids[0])) == 5_000


def test_raising_the_rollout_only_adds_agents() -> None:
    world = World()
    agents = [world.agent(f"agent-{number}", 0) for number in range(200)]
    inside: set[str] = set()
    for percentage in (0.0, 10.0, 25.0, 50.0, 100.0):
        config = replace(OPEN, rollout_percentage=percentage)
        now = {one for one in agents if in_rollout(world.state.agents[one], config)}
        assert inside <= now
        assert abs(len(now) / 2 - percentage) < 10
        inside = now
    assert len(inside) == 200


def test_the_rollout_hash_is_fixed_for_good() -> None:
    assert rollout_position("alice") == pytest.approx(17.12650529798836)
    assert rollout_position("bob") == pytest.approx(50.66866783861982)
