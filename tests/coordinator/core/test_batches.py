"""Batches between plan and proof: what may start, who proves again, and how one at fault is found."""

import pytest

from coordinator.core.batches import TRIES_ALONE
from coordinator.core.commands import BatchPlan, ProvedBatch
from coordinator.core.errors import CoreError
from coordinator.core.events import BatchReturned, BatchStarted
from coordinator.core.states import BatchState, ReturnReason
from tests.coordinator.core.world import World


@pytest.fixture
def world() -> World:
    made = World(workers=["w1", "w2"])
    made.agent()
    return made


def test_a_batch_moves_its_operations_with_one_event_each_step(world: World) -> None:
    ids = world.chain_of(4)
    before = len(world.events)
    (batch_id,) = world.start()
    world.prove(batch_id)
    (transaction,) = world.send_due()
    world.confirm(transaction)
    assert len(world.events) - before == 4
    assert (batch_id, transaction) == ("batch-1", "batch-1:1")
    assert world.where(*ids) == ["CONFIRMED"] * 4
    batch = world.state.batch(batch_id)
    assert (batch.state, batch.operation_ids, batch.backend) == (BatchState.CONFIRMED, tuple(ids), "cpu")


@pytest.mark.parametrize(
    "ids",
    [(), ("op0", "op0"), ("ghost",), ("op1",), ("op1", "op0"), ("deferred",), ("op0", "rival")],
    ids=str,
)
def test_plans_that_do_not_fit_are_refused(world: World, ids: tuple[str, ...]) -> None:
    world.chain_of(2)
    world.submit("rival", task="task-op0", output="another", nullifier=bytes(32))
    world.configure(enabled=False)
    world.submit("deferred", "op1")
    with pytest.raises(CoreError, match="does not fit"):
        world.do("start_batch", BatchPlan(ids, "w1", ""))


def test_rivals_for_a_task_are_never_in_flight_together(world: World) -> None:
    world.submit("a", task="t")
    world.submit("b", task="t", output="another", nullifier=bytes(32))
    world.start("a")
    assert world.start() == []
    with pytest.raises(CoreError, match="in flight"):
        world.do("start_batch", BatchPlan(("b",), "w2", ""))


def test_a_lost_worker_gives_its_operations_to_another(world: World) -> None:
    world.chain_of(2)
    (batch_id,) = world.start()
    assert world.running[batch_id] == "w1"
    world.fail_batch(batch_id)
    assert world.where("op0", "op1") == ["QUEUED", "QUEUED"]
    (again,) = world.start()
    assert world.running[again] == "w2"
    assert world.seen(BatchStarted)[-1].attempt == 2
    world.prove(again)


def test_the_only_worker_gets_what_it_failed() -> None:
    world = World(workers=["w1"])
    world.agent()
    world.submit("a")
    world.fail_batch(*world.start())
    assert world.start()


def test_a_proof_that_comes_too_late_is_not_taken(world: World) -> None:
    world.submit("a")
    (batch_id,) = world.start()
    world.fail_batch(batch_id)
    proved = ProvedBatch(
        root=b"",
        proof_digest=b"",
        proof_bytes=0,
        worker_id="w1",
        backend="",
        prove_ms=0,
        permutations=0,
        rows=0,
    )
    assert world.do("batch_proved", batch_id, proved) is False
    assert world.do("batch_failed", batch_id, ReturnReason.TIMEOUT, "") is False
    assert world.where("a") == ["QUEUED"]


def test_an_error_splits_the_batch_until_the_guilty_one_is_alone(world: World) -> None:
    world.do("submit", [world.submission(f"op{number}") for number in range(8)])
    poison = "op5"
    for _ in range(60):
        for batch_id in world.start():
            if poison in world.state.batches[batch_id].operation_ids:
                world.fail_batch(batch_id, ReturnReason.PROVER_ERROR)
            else:
                world.prove(batch_id)
        for transaction in world.send_due():
            world.confirm(transaction)
        if not world.state.live:
            break
    assert world.where(*(f"op{n}" for n in range(8) if n != 5)) == ["CONFIRMED"] * 7
    assert (world.where(poison), world.why(poison)) == (["ROLLED_BACK"], "proof_failed")
    sizes = [len(one.operation_ids) for one in world.seen(BatchStarted) if poison in one.operation_ids]
    assert sizes == [8, 4, 2, 1, 1], "once on each of the two workers when alone"
    assert world.state.agents["alice"].slashed_lamports == 0


