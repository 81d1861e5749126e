"""What operators command: stops, cleared queues, forced timeouts, settings."""

import json

import pytest

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import AdminActed, QueueCleared
from coordinator.core.states import BatchState, Latch, TransactionStatus
from tests.coordinator.core.world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    return made


@pytest.mark.parametrize("change", [{"enabled": False}, {"rollout_percentage": 0.0}])
def test_switching_off_stops_new_speculation_and_lets_what_is_in_flight_finish(
    world: World, change: dict[str, object]
) -> None:
    ids = world.chain_of(3)
    world.configure(**change)
    denied = world.submit("late", "op2")
    assert denied.decision is not None
    assert denied.decision.denial is not None
    world.run_until_quiet()
    assert world.where(*ids, "late") == ["CONFIRMED"] * 4
    assert world.state.totals.rolled_back == 0


@pytest.mark.parametrize(
    ("action", "latch"), [("drain_speculation", Latch.DRAINING), ("disable_speculation", Latch.DISABLED)]
)
def test_a_drain_lets_work_finish_until_its_deadline(world: World, action: str, latch: Latch) -> None:
    world.chain_of(3)
    world.submit("free", operation_type="unbonded")
    outcome = world.do("emergency", action, by="operator")
    assert outcome.drain_until_ms == world.now_ms + 30_000
    assert world.state.totals.latch is latch
    world.settle("op0")
    world.advance(29_999)
    assert world.where("op1", "op2") == ["QUEUED", "QUEUED"]
    world.advance(1)
    assert [world.why(one) for one in ("op1", "op2", "free")] == ["drained"] * 3
    assert (world.state.commitments, world.state.totals.slashes) == (0, 0)
    world.advance(60_000)
    assert world.state.totals.latch is latch, "only an operator clears it"
    assert world.state.totals.drain_until_ms is None


def test_force_ends_all_commitments_now_but_for_those_on_their_way_to_the_chain(world: World) -> None:
    world.configure(enabled=False)
    world.submit("unbonded")
    world.configure(enabled=True)
    world.chain_of(4)
    transaction = world.to_submitting("op0")
    outcome = world.do("emergency", "disable_speculation", force=True, by="operator")
    assert sorted(outcome.rolled_back) == ["op1", "op2", "op3"]
    assert outcome.pending == ("op0",)
    assert [world.why(f"op{n}") for n in (1, 2, 3)] == ["emergency"] * 3
    assert world.where("op0", "unbonded") == ["SUBMITTING", "QUEUED"]
    world.see(transaction, TransactionStatus.EXPIRED)
    assert world.why("op0") == "emergency"
    assert world.state.totals.slashes == 0
    assert not world.submit("later").committed
    world.run_until_quiet()
    assert world.where("unbonded", "later") == ["CONFIRMED"] * 2


def test_enabling_clears_the_latch(world: World) -> None:
    world.do("emergency", "disable_speculation", by="operator")
    world.do("set_config", {"speculation.enabled": False}, by="operator")
    assert world.state.totals.latch is Latch.DISABLED
    world.do("set_config", {"speculation.enabled": True}, by="operator")
    assert world.state.totals.latch is None
    world.advance(60_000)
    assert world.state.totals.rolled_back == 0


def test_unknown_actions_are_refused(world: World) -> None:
    with pytest.raises(CoreError) as refused:
        world.do("emergency", "panic", by="operator")
    assert (refused.value.code, refused.value.field) == (ErrorCode.INVALID, "action")


def test_settings_are_kept_and_removed_and_every_act_is_recorded(world: World) -> None:
    world.do("set_config", {"speculation.max_depth": 2, "speculation.mode": "balanced"}, by="ops")
    world.do("set_config", {"speculation.max_depth": None}, by="ops")
    assert world.state.overrides == {"speculation.mode": "balanced"}
    acts = world.seen(AdminActed)
    assert [(one.by, one.action) for one in acts] == [("ops", "config")] * 2
    assert json.loads(acts[1].before) == {"speculation.max_depth": 2}
    assert json.loads(acts[1].after) == {"speculation.max_depth": None}


def test_clearing_the_queue_drops_batches_but_no_operation(world: World) -> None:
    world.workers.append("w2")
    world.chain_of(4)
    world.configure(enabled=False)
    world.submit("plain")
    world.submit("held", "plain")
    (first,) = world.start("op0")
    (second,) = world.start("op1")
    world.prove(second)
    assert world.do("clear_queue", by="operator") == (1, 5)
    assert world.running == {}
    assert world.where("op0", "op1", "op2", "op3", "plain", "held") == [
        "DEFERRED",
        "SPECULATING",
        "SPECULATING",
        "SPECULATING",
        "DEFERRED",
        "DEFERRED",
    ]
    assert world.state.batch(first).state is BatchState.DISSOLVED
    assert world.state.queued == 0
    world.advance(100)
    assert world.where("op0", "op1", "plain", "held") == ["QUEUED", "QUEUED", "QUEUED", "DEFERRED"]
    world.run_until_quiet()
    assert world.state.totals.confirmed == 6


def test_clearing_without_optimistic_proofs_holds_speculation_until_parents_confirm(world: World) -> None:
    world.chain_of(2)
    world.configure(optimistic_proofs=False)
    world.do("clear_queue", by="operator")
    world.advance(100)
    assert world.where("op0", "op1") == ["QUEUED", "SPECULATING"]
    world.settle("op0")
    assert world.where("op1") == ["QUEUED"]
    assert world.state.held == {}


def test_clearing_an_empty_queue_discards_nothing(world: World) -> None:
    assert world.do("clear_queue", by="operator") == (0, 0)
    assert world.seen(QueueCleared) == []


def test_timing_out_stale_operations_counts_from_admission(world: World) -> None:
    world.submit("old")
    world.submit("child", "old")
    world.submit("sent")
    world.to_submitting("sent")
    world.now_ms += 10_000
    world.submit("new")
    outcome = world.do("timeout_stale", 10, by="operator")
    assert outcome.rolled_back == ("child", "old")
    assert outcome.pending == ("sent",)
    assert world.why("old") == "confirmation_timeout"
    assert world.where("new") == ["QUEUED"]
    assert not world.state.breaker.window, "the operator's own rollbacks do not count"


def test_stops_do_not_blame_the_agents(world: World) -> None:
    world.chain_of(3)
    world.do("emergency", "disable_speculation", force=True, by="operator")
    counts = world.state.agents["alice"].by_type["work"]
    assert (counts.rolled_back, counts.bad) == (3, 0)
