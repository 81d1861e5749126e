"""The cost model: it finds the line that made the times, follows when it moves, and never predicts nonsense."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.config import CoreConfig
from coordinator.core.cost import ENOUGH, MAX_WORKERS, TRUST_AGAIN, CostModel, Fit, Line, padded_rows, units
from coordinator.core.estimates import AUTO_LOG_ROWS, LEAST_LOG_ROWS, best_log_rows, capacity
from coordinator.core.limits import PADDING_ROWS
from coordinator.core.planner import PlannerView, plan
from coordinator.core.states import ReturnReason
from tests.coordinator.core.world import World

CPU, GPU = Line(40.0, 9e-4), Line(60.0, 2e-5)


def prove(model: CostModel, worker: str, line: Line, *, backend: str = "cpu", proofs: int = 40) -> None:
    """Proofs of many sizes, as long as the line says."""
    for at in range(proofs):
        rows = 1 << (12 + at % 5)
        model.proved(worker, backend, rows, line.ms(rows))


@given(
    fixed_ms=st.floats(1.0, 500.0),
    unit_ms=st.floats(1e-6, 1e-2),
    seed=st.integers(0, 2**32),
)
def test_the_line_that_made_the_times_is_found(fixed_ms: float, unit_ms: float, seed: int) -> None:
    line, fit, chance = Line(fixed_ms, unit_ms), Fit(), Random(seed)
    for _ in range(200):
        rows = 1 << chance.randrange(9, 18)
        fit.add(rows, line.ms(rows) * chance.uniform(0.98, 1.02), Line())
    for log_rows in range(10, 18):
        assert fit.line.ms(1 << log_rows) == pytest.approx(line.ms(1 << log_rows), rel=0.25)
    assert fit.p95 < 1.5


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 10**7)), min_size=1, max_size=200))
def test_whatever_the_times_a_prediction_is_finite_and_not_negative(proofs: list[tuple[int, int]]) -> None:
    fit = Fit()
    for rows, took_ms in proofs:
        fit.add(rows, took_ms, Line())
        assert fit.line.fixed_ms >= 0.0
        assert fit.line.unit_ms >= 0.0
        assert 0.0 < fit.line.ms(1 << 15) < 1e12
        assert fit.error >= 0.0


def test_one_size_alone_is_predicted_exactly_and_the_others_between_constant_and_proportional() -> None:
    fit = Fit()
    for _ in range(500):  # as long as it may take: nothing winds up
        fit.add(1 << 14, 300.0, Line())
    assert fit.line.ms(1 << 14) == pytest.approx(300.0, rel=1e-3)
    assert 300.0 < fit.line.ms(1 << 16) < 300.0 * units(1 << 16) / units(1 << 14)


def test_a_worker_that_becomes_slower_is_believed_within_twenty_proofs() -> None:
    model = CostModel()
    prove(model, "w-1", CPU)
    before_ms = model.line("w-1").ms(1 << 14)
    prove(model, "w-1", Line(3 * CPU.fixed_ms, 3 * CPU.unit_ms), proofs=25)
    assert model.line("w-1").ms(1 << 14) > 2.2 * before_ms


def test_a_worker_without_proofs_is_judged_by_its_backend_and_nobody_by_the_fastest() -> None:
    model = CostModel()
    prove(model, "w-1", CPU)
    prove(model, "w-2", GPU, backend="cuda")
    model.proved("w-3", "cpu", 1 << 14, CPU.ms(1 << 14))
    assert model.line("w-3") == model.backends["cpu"].line
    assert model.line().ms(1 << 15) == pytest.approx(GPU.ms(1 << 15), rel=0.05)
    assert model.workers["w-3"].samples < ENOUGH


def test_a_name_that_another_backend_takes_over_is_learned_anew() -> None:
    model = CostModel()
    prove(model, "w-1", CPU)
    prove(model, "w-1", GPU, backend="cuda")
    assert model.workers["w-1"].backend == "cuda"
    assert model.line("w-1").ms(1 << 15) == pytest.approx(GPU.ms(1 << 15), rel=0.05)


def test_the_number_of_workers_known_is_bounded() -> None:
    model = CostModel()
    for number in range(MAX_WORKERS + 5):
        model.proved(f"w-{number}", "cpu", 512, 1.0)
    assert len(model.workers) == MAX_WORKERS
    assert "w-0" not in model.workers


def test_the_batch_grows_where_a_taller_proof_pays_and_shrinks_for_the_latency() -> None:
    cpu, gpu, slow = CostModel(), CostModel(), CostModel()
    prove(cpu, "w", CPU)
    prove(gpu, "w", GPU)
    prove(slow, "w", Line(40.0, 2e-2))
    config = CoreConfig()
    assert best_log_rows(config, CostModel(), None) == AUTO_LOG_ROWS
    assert best_log_rows(config, cpu, "w") == AUTO_LOG_ROWS
    assert best_log_rows(config, gpu, "w") == config.max_log_rows
    assert LEAST_LOG_ROWS <= best_log_rows(config, slow, "w") < AUTO_LOG_ROWS
    assert best_log_rows(CoreConfig(proof_target_ms=50), slow, "w") == LEAST_LOG_ROWS
    assert capacity(CoreConfig(batch_size=7), gpu, "w")[0] == 7


def test_a_worker_out_of_memory_gets_half_until_it_has_proved_itself() -> None:
    world = World(check=True)
    world.agent("alice")
    for number in range(4):
        world.submit(f"op{number}", rows=(1 << 13))
    batch_id = world.start()[0]
    rows = padded_rows(world.state.batches[batch_id].operation_rows)
    world.fail_batch(batch_id, ReturnReason.OUT_OF_MEMORY)
    cost = world.state.totals.cost
    assert cost.max_rows("w1") == rows // 2
    assert capacity(world.config, cost, "w1")[1] <= rows // 2 - PADDING_ROWS
    assert capacity(world.config, cost, "w2")[1] > rows // 2
    for _ in range(TRUST_AGAIN):
        cost.proved("w1", "cpu", 1 << 12, 50.0)
    assert cost.max_rows("w1") == rows


def test_workers_share_what_is_queued_by_their_speeds() -> None:
    world = World(check=False, workers=["slow", "fast"])
    world.agent("alice")
    prove(world.state.totals.cost, "slow", Line(30.0, 3e-3))
    prove(world.state.totals.cost, "fast", Line(10.0, 1e-3), backend="cuda")
    for number in range(800):
        world.submit(f"op{number}", rows=20)
    view = PlannerView(
        state=world.state, config=world.config, idle_workers=world.workers, worker_ids=world.workers
    )
    found = {one.worker_id: len(one.operation_ids) for one in plan(view, now_ms=world.now_ms)}
    assert found["fast"] == pytest.approx(3 * found["slow"], rel=0.1)
    assert sum(found.values()) > 780  # the rest waits, rather than double the trace