def test_the_ancestors_half_comes_first_and_both_confirm(world: World) -> None:
    ids = world.chain_of(6)
    (batch_id,) = world.start()
    world.fail_batch(batch_id, ReturnReason.OUT_OF_MEMORY)
    first = world.state.live["op0"].group
    assert [world.state.live[one].group for one in ids] == [first] * 3 + [first + 1] * 3
    (half,) = world.start()
    assert world.state.batches[half].operation_ids == ("op0", "op1", "op2")
    assert world.start() == [], "the worker that failed them does not get them while there is another"
    world.prove(half)
    (other,) = world.start()
    assert world.state.batches[other].operation_ids == ("op3", "op4", "op5")
    assert world.state.batches[other].waits_on == [half]
    world.run_until_quiet()
    assert world.where(*ids) == ["CONFIRMED"] * 6


def test_an_operation_that_the_prover_names_is_set_apart_at_once(world: World) -> None:
    world.do("submit", [world.submission(f"op{number}") for number in range(4)])
    (batch_id,) = world.start()
    world.fail_batch(batch_id, ReturnReason.PROVER_ERROR, index=2)
    groups = {one.operation_id: one.group for one in world.state.live.values()}
    assert groups["op2"] not in (groups["op0"], groups["op1"], groups["op3"])
    assert groups["op0"] == groups["op1"] == groups["op3"]


def test_a_batch_that_keeps_losing_workers_is_split_and_in_the_end_given_up(world: World) -> None:
    world.do("submit", [world.submission("a"), world.submission("b")])
    for _ in range(40):
        for batch_id in world.start():
            world.fail_batch(batch_id, ReturnReason.WORKER_LOST)
        if not world.state.live:
            break
    assert [world.why(one) for one in "ab"] == ["proof_failed"] * 2
    isolated = [one.isolate for one in world.seen(BatchReturned)]
    assert isolated.index(True) == 2, "twice another worker, then apart"
    alone = [one for one in world.seen(BatchStarted) if one.operation_ids == ("a",)]
    assert len(alone) == TRIES_ALONE


def test_with_one_worker_an_error_is_tried_twice() -> None:
    world = World(workers=["w1"])
    world.agent()
    world.submit("a")
    world.fail_batch(*world.start(), ReturnReason.INVALID_PROOF)
    assert world.where("a") == ["QUEUED"]
    world.fail_batch(*world.start(), ReturnReason.INVALID_PROOF)
    assert world.why("a") == "proof_failed"


def test_a_proved_batch_awaits_its_ancestors(world: World) -> None:
    world.chain_of(2)
    (first,) = world.start("op0")
    (second,) = world.start("op1")
    world.prove(second)
    assert world.where("op1") == ["AWAITING_ANCESTORS"]
    assert world.engine.submissions_due() == []
    world.prove(first)
    (transaction,) = world.send_due()
    assert transaction == "batch-1:1"
    world.confirm(transaction)
    assert world.engine.submissions_due() == [second]
    world.run_until_quiet()


def test_batches_that_wait_on_a_returned_one_return_before_it(world: World) -> None:
    world.chain_of(3)
    (first,) = world.start("op0")
    (second,) = world.start("op1")
    world.prove(second)
    world.workers.append("w3")
    (third,) = world.start("op2")
    world.fail_batch(first)
    assert world.where("op0", "op1", "op2") == ["QUEUED"] * 3
    assert [(one.batch_id, one.reason.value) for one in world.seen(BatchReturned)] == [
        (third, "ancestor_returned"),
        (second, "ancestor_returned"),
        (first, "worker_lost"),
    ]
    assert third not in world.running, "its worker was told to stop"
    assert world.state.live["op1"].failed_on == ()
    world.run_until_quiet()


def test_a_member_that_ends_dissolves_the_batch_and_stops_its_worker(world: World) -> None:
    world.do("submit", [world.submission("a"), world.submission("b")])
    (batch_id,) = world.start()
    world.do("cancel", "a")
    assert world.where("a", "b") == ["ROLLED_BACK", "QUEUED"]
    assert world.state.batch(batch_id).state is BatchState.DISSOLVED
    assert world.running == {}
    assert world.seen(BatchReturned)[0].reason is ReturnReason.MEMBER_LOST
    world.run_until_quiet()
    assert world.where("b") == ["CONFIRMED"]
