"""Gathering: closed work waits for those that build on it, never long, and not where nobody is expected."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import BatchPlan
from coordinator.core.config import CoreConfig
from coordinator.core.estimates import Estimates
from coordinator.core.gathering import GAP_MARGIN, Gathering
from coordinator.core.planner import PlannerView, plan, plan_until
from tests.coordinator.core.world import OPEN, World

#: (confirmation_slots + 1) × slot_ms, before any confirmation was seen.
SETTLE_MS = 2_400
QUIET_MS = round(0.08 * SETTLE_MS)


@pytest.fixture
def world() -> World:
    made = World(config=replace(OPEN, gather_ratio=0.08))
    made.agent("alice")
    return made


def view(world: World) -> PlannerView:
    return PlannerView(
        state=world.state, config=world.config, idle_workers=world.idle, worker_ids=world.workers
    )


def plans(world: World) -> list[BatchPlan]:
    return plan(view(world), now_ms=world.now_ms)


def until_ms(world: World, operation_id: str) -> float:
    estimates = Estimates(world.state, world.config, world.now_ms)
    return Gathering(world.state, world.config, estimates).until_ms(world.state.live[operation_id])


def test_an_operation_waits_a_moment_for_its_child_and_they_share_a_proof(world: World) -> None:
    world.submit("a")
    assert plans(world) == []
    assert plan_until(view(world), now_ms=world.now_ms)[1] == pytest.approx(world.now_ms + QUIET_MS)
    world.now_ms += QUIET_MS - 1
    world.submit("b", "a")
    assert plans(world) == []
    world.now_ms += QUIET_MS + 1
    (found,) = plans(world)
    assert found.operation_ids == ("a", "b")


def test_arrivals_that_do_not_stop_are_waited_for_as_long_as_a_confirmation_takes(world: World) -> None:
    admitted_ms = world.now_ms
    world.submit("op0")
    number = 0
    while not plans(world):
        assert world.now_ms <= admitted_ms + SETTLE_MS
        number += 1
        world.submit(f"op{number}", f"op{number - 1}")
        world.now_ms += QUIET_MS * 3 // 4
    assert world.now_ms >= admitted_ms + SETTLE_MS - QUIET_MS


def test_nothing_waits_while_nobody_may_speculate(world: World) -> None:
    world.configure(enabled=False)
    world.submit("a")
    assert [one.operation_ids for one in plans(world)] == [("a",)]


def test_nothing_waits_when_a_whole_batch_is_there(world: World) -> None:
    world.configure(batch_size=3)
    for number in range(3):
        assert plans(world) == []
        world.submit(f"op{number}")
    assert [len(one.operation_ids) for one in plans(world)] == [3]


def test_a_deadline_that_waiting_would_miss_is_not_waited_with(world: World) -> None:
    world.submit("a", deadline_ms=world.now_ms + SETTLE_MS)
    assert [one.operation_ids for one in plans(world)] == [("a",)]
    world.submit("b", deadline_ms=world.now_ms + 10 * SETTLE_MS)
    assert until_ms(world, "b") == pytest.approx(world.now_ms + QUIET_MS)


def test_where_no_child_ever_comes_nothing_is_waited_for(world: World) -> None:
    for number in range(60):
        world.submit(f"op{number}")
    world.run_until_quiet()
    world.submit("alone")
    assert [one.operation_ids for one in plans(world)] == [("alone",)]


def test_a_known_gap_is_waited_for_where_that_is_worth_it(world: World) -> None:
    gap_ms = 3 * QUIET_MS
    for round_ in range(3):
        for number in range(5):
            parents = [f"op{round_}-{number - 1}"] if number else []
            world.submit(f"op{round_}-{number}", *parents)
            world.now_ms += gap_ms
        world.run_until_quiet()
    seen = world.state.agents["alice"].by_type["work"]
    assert seen.gap_ms == pytest.approx(gap_ms)
    assert seen.company is not None
    assert 0.5 < seen.company < 1.0
    world.submit("next")
    expected_ms = GAP_MARGIN * gap_ms
    settle_ms = Estimates(world.state, world.config, world.now_ms).settle_ms
    if expected_ms <= 0.5 * seen.company * settle_ms:
        assert until_ms(world, "next") == pytest.approx(world.now_ms + expected_ms)
    else:
        assert until_ms(world, "next") == pytest.approx(world.now_ms + 0.08 * settle_ms)


@given(st.lists(st.integers(0, 600), min_size=1, max_size=12), st.floats(0.0, 0.5))
def test_no_wait_is_longer_than_a_confirmation(gaps_ms: list[int], ratio: float) -> None:
    world = World(config=replace(OPEN, gather_ratio=ratio), check=False)
    world.agent("alice")
    for number, gap_ms in enumerate(gaps_ms):
        world.submit(f"op{number}", *([f"op{number - 1}"] if number else []))
        world.now_ms += gap_ms
    first = world.state.live["op0"]
    assert until_ms(world, "op0") <= first.admitted_at_ms + SETTLE_MS


def test_the_default_is_that_of_the_settings_table() -> None:
    from coordinator.settings_table import KEYS

    assert KEYS["speculation.proof.gather_ratio"].default == CoreConfig().gather_ratio
