"""What-if: the same question has the same answer, no run beats the floor, and speculation shortens chains."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.config import CoreConfig
from coordinator.core.errors import CoreError
from coordinator.core.what_if import Model, TaskSpec, WhatIf

LATENCY_MS = 2_400.0
PROOF_MS = 100.0
SPECULATE = replace(
    CoreConfig(), enabled=True, max_depth=20, max_parallel_branches=16, stake_max_lamports=1 << 50
)
MODEL = Model(proof_ms=lambda _rows: PROOF_MS, latency_ms=LATENCY_MS)


def chain(length: int, runtime_ms: float) -> list[TaskSpec]:
    return [TaskSpec(parents=(place - 1,) if place else (), runtime_ms=runtime_ms) for place in range(length)]


def makespan_ms(tasks: list[TaskSpec], config: CoreConfig, model: Model = MODEL) -> float:
    return max(task.confirmed_ms for task in WhatIf(config, model).run(tasks))


def test_without_speculation_a_chain_pays_for_every_proof_and_confirmation() -> None:
    expected_ms = 5 * (200.0 + PROOF_MS + LATENCY_MS)
    assert makespan_ms(chain(5, 200.0), CoreConfig()) == pytest.approx(expected_ms, abs=10)


def test_with_speculation_a_short_chain_comes_near_its_floor() -> None:
    floor_ms = 10 * 100.0 + PROOF_MS + LATENCY_MS
    assert makespan_ms(chain(10, 100.0), SPECULATE) <= 1.1 * floor_ms


def test_a_wrong_result_is_executed_again_with_all_that_built_on_it() -> None:
    model = replace(MODEL, wrong=lambda operation_id: operation_id == "op-1-1-0")
    what_if = WhatIf(SPECULATE, model)
    done = what_if.run(chain(4, 100.0))
    assert [task.attempts for task in done] == [0, 1, 1, 1]
    assert what_if.executions == 7


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2_000)), min_size=1, max_size=12),
    st.booleans(),
    st.integers(1, 3),
)
def test_any_graph_ends_at_its_floor_or_later_and_the_same_every_time(
    drawn: list[tuple[int, float]], speculate: bool, workers: int
) -> None:
    tasks = [
        TaskSpec(parents=tuple(range(max(0, place - count), place)), runtime_ms=runtime_ms)
        for place, (count, runtime_ms) in enumerate(drawn)
    ]
    ends: list[float] = []
    for task in tasks:
        ends.append(task.runtime_ms + max((ends[parent] for parent in task.parents), default=0.0))
    config = replace(SPECULATE, enabled=speculate)
    model = replace(MODEL, workers=workers)
    found_ms = makespan_ms(tasks, config, model)
    assert found_ms >= max(ends) + PROOF_MS + LATENCY_MS - 2
    assert makespan_ms(tasks, config, model) == found_ms


def test_a_workload_that_cannot_be_done_is_refused_not_run_for_ever() -> None:
    full = replace(SPECULATE, max_open_operations=0)
    with pytest.raises(CoreError):
        WhatIf(full, MODEL).run(chain(1, 1.0))
