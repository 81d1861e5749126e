"""Which batches are started a second time: those past what their workers usually need, where somebody idles."""

from coordinator.core.cost import Line, padded_rows
from coordinator.core.hedging import SLACK_MS, allowed_ms, late, seconds
from coordinator.core.states import ReturnReason
from tests.coordinator.core.test_cost import prove
from tests.coordinator.core.world import World

LINE = Line(100.0, 1e-3)


def world_with(*workers: str, known: bool = True) -> World:
    world = World(check=False, workers=list(workers))
    world.agent("alice")
    if known:
        for worker in workers:
            prove(world.state.totals.cost, worker, LINE)
    return world


def test_a_batch_is_late_only_after_what_its_worker_usually_needs() -> None:
    world = world_with("w1", "w2")
    world.submit("a")
    (batch_id,) = world.start()
    batch = world.state.batches[batch_id]
    usual_ms = LINE.ms(padded_rows(batch.operation_rows))
    assert 0.99 * usual_ms + SLACK_MS <= allowed_ms(world.state, batch) < 1.2 * usual_ms + SLACK_MS
    soon_ms = world.now_ms + int(allowed_ms(world.state, batch))
    assert late(world.state, now_ms=soon_ms) == []
    assert late(world.state, now_ms=soon_ms + 10) == [batch]
    (other,) = world.idle
    assert seconds(world.state, idle=[other], hedged=(), now_ms=soon_ms + 10) == [(batch_id, other)]
    assert seconds(world.state, idle=[other], hedged=(batch_id,), now_ms=soon_ms + 10) == []
    assert seconds(world.state, idle=[], hedged=(), now_ms=soon_ms + 10) == []


def test_nothing_is_hedged_before_anything_is_known() -> None:
    world = world_with("w1", "w2", known=False)
    world.submit("a")
    world.start()
    assert late(world.state, now_ms=world.now_ms + 50_000) == []


def test_the_fastest_idle_worker_is_second_and_none_that_failed_it() -> None:
    world = world_with("w1", "w2", "w3", "w4")
    prove(world.state.totals.cost, "w4", Line(10.0, 1e-5), backend="cuda")
    world.submit("a")
    (batch_id,) = world.start()
    assert world.running[batch_id] == "w4"
    world.fail_batch(batch_id, ReturnReason.WORKER_LOST)
    (batch_id,) = world.start()
    other = {"w1": "w2"}.get(world.running[batch_id], "w1")
    later_ms = world.now_ms + 60_000
    assert seconds(world.state, idle=["w4"], hedged=(), now_ms=later_ms) == []
    assert seconds(world.state, idle=["w4", other], hedged=(), now_ms=later_ms) == [(batch_id, other)]


def test_a_batch_proved_by_the_second_worker_is_the_seconds_in_every_record() -> None:
    world = World(workers=["w1", "w2"])
    world.agent("alice")
    world.submit("a")
    (batch_id,) = world.start()
    world.running[batch_id] = "w2"  # the winner
    world.prove(batch_id)
    assert world.state.batches[batch_id].worker_id == "w2"
    assert list(world.state.totals.cost.workers) == ["w2"]
    world.run_until_quiet()
    assert world.where("a") == ["CONFIRMED"]
