"""The autoscaler's policy: enough workers, soon but not at once; fewer slowly; deadlines always; and no thrash."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.config import CoreConfig
from coordinator.core.cost import Line
from coordinator.core.scaling import (
    Decision,
    Load,
    Memory,
    ScalingConfig,
    Why,
    decide,
    demand,
    hold,
    load_of,
)
from tests.coordinator.core.test_cost import prove
from tests.coordinator.core.world import World

CONFIG = ScalingConfig(
    max_workers=16,
    drain_window_ms=10_000,
    up_confirmations=2,
    down_confirmations=3,
    up_cooldown_ms=10_000,
    down_cooldown_ms=30_000,
)
LOOK_MS = 5_000


def load(batches: float, *, deadline_workers: int = 0) -> Load:
    """So many batches wait, each of which takes 2 s; nothing else comes."""
    return Load(
        rows=round(batches * 1_000),
        arrived_rows=0,
        batch_rows=1_000,
        batch_p95_ms=2_000.0,
        deadline_workers=deadline_workers,
    )


def looks(
    loads: list[Load], *, current: int = 1, memory: Memory | None = None, config: ScalingConfig = CONFIG
) -> tuple[list[Decision], Memory]:
    """What follows of these loads, one look after the other; the workers are there at once."""
    decisions, memory = [], Memory() if memory is None else memory
    start_ms = memory.looked_ms or 0.0
    for at, seen in enumerate(loads, 1):
        decision, memory = decide(memory, seen, config, current=current, now_ms=start_ms + at * LOOK_MS)
        current = decision.target
        decisions.append(decision)
    return decisions, memory


def test_the_demand_is_work_times_p95_over_the_window_clamped() -> None:
    assert demand(load(20), 0.0, CONFIG) == 4
    assert demand(load(20), 0.5, CONFIG) == 5  # 5 batches more come within the window
    (decision, *_), _ = looks([load(1_000)])
    assert decision.wanted == 16
    (decision, *_), _ = looks([load(0)], current=1)
    assert (decision.wanted, decision.target, decision.why) == (1, 1, Why.LIMIT)


def test_up_after_confirmations_and_to_what_all_of_them_wanted() -> None:
    decisions, _ = looks([load(60), load(30), load(30)])
    assert [(one.target, one.why) for one in decisions[:2]] == [(1, Why.CONFIRMING), (6, Why.UP)]
    decisions, _ = looks([load(60), load(1), load(60), load(1)])
    assert {one.target for one in decisions} == {1}, "a spike that is over is nobody's business"


def test_down_by_one_at_a_time_with_a_cooldown_between() -> None:
    decisions, _ = looks([load(0)] * 20, current=6)
    targets = [6, *(one.target for one in decisions)]
    steps = [at for at, (before, after) in enumerate(pairwise(targets)) if after < before]
    assert all(before - after in (0, 1) for before, after in pairwise(targets))
    assert len(steps) >= 2
    assert all(later - earlier >= 6 for earlier, later in pairwise(steps))


def test_a_manual_scale_is_left_alone_for_ten_minutes() -> None:
    memory = hold(Memory(looked_ms=0.0), CONFIG, now_ms=0.0)
    decisions, _ = looks([load(100)] * 125, current=2, memory=memory)
    assert {(one.target, one.why) for one in decisions[:119]} == {(2, Why.HELD)}
    assert decisions[0].held_until_ms == 600_000
    assert decisions[-1].target > 2


def test_a_deadline_goes_up_at_once_and_is_never_gone_below() -> None:
    (first, *_), memory = looks([load(1, deadline_workers=5)])
    assert (first.target, first.why) == (5, Why.DEADLINE)
    decisions, _ = looks([load(1, deadline_workers=5)] * 30, current=5, memory=memory)
    assert {one.target for one in decisions} == {5}
    (first, *_), _ = looks([load(1, deadline_workers=50)])
    assert first.target == CONFIG.max_workers


def test_what_deadlines_need_is_read_from_the_queue() -> None:
    world = World(check=False)
    world.agent("alice")
    prove(world.state.totals.cost, "w1", Line(0.0, 1_000.0 / (4_096 * 12)))  # 2^12 rows: a second
    config = replace(world.config, max_log_rows=12)
    batch_rows = 4_096 - 256
    for number in range(4):  # four batches' worth, due in three proofs' time after a confirmation
        deadline_ms = world.now_ms + 2_400 + 3_300
        world.submit(f"due{number}", rows=batch_rows, deadline_ms=deadline_ms)
    world.submit("hopeless", rows=batch_rows, deadline_ms=world.now_ms + 100)
    world.submit("whenever", rows=batch_rows)
    seen = load_of(world.state, config, now_ms=world.now_ms)
    assert seen.batch_p95_ms == pytest.approx(1_000, rel=0.05)
    assert seen.deadline_workers == 2
    assert seen.rows == 6 * batch_rows
    assert load_of(world.state, config, now_ms=world.now_ms + 10_000).deadline_workers == 0


@given(
    loads=st.lists(st.tuples(st.floats(0, 500), st.integers(0, 40)), min_size=1, max_size=60),
    current=st.integers(1, 16),
)
def test_whatever_comes_the_number_stays_within_its_limits_and_falls_by_one(
    loads: list[tuple[float, int]], current: int
) -> None:
    decisions, _ = looks([load(work, deadline_workers=due) for work, due in loads], current=current)
    for decision, (_, due) in zip(decisions, loads, strict=True):
        assert CONFIG.min_workers <= decision.target <= CONFIG.max_workers
        assert decision.target >= decision.current - 1
        assert decision.target >= min(due, CONFIG.max_workers)
        assert (decision.target == decision.current) == (decision.why not in (Why.UP, Why.DOWN, Why.DEADLINE))


@pytest.mark.parametrize("seed", range(5))
def test_bursty_load_does_not_make_it_thrash(seed: int) -> None:
    """An hour of bursts: five times the usual rate for 20 s, every 40 to 120 s. Directions change seldom, and the queue
    is drained within a few windows all the same.
    """
    chance, memory, current = Random(seed), Memory(), 2
    queue, arrived, directions, longest_wait_s = 0.0, 0.0, [], 0.0
    burst_from, burst_to = 30, 50
    for second in range(3_600):
        if second >= burst_to:
            burst_from = second + chance.randrange(40, 120)
            burst_to = burst_from + 20
        rate = 2.0 if burst_from <= second < burst_to else 0.4
        came = rate * chance.uniform(0.5, 1.5)
        queue, arrived = max(0.0, queue + came - current / 2.0), arrived + came  # a batch takes 2 s
        longest_wait_s = max(longest_wait_s, queue * 2.0 / current)
        if second % 5 == 0:
            seen = replace(load(queue + current / 2.0), arrived_rows=round(arrived * 1_000))
            decision, memory = decide(memory, seen, CONFIG, current=current, now_ms=second * 1_000.0)
            if decision.target != current:
                directions.append(1 if decision.target > current else -1)
            current = decision.target
    changes = sum(one != other for one, other in pairwise(directions))
    assert changes <= 36, f"{changes} changes of direction in about 36 bursts"
    assert longest_wait_s < 3 * CONFIG.drain_window_ms / 1_000


def test_an_idle_coordinator_has_a_load_without_work() -> None:
    seen = load_of(World(check=False).state, CoreConfig(), now_ms=0)
    assert (seen.rows, seen.arrived_rows, seen.deadline_workers) == (0, 0, 0)
    assert demand(seen, 0.0, CONFIG) == 0
