"""The circuit breaker: what opens it, what does not, and how it closes again."""

import pytest

from coordinator.core import breaker
from coordinator.core.states import BreakerState, ReturnReason
from tests.coordinator.core.world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    made.configure(breaker_min_finished=20, cooldown_period_ms=0)
    return made


def confirm(world: World, count: int, prefix: str) -> None:
    ids = [f"{prefix}{number}" for number in range(count)]
    world.do("submit", [world.submission(one) for one in ids])
    world.settle(*ids)


def roll_back(world: World, count: int, prefix: str) -> None:
    for number in range(count):
        world.submit(f"{prefix}{number}")
        for _ in range(2):
            world.fail_batch(*world.start(f"{prefix}{number}"), ReturnReason.PROVER_ERROR)


def fail(world: World, count: int, prefix: str) -> None:
    for number in range(count):
        world.submit(f"{prefix}{number}")
        world.do("register_task", f"task-{prefix}{number}", constraint_hash=bytes(32))


def test_it_opens_above_the_ratio_of_rollbacks_and_says_why(world: World) -> None:
    confirm(world, 14, "good")
    roll_back(world, 6, "bad")
    assert world.state.breaker.state is BreakerState.CLOSED, "6 of 20 are not more than 30 %"
    roll_back(world, 1, "one-more")
    assert world.state.breaker.state is BreakerState.OPEN
    assert world.state.breaker.reason == "rollbacks: 7 of 21 finished in 60 s, more than 30%"
    assert world.state.breaker.until_ms == world.now_ms + 30_000


def test_it_opens_above_the_ratio_of_errors(world: World) -> None:
    confirm(world, 18, "good")
    fail(world, 2, "bad")
    assert world.state.breaker.state is BreakerState.CLOSED
    fail(world, 1, "one-more")
    assert world.state.breaker.reason.startswith("errors: 3 of 21")


def test_too_few_finished_do_not_open_it(world: World) -> None:
    roll_back(world, 19, "bad")
    assert world.state.breaker.state is BreakerState.CLOSED
    roll_back(world, 1, "one-more")
    assert world.state.breaker.state is BreakerState.OPEN


def test_what_is_older_than_the_window_does_not_count(world: World) -> None:
    roll_back(world, 19, "bad")
    world.now_ms += 61_000
    roll_back(world, 1, "late")
    assert world.state.breaker.state is BreakerState.CLOSED
    assert breaker.window_counts(world.state, world.config, now_ms=world.now_ms) == (1, 1, 0)


def test_operators_rollbacks_do_not_count(world: World) -> None:
    world.chain_of(10)
    world.do("emergency", "disable_speculation", force=True, by="operator")
    world.do("set_config", {"speculation.enabled": True}, by="operator")
    world.submit("stale")
    for number in range(15):
        world.submit(f"child{number}", "stale")
    world.do("timeout_stale", 0, by="operator")
    assert world.state.totals.rolled_back == 26
    assert breaker.window_counts(world.state, world.config, now_ms=world.now_ms) == (0, 0, 0)


def test_after_the_pause_it_probes_and_closes_when_they_confirm(world: World) -> None:
    roll_back(world, 20, "bad")
    world.advance(29_999)
    assert world.state.breaker.state is BreakerState.OPEN
    world.advance(1)
    assert world.state.breaker.state is BreakerState.HALF_OPEN
    world.submit("root", operation_type="fresh")
    for number in range(5):
        world.submit(f"probe{number}", "root")
    assert len(world.state.breaker.probes) == 5
    world.run_until_quiet()
    assert world.state.breaker.state is BreakerState.CLOSED
    assert world.state.breaker.reason == "5 probes were confirmed"
    assert not world.state.breaker.window


def test_a_failed_probe_opens_it_again(world: World) -> None:
    roll_back(world, 20, "bad")
    world.advance(30_000)
    world.submit("root", operation_type="fresh")
    world.submit("probe", "root")
    world.do("register_task", "task-probe", constraint_hash=bytes(32))
    assert world.state.breaker.state is BreakerState.OPEN
    assert "a probe failed: constraint_mismatch" in world.state.breaker.reason


def test_a_probe_that_its_agent_cancels_says_nothing(world: World) -> None:
    roll_back(world, 20, "bad")
    world.advance(30_000)
    world.submit("root", operation_type="fresh")
    world.submit("probe", "root")
    world.do("cancel", "probe")
    assert world.state.breaker.state is BreakerState.HALF_OPEN
    assert not world.state.breaker.probes


def test_a_reset_closes_it_and_empties_the_window(world: World) -> None:
    roll_back(world, 20, "bad")
    world.do("reset_breaker", by="ops")
    assert (world.state.breaker.state, world.state.breaker.reason) == (BreakerState.CLOSED, "reset by ops")
    roll_back(world, 19, "more")
    assert world.state.breaker.state is BreakerState.CLOSED
