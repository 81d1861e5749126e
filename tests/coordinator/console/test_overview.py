"""What the console is told: levels as the thresholds have them, a bounded past, a bounded graph."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.answers_console import ConsoleSample
from coordinator.console.overview import (
    HISTORY_SAMPLES,
    HISTORY_STEP_MS,
    History,
    level_of,
)
from coordinator.thresholds import THRESHOLDS, Threshold


def sample(at_ms: int) -> ConsoleSample:
    return ConsoleSample(
        at_ms=at_ms,
        queued=0,
        open=0,
        pending=0,
        depth=0,
        admitted_total=0,
        confirmed_total=0,
        rollbacks_total={},
        latency_p99_s=0.0,
        locked_lamports=0,
        memory_bytes=0,
        workers_running=0,
        workers_busy=0.0,
    )


@pytest.mark.parametrize("threshold", THRESHOLDS.values())
def test_a_level_begins_above_its_threshold_and_not_at_it(threshold: Threshold) -> None:
    assert level_of(threshold.warning, threshold) == "ok"
    assert level_of(threshold.warning * 1.001, threshold) == "warning"
    if threshold.critical != float("inf"):
        assert level_of(threshold.critical, threshold) == "warning"
        assert level_of(threshold.critical * 1.001, threshold) == "critical"


@given(st.lists(st.integers(-1_000_000, 1_000_000), max_size=400))
def test_the_past_is_bounded_and_evenly_sampled_whatever_the_clock_does(steps_ms: list[int]) -> None:
    history, now_ms = History(), 10_000_000_000
    for step_ms in steps_ms:
        now_ms += step_ms
        history.note(partial(sample, now_ms), now_ms=now_ms)
    times = [one.at_ms for one in history.samples]
    assert len(times) <= HISTORY_SAMPLES
    assert all(b - a >= HISTORY_STEP_MS or b < a for a, b in pairwise(times))
