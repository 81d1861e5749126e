"""The planner: closed work at once, dependent work in time, everyone in turn, nobody stranded."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import BatchPlan
from coordinator.core.config import CoreConfig
from coordinator.core.cost import CostModel
from coordinator.core.estimates import AUTO_LOG_ROWS, Estimates, capacity
from coordinator.core.limits import MAX_BATCH_OPERATIONS, PADDING_ROWS
from coordinator.core.planner import EARLY_MS, MAX_RIDERS, PlannerView, plan
from coordinator.core.states import ReturnReason
from tests.coordinator.core.world import World


@pytest.fixture
def world() -> World:
    made = World(check=False)
    made.agent("alice")
    made.agent("bob")
    return made


def plans(world: World) -> list[BatchPlan]:
    view = PlannerView(
        state=world.state, config=world.config, idle_workers=world.idle, worker_ids=world.workers
    )
    found = plan(view, now_ms=world.now_ms)
    assert plan(view, now_ms=world.now_ms) == found, "planning changes nothing"
    return found


def test_a_chain_goes_into_one_batch_parents_first(world: World) -> None:
    ids = world.chain_of(10)
    (found,) = plans(world)
    assert (found.operation_ids, found.worker_id, found.reason) == (tuple(ids), "w1", "closed")


def test_no_work_or_no_worker_no_plan(world: World) -> None:
    assert plans(world) == []
    world.submit("a")
    world.workers.clear()
    assert plans(world) == []


def test_a_join_waits_for_all_its_parents(world: World) -> None:
    for one in ("a", "b", "c"):
        world.submit(one)
    world.submit("join", "a", "b", "c")
    (found,) = plans(world)
    assert found.operation_ids == ("a", "b", "c", "join")
    world.configure(batch_size=2)
    (found,) = plans(world)
    assert found.operation_ids == ("a", "b")


def test_a_number_is_the_ceiling_and_auto_fills_rows() -> None:
    assert capacity(CoreConfig(batch_size=50), CostModel()) == (50, (1 << 17) - PADDING_ROWS)
    assert capacity(CoreConfig(), CostModel()) == (MAX_BATCH_OPERATIONS, (1 << AUTO_LOG_ROWS) - PADDING_ROWS)
    assert capacity(CoreConfig(max_log_rows=10), CostModel()) == (MAX_BATCH_OPERATIONS, 768)


def test_rows_bound_a_batch(world: World) -> None:
    world.configure(max_log_rows=10)
    for number in range(5):
        world.submit(f"op{number}", rows=300)
    (found,) = plans(world)
    assert found.operation_ids == ("op0", "op1")


def test_one_operation_always_fits(world: World) -> None:
    world.submit("huge", rows=40_000)
    (found,) = plans(world)
    assert found.operation_ids == ("huge",)


def test_deadlines_then_priority_then_admission(world: World) -> None:
    world.configure(batch_size=4)
    world.submit("late", deadline_ms=world.now_ms + 9_000)
    world.submit("plain")
    world.submit("important", priority=5)
    world.submit("soon", deadline_ms=world.now_ms + 1_000)
    world.submit("also")
    (found,) = plans(world)
    assert found.operation_ids == ("soon", "late", "important", "plain")


def test_agents_take_turns(world: World) -> None:
    world.configure(batch_size=4)
    for number in range(20):
        world.submit(f"a{number}", priority=9)
    world.submit("b0", agent="bob")
    world.submit("b1", agent="bob")
    (found,) = plans(world)
    assert sorted(found.operation_ids) == ["a0", "a1", "b0", "b1"]


def test_a_greedy_agent_does_not_keep_the_others_from_the_places(world: World) -> None:
    """More agents than places: half of the places go by turn, so a queue of urgent ones does not starve anyone."""
    world.configure(batch_size=2)
    names = [f"agent{number}" for number in range(6)]
    for name in names:
        world.agent(name)
        world.submit(f"{name}-op", agent=name)
    for number in range(40):
        world.submit(f"greedy{number}", priority=9)
    served: list[str] = []
    for _ in range(12):
        for batch_id in world.start():
            served += world.state.batches[batch_id].operation_ids
            world.prove(batch_id)
    assert {f"{name}-op" for name in names} <= set(served)


def test_idle_workers_share_what_is_queued(world: World) -> None:
    world.workers[:] = ["w1", "w2", "w3", "w4"]
    for number in range(1_600):
        world.submit(f"op{number}")
    sizes = [len(one.operation_ids) for one in plans(world)]
    assert sizes == [400, 400, 400, 400]
    world.configure(batch_size=1_600)
    assert [len(one.operation_ids) for one in plans(world)] == [1_600]


def test_little_work_is_not_split_into_small_proofs(world: World) -> None:
    world.workers[:] = ["w1", "w2"]
    for number in range(10):
        world.submit(f"op{number}")
    assert [len(one.operation_ids) for one in plans(world)] == [10]


def test_a_chain_is_not_torn_apart_by_the_turns_of_others(world: World) -> None:
    """Each part of it would have to wait for the confirmation of the one before."""
    world.configure(batch_size=10)
    for number in range(4):
        world.chain_of(5, agent=world.agent(f"agent{number}"), prefix=f"chain{number}-")
    (found,) = plans(world)
    chains = [[f"chain{number}-{link}" for link in range(5)] for number in (0, 1)]
    assert sorted(found.operation_ids) == sorted(chains[0] + chains[1])


def test_a_turn_brings_along_only_so_much(world: World) -> None:
    world.configure(batch_size=MAX_RIDERS + 1, max_depth=1_000)
    world.chain_of(2 * MAX_RIDERS)
    world.submit("other", agent="bob")
    (found,) = plans(world)
    assert "other" in found.operation_ids


@pytest.mark.parametrize(("rows", "left_behind"), [(4_096, 1), (5_000, 0), (3_000, 0)])
def test_a_trace_is_not_doubled_for_what_stands_alone(world: World, rows: int, left_behind: int) -> None:
    """8,192 − 256 rows fit the smaller trace; the rest is left behind where it is small."""
    world.submit("parent", rows=rows)
    world.submit("child", "parent", rows=3_500)
    world.submit("alone", rows=700, agent="bob")
    (found,) = plans(world)
    assert {"parent", "child"} <= set(found.operation_ids)
    assert len(found.operation_ids) == 3 - left_behind


def test_rivals_for_a_task_are_kept_apart(world: World) -> None:
    world.workers.append("w2")
    world.submit("a", task="t")
    world.submit("b", task="t", agent="bob", output="another")
    world.submit("b2", "b", agent="bob")
    world.submit("c", agent="bob")
    (found,) = plans(world)
    assert found.operation_ids == ("a", "c")
    world.start()
    assert plans(world) == []


def test_dependent_work_is_held_until_its_proof_would_be_ready_in_time(world: World) -> None:
    world.chain_of(3)
    world.workers.append("w2")
    first = world.to_submitting("op0")
    estimates = Estimates(world.state, world.config, world.now_ms)
    prove_ms = estimates.prove_ms(32)
    confirmed_ms = world.now_ms + estimates.settle_ms
    assert plans(world) == []
    world.now_ms = int(confirmed_ms - prove_ms - EARLY_MS) - 5
    assert plans(world) == []
    world.now_ms += 10
    (found,) = plans(world)
    assert (found.operation_ids, found.reason) == (("op1", "op2"), "dependent")
    world.start()
    world.confirm(first)
    world.run_until_quiet()


def test_dependent_work_that_fills_a_batch_goes_at_once(world: World) -> None:
    world.configure(batch_size=3)
    world.chain_of(6)
    world.to_submitting("op0")
    (found,) = plans(world)
    assert found.operation_ids == ("op1", "op2", "op3")


def test_held_work_becomes_closed_when_its_ancestors_confirm(world: World) -> None:
    world.chain_of(3)
    first = world.to_submitting("op0")
    assert plans(world) == []
    world.confirm(first)
    (found,) = plans(world)
    assert (found.operation_ids, found.reason) == (("op1", "op2"), "closed")


def test_closed_work_does_not_wait_for_dependent_work(world: World) -> None:
    world.chain_of(2)
    world.to_submitting("op0")
    world.submit("free")
    world.submit("join", "free", "op1")
    (found,) = plans(world)
    assert found.operation_ids == ("free",)


def test_estimates_follow_what_was_seen(world: World) -> None:
    assert Estimates(world.state, world.config, 0).settle_ms == 2_400
    world.submit("a")
    transaction = world.to_submitting("a")
    world.advance(4_000)
    world.confirm(transaction)
    estimates = Estimates(world.state, world.config, 0)
    assert estimates.settle_ms == 4_000
    # The one proof had 2^9 rows and took 500 ms.
    assert estimates.prove_ms(512 - PADDING_ROWS) == pytest.approx(500)
    assert 500 < estimates.prove_ms(2_048 - PADDING_ROWS) < 4 * 500
    assert Estimates(world.state, world.config, 0).first_confirmed_ms() == 0


def test_a_group_apart_is_proved_by_itself(world: World) -> None:
    for number in range(4):
        world.submit(f"op{number}")
    (batch_id,) = world.start()
    world.fail_batch(batch_id, ReturnReason.PROVER_ERROR)
    world.submit("other")
    world.workers[:] = ["w2"]
    assert [one.operation_ids for one in plans(world)] == [("op0", "op1")]
    world.workers[:] = ["w2", "w3", "w4"]
    assert [one.operation_ids for one in plans(world)] == [("op0", "op1"), ("op2", "op3"), ("other",)]


def test_a_worker_that_failed_an_operation_is_passed_over_while_there_is_another(world: World) -> None:
    world.workers[:] = ["w1", "w2"]
    world.submit("a")
    (batch_id,) = world.start()
    world.fail_batch(batch_id, ReturnReason.TIMEOUT)
    world.submit("b")
    world.running["busy"] = "w2"
    assert [(one.worker_id, one.operation_ids) for one in plans(world)] == [("w1", ("b",))]
    del world.running["busy"]
    world.workers[:] = ["w1"]
    assert [one.operation_ids for one in plans(world)] == [("a", "b")]


@given(st.integers(0, 2**32))
def test_every_plan_fits_and_nothing_is_stranded(seed: int) -> None:
    random = Random(seed)
    world = World(workers=[f"w{number}" for number in range(random.randint(1, 3))], check=False)
    world.configure(
        batch_size=random.choice([1, 2, 5, None]), optimistic_proofs=random.random() < 0.8, max_depth=5
    )
    agents = [world.agent(f"agent{number}") for number in range(random.randint(1, 3))]
    known: list[str] = []
    for number in range(random.randint(1, 40)):
        parents = random.sample(known[-8:], min(len(known[-8:]), random.choice([0, 1, 1, 2, 3])))
        known.append(f"op{number}")
        world.submit(known[-1], *parents, agent=random.choice(agents), rows=random.choice([16, 5_000]))
        if random.random() < 0.2:
            # Starting a plan that does not fit is refused, and then the test fails.
            world.start()
        for batch_id in list(world.running):
            if random.random() < 0.2:
                world.prove(batch_id)
        for transaction in world.send_due():
            if random.random() < 0.5:
                world.confirm(transaction)
        world.advance(random.choice([0, 100, 1_000]))
    world.run_until_quiet()
    assert world.state.totals.confirmed == len(known)
