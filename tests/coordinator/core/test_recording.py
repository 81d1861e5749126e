"""A recorded run is found again in simulated time, and other conditions move the outcome as they should."""

from dataclasses import replace

import msgspec
import pytest

from coordinator.core.config import CoreConfig
from coordinator.core.cost import Line
from coordinator.core.recording import Question, Recording, predict, record
from coordinator.core.state import CoreState
from coordinator.core.what_if import Model, TaskSpec, WhatIf

LINE = Line(100.0, 1e-3)
LATENCY_MS = 2_400.0
CONFIG = replace(
    CoreConfig(), enabled=True, max_depth=10, max_parallel_branches=16, batch_size=1, gather_ratio=0.0
)


def run(*, workers: int, enabled: bool = True) -> Recording:
    """Sixty operations in chains of three, at once, one proof each."""
    config = replace(CONFIG, enabled=enabled)
    model = Model(proof_ms=lambda rows: LINE.ms(1 << 9), latency_ms=LATENCY_MS, workers=workers)
    what_if = WhatIf(config, model)
    tasks = [
        TaskSpec(parents=(at - 1,) if at % 3 else (), runtime_ms=50.0, agent_id=f"agent-{at // 3}", rows=16)
        for at in range(60)
    ]
    what_if.run(tasks)
    found = record(what_if.engine.state, config)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def recording() -> Recording:
    return run(workers=2)


def test_a_run_is_predicted_by_its_own_recording(recording: Recording) -> None:
    assert recording.workers == 2
    assert recording.speculation
    assert recording.settle_ms == pytest.approx(LATENCY_MS, rel=0.1)
    again = predict(recording, CONFIG, Question())
    assert again.operations == recording.measured.operations == 60
    assert again.p50_ms == pytest.approx(recording.measured.p50_ms, rel=0.1)
    assert again.p99_ms == pytest.approx(recording.measured.p99_ms, rel=0.1)
    assert again.operations_per_s == pytest.approx(recording.measured.operations_per_s, rel=0.1)


def test_other_workers_are_predicted_as_they_would_have_been_measured(recording: Recording) -> None:
    measured = run(workers=8).measured
    predicted = predict(recording, CONFIG, Question(workers=8))
    assert predicted.p99_ms == pytest.approx(measured.p99_ms, rel=0.1)
    assert predicted.operations_per_s == pytest.approx(measured.operations_per_s, rel=0.1)
    assert predicted.operations_per_s > 1.05 * recording.measured.operations_per_s


def test_without_speculation_each_link_waits_for_a_confirmation(recording: Recording) -> None:
    measured = run(workers=2, enabled=False).measured
    predicted = predict(recording, CONFIG, Question(depth=0))
    assert predicted.makespan_ms == pytest.approx(measured.makespan_ms, rel=0.1)
    assert predicted.makespan_ms > 2.5 * LATENCY_MS


def test_greater_batches_need_fewer_proofs(recording: Recording) -> None:
    assert predict(recording, CONFIG, Question(batch=64)).p99_ms < recording.measured.p99_ms


def test_a_recording_survives_its_file(recording: Recording) -> None:
    assert msgspec.json.decode(msgspec.json.encode(recording), type=Recording) == recording


def test_nothing_confirmed_is_no_recording() -> None:
    assert record(CoreState(), CONFIG) is None
