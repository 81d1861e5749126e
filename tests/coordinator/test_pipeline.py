"""Pipeline analysis: seconds by stage from the timelines, the bottleneck, and the knob that would relieve it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.states import ConnectionStatus
from coordinator.pipeline import AdmissionTimes, Analysis, Stage, analyze, stage_seconds
from coordinator.relief import Relief, relief_of
from coordinator.settings import Settings
from tests.coordinator.core.world import World
from workers.messages import PoolScale, ScaleLimit

WORKERS = PoolScale(desired=2, running=2, target=2, limited_by=None)


def analysis(world: World, admissions: AdmissionTimes | None = None, window_s: int = 300) -> Analysis:
    return analyze(
        world.state, world.config, admissions or AdmissionTimes(), now_ms=world.now_ms, window_s=window_s
    )


def mean_s(found: Analysis) -> dict[Stage, float]:
    return {stage.stage: stage.mean_s for stage in found.stages}


def relief(world: World, stage: Stage, scale: PoolScale = WORKERS, **environment: str) -> Relief:
    settings = Settings.load("test", None, environment)
    return relief_of(stage, state=world.state, settings=settings, scale=scale)


@pytest.fixture
def world() -> World:
    world = World()
    world.agent()
    return world


def test_each_stage_is_measured_apart(world: World) -> None:
    world.submit("a")
    world.advance(1_000)  # queued
    (batch_id,) = world.start()
    world.advance(2_000)  # proving
    world.prove(batch_id)
    world.advance(300)  # proved
    (transaction,) = world.send_due()
    world.advance(4_000)  # on its way
    world.confirm(transaction)
    admissions = AdmissionTimes()
    admissions.add(at_ms=world.now_ms, took_s=0.004)
    found = analysis(world, admissions)
    assert mean_s(found) == {
        Stage.ADMIT: 0.004,
        Stage.WAIT_FOR_PARENTS: 0,
        Stage.QUEUE: 1.0,
        Stage.PROVE: 2.0,
        Stage.SUBMIT: 0.3,
        Stage.CONFIRM: 4.0,
    }
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    assert (found.confirmed, found.under_way) == (1, 0)
    # The chain's own depth is no bottleneck: (5 + 1) slots of 0.4 s of the 4 are its nature.
    assert found.bottleneck is not None
    assert (found.bottleneck.stage, found.bottleneck.excess_s) == (Stage.PROVE, 2.0)


def test_what_is_stuck_counts_with_its_time_so_far(world: World) -> None:
    for name in "abc":
        world.submit(name)
    world.advance(90_000)
    found = analysis(world)
    assert found.bottleneck is not None
    assert (found.bottleneck.stage, found.bottleneck.operations_now) == (Stage.QUEUE, 3)
    assert found.bottleneck.oldest_s == 90


def test_a_denied_operation_waits_for_its_parents(world: World) -> None:
    world.configure(max_depth=1)
    world.submit("a")
    world.submit("b", "a")
    world.submit("c", "b")
    assert world.where("c") == ["DEFERRED"]
    world.advance(5_000)
    assert stage_seconds(world.state.operation("c"), now_ms=world.now_ms) == {Stage.WAIT_FOR_PARENTS: 5.0}


def test_a_proof_that_is_held_for_its_ancestors_waits_for_parents_not_for_a_worker(world: World) -> None:
    world.submit("a")
    world.to_submitting("a")
    world.submit("b", "a")
    world.advance(1_000)
    waiting = stage_seconds(world.state.operation("b"), now_ms=world.now_ms)
    assert waiting == {Stage.WAIT_FOR_PARENTS: 1.0}
    world.advance(1_100)
    world.start()  # the planner thinks the ancestor's confirmation near
    assert world.where("b") == ["PROVING"]
    spent = stage_seconds(world.state.operation("b"), now_ms=world.now_ms)
    assert spent == {Stage.WAIT_FOR_PARENTS: 2.1, Stage.PROVE: 0.0}


def test_the_window_leaves_old_confirmations_out(world: World) -> None:
    world.submit("old")
    world.settle()
    world.advance(60_000)
    world.submit("new")
    world.settle()
    assert analysis(world, window_s=30).confirmed == 1
    assert analysis(world, window_s=300).confirmed == 2


def test_nothing_at_all_is_no_bottleneck(world: World) -> None:
    found = analysis(world)
    assert found.bottleneck is None
    assert {stage.share for stage in found.stages} == {0}


@given(st.lists(st.integers(0, 100_000), min_size=5, max_size=5))
def test_the_stages_add_up_to_the_way_from_admission_to_confirmation(pauses_ms: list[int]) -> None:
    world = World(check=False)
    world.agent()
    operation = world.submit("a")
    world.advance(pauses_ms[0])
    (batch_id,) = world.start()
    world.advance(pauses_ms[1])
    world.prove(batch_id)
    world.advance(pauses_ms[2])
    (transaction,) = world.send_due()
    world.advance(pauses_ms[3])
    if world.state.live:  # not timed out
        world.confirm(transaction)
    ended_ms = operation.timeline[-1][0] if operation.terminal else world.now_ms
    spent = stage_seconds(operation, now_ms=world.now_ms)
    assert sum(spent.values()) == pytest.approx((ended_ms - operation.admitted_at_ms) / 1000)


class TestRelief:
    def test_the_queue_needs_workers_and_says_what_limits_them(self, world: World) -> None:
        limited = PoolScale(desired=8, running=2, target=2, limited_by=ScaleLimit.SLOTS)
        found = relief(world, Stage.QUEUE, limited, AGENC_SPECULATION_PROOF_WORKER_THREADS="8")
        assert found.knob is not None
        assert (found.knob.key, found.knob.value) == ("speculation.proof.worker_threads", 8)
        assert found.knob.limited_by is not None
        assert found.knob.limited_by.startswith("slots: 2 of 8")

    def test_a_key_of_the_environment_cannot_be_turned(self, world: World) -> None:
        found = relief(world, Stage.PROVE, AGENC_SPECULATION_PROOF_BATCH_SIZE="64")
        assert found.knob is not None
        assert found.knob.value == 64
        assert found.knob.limited_by == "pinned by AGENC_SPECULATION_PROOF_BATCH_SIZE: unset it and restart"

    @pytest.mark.parametrize(
        ("changes", "key"),
        [
            ({"enabled": False}, "speculation.enabled"),
            ({"rollout_percentage": 0.0}, "speculation.features.rollout_percentage"),
            ({"max_state_snapshots": 0}, "speculation.limits.max_state_snapshots"),
            ({"max_pending_operations": 0}, "speculation.limits.max_pending_operations"),
        ],
    )
    def test_waiting_for_parents_names_the_denial_that_most_met(
        self, world: World, changes: dict[str, object], key: str
    ) -> None:
        world.submit("a")
        world.configure(**changes)
        world.submit("b", "a")
        found = relief(world, Stage.WAIT_FOR_PARENTS)
        assert found.knob is not None
        assert found.knob.key == key

    def test_without_denials_optimistic_proofs_or_larger_batches_help(self, world: World) -> None:
        without = relief(
            world,
            Stage.WAIT_FOR_PARENTS,
            AGENC_SPECULATION_FEATURES_ENABLE_OPTIMISTIC_PROOFS="false",
        )
        assert without.knob is not None
        assert without.knob.key == "speculation.features.enable_optimistic_proofs"
        found = relief(world, Stage.WAIT_FOR_PARENTS)
        assert found.knob is not None
        assert found.knob.key == "speculation.proof.batch_size"
        assert found.knob.limited_by == "proof.max_log_rows = 17"

    def test_an_outage_of_the_chain_has_no_knob(self, world: World) -> None:
        world.do("chain_connection", ConnectionStatus.DISCONNECTED)
        for stage in (Stage.SUBMIT, Stage.CONFIRM):
            found = relief(world, stage)
            assert found.knob is None
            assert "disconnected" in found.action

    def test_every_stage_has_an_answer(self, world: World) -> None:
        for stage in Stage:
            assert relief(world, stage).action


def test_admissions_remembered_are_bounded() -> None:
    admissions = AdmissionTimes()
    for at_ms in range(10_000):
        admissions.add(at_ms=at_ms, took_s=at_ms / 1000)
    assert len(admissions.since(0)) == 2_000
    assert admissions.since(9_999) == [9.999]
