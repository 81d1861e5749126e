"""Batches on their way to finality: dead transactions, refusals, timeouts, reorganisations, rivals."""

import pytest

from coordinator.core.confirmation import WATCHED_BATCHES
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import (
    BatchReturned,
    BatchReverted,
    FinalityViolated,
    OperationFailed,
    OperationsRolledBack,
    RollbackPending,
)
from coordinator.core.states import BatchState, BreakerState, ConnectionStatus, TransactionStatus
from tests.coordinator.core.world import World, digest

EXPIRED = TransactionStatus.EXPIRED
DROPPED = TransactionStatus.DROPPED
REORGED = TransactionStatus.REORGED
CONFIRMED = TransactionStatus.CONFIRMED


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    made.agent("bob")
    return made


def resend(world: World) -> str:
    (transaction,) = world.send_due()
    return transaction


# -- submission ----------------------------------------------------------------------------------------------------


def test_a_transaction_is_named_by_batch_and_try_and_expires(world: World) -> None:
    world.submit("a")
    (batch_id,) = world.start()
    world.prove(batch_id)
    due = world.do("batch_submitting", batch_id, slot=100)
    assert (due.transaction, due.valid_until_slot) == ("batch-1:1", 110)
    assert world.engine.transactions_open() == [due]
    with pytest.raises(CoreError, match="not due"):
        world.do("batch_submitting", batch_id, slot=100)


@pytest.mark.parametrize("status", [EXPIRED, DROPPED, REORGED])
def test_a_dead_transaction_is_followed_by_another_with_the_same_proof(
    world: World, status: TransactionStatus
) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    world.see(first, status)
    assert world.where("a") == ["PROVED"]
    second = resend(world)
    assert second == "batch-1:2"
    world.confirm(second)
    assert world.where("a") == ["CONFIRMED"]
    assert world.seen(BatchReturned) == []


def test_what_is_said_twice_or_too_late_changes_nothing(world: World) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    for status in (TransactionStatus.PENDING, TransactionStatus.INCLUDED):
        world.see(first, status)
    world.see(first, EXPIRED)
    second = resend(world)
    count = len(world.events)
    for status in (EXPIRED, DROPPED, REORGED, TransactionStatus.REFUSED):
        world.see(first, status)
    world.see("batch-99:1", CONFIRMED)
    world.see("nonsense", CONFIRMED)
    assert len(world.events) == count
    world.confirm(second)
    world.confirm(second)
    assert world.state.totals.confirmed == 1


def test_inclusion_wins_even_of_a_transaction_held_for_dead(world: World) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    world.see(first, DROPPED)
    world.confirm(first)
    assert world.where("a") == ["CONFIRMED"]
    assert world.engine.submissions_due() == []


def test_inclusion_of_an_earlier_transaction_while_a_later_one_is_out(world: World) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    world.see(first, DROPPED)
    second = resend(world)
    world.confirm(first)
    world.refuse(second, "double_spend", 0)
    assert world.where("a") == ["CONFIRMED"]
    assert world.state.batch("batch-1").transaction == first


def test_nothing_is_sent_while_the_chain_is_disconnected(world: World) -> None:
    world.submit("a")
    (batch_id,) = world.start()
    world.prove(batch_id)
    world.do("chain_connection", ConnectionStatus.DISCONNECTED)
    assert world.engine.submissions_due() == []
    world.do("chain_connection", ConnectionStatus.DEGRADED)
    assert world.engine.submissions_due() == [batch_id]


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["constraint_mismatch", "double_spend", "invalid_witness"])
def test_who_is_named_for_a_fault_of_its_own_fails_and_is_slashed(world: World, code: str) -> None:
    world.do(
        "submit", [world.submission("a"), world.submission("b", agent="bob"), world.submission("c", "a")]
    )
    transaction = world.to_submitting("a", "b", "c")
    world.refuse(transaction, code, 0)
    assert world.where("a", "b", "c") == ["FAILED", "QUEUED", "ROLLED_BACK"]
    assert world.why("c") == "parent_failed"
    (failed,) = world.seen(OperationFailed)
    assert (failed.code, failed.slash is not None) == (code, True)
    world.run_until_quiet()
    assert world.where("b") == ["CONFIRMED"]


def test_other_codes_fail_without_a_slash(world: World) -> None:
    world.submit("a")
    world.refuse(world.to_submitting("a"), "too_many_bytes", 0)
    (failed,) = world.seen(OperationFailed)
    assert (failed.code, failed.slash) == ("chain_refused", None)


def test_several_guilty_in_one_line_fail_each_after_its_descendants(world: World) -> None:
    world.chain_of(4)
    world.refuse(world.to_submitting("op0", "op1", "op2", "op3"), "invalid_witness", 0, 2)
    assert world.where("op0", "op1", "op2", "op3") == ["FAILED", "ROLLED_BACK", "FAILED", "ROLLED_BACK"]
    order = [
        event.operation_id if isinstance(event, OperationFailed) else event.operation_ids
        for event in world.events
        if isinstance(event, OperationFailed | OperationsRolledBack)
    ]
    assert order == [("op3",), "op2", ("op1",), "op0"]


def test_a_refusal_that_names_nobody_splits_the_batch(world: World) -> None:
    ids = [f"op{number}" for number in range(4)]
    world.do("submit", [world.submission(one) for one in ids])
    for _ in range(30):
        for batch_id in world.start():
            world.prove(batch_id)
        for transaction in world.send_due():
            members = world.state.batch(transaction.rpartition(":")[0]).operation_ids
            if "op1" in members:
                world.refuse(transaction, "invalid_proof")
            else:
                world.confirm(transaction)
    assert world.where(*ids) == ["CONFIRMED", "FAILED", "CONFIRMED", "CONFIRMED"]
    assert world.seen(OperationFailed)[0].code == "chain_refused"


def test_indices_beyond_the_batch_name_nobody(world: World) -> None:
    world.do("submit", [world.submission("a"), world.submission("b")])
    world.refuse(world.to_submitting("a", "b"), "double_spend", 7, -1)
    assert world.where("a", "b") == ["QUEUED", "QUEUED"]
    assert world.seen(OperationFailed) == []


# -- reorganisations -----------------------------------------------------------------------------------------------


def test_a_reorganisation_rolls_back_only_when_the_same_proof_is_then_refused(world: World) -> None:
    world.do("submit", [world.submission("a"), world.submission("b"), world.submission("c", "a")])
    first = world.to_submitting("a", "b", "c")
    world.see(first, REORGED)
    world.refuse(resend(world), "double_spend", 0)
    assert [world.where(one)[0] for one in "abc"] == ["ROLLED_BACK", "QUEUED", "ROLLED_BACK"]
    assert (world.why("a"), world.why("c")) == ("chain_reorg", "parent_rolled_back")
    assert world.state.totals.slashes == 0


def test_a_refusal_after_a_reorganisation_that_names_nobody_rolls_the_batch_back(world: World) -> None:
    world.chain_of(2)
    world.see(world.to_submitting("op0", "op1"), REORGED)
    world.refuse(resend(world), "invalid_proof")
    assert [world.why(one) for one in ("op0", "op1")] == ["chain_reorg", "chain_reorg"]


def test_a_double_spend_after_a_dropped_transaction_is_nobodys_fault(world: World) -> None:
    world.submit("a")
    world.see(world.to_submitting("a"), DROPPED)
    world.refuse(resend(world), "double_spend", 0)
    assert world.why("a") == "chain_reorg"
    world.submit("b")
    world.see(world.to_submitting("b"), EXPIRED)
    world.refuse(resend(world), "double_spend", 0)
    assert world.where("b") == ["FAILED"], "an expired transaction is dead for certain"


def test_a_reorganisation_of_finality_keeps_state_opens_the_breaker_and_posts_again(world: World) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    world.confirm(first)
    assert world.engine.transactions_watched() == [first]
    world.see(first, REORGED)
    assert world.where("a") == ["CONFIRMED"]
    assert world.seen(FinalityViolated)[0].batch_ids == ("batch-1",)
    assert (world.state.breaker.state, world.state.breaker.reason) == (
        BreakerState.OPEN,
        "finality_violation",
    )
    world.see(first, REORGED)
    assert len(world.seen(FinalityViolated)) == 1
    second = resend(world)
    assert [one.transaction for one in world.engine.transactions_open()] == [second]
    world.see(second, EXPIRED)
    third = resend(world)
    assert third == "batch-1:3"
    world.confirm(third)
    assert world.engine.transactions_open() == []
    assert world.state.totals.confirmed == 1
    assert not world.state.batch("batch-1").reposting


def test_finality_can_be_broken_again_and_after_a_shallow_reorganisation(world: World) -> None:
    world.submit("a")
    world.see(world.to_submitting("a"), REORGED)
    for count in (1, 2):
        transaction = resend(world)
        world.confirm(transaction)
        world.see(transaction, REORGED)
        assert len(world.seen(FinalityViolated)) == count


def test_what_is_posted_again_is_kept_until_it_is_confirmed() -> None:
    world = World(retained=2, check=False)
    world.agent()
    world.submit("a")
    first = world.to_submitting("a")
    world.confirm(first)
    world.see(first, REORGED)
    for number in range(40):
        world.submit(f"op{number}")
        world.settle(f"op{number}")
    assert world.where("a") == ["CONFIRMED"]
    assert world.engine.submissions_due() == []
    (open_one,) = world.engine.transactions_open()
    world.confirm(open_one.transaction)
    for number in range(40, 80):
        world.submit(f"op{number}")
        world.settle(f"op{number}")
    assert "a" not in world.state.ended


def test_what_was_let_go_is_neither_watched_nor_posted_again() -> None:
    world = World(retained=2, check=False)
    world.agent()
    transactions = []
    for number in range(24):
        world.submit(f"op{number}")
        transactions.append(world.to_submitting(f"op{number}"))
        world.confirm(transactions[-1])
    assert transactions[0] not in world.engine.transactions_watched()
    kept = [
        batch for batch in world.state.ended_batches.values() if batch.operation_ids[0] in world.state.ended
    ]
    assert len(world.engine.transactions_watched()) == len(kept) < 24


def test_a_batch_that_the_chain_will_not_take_again_is_left_to_the_integrity_check(world: World) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    world.confirm(first)
    world.see(first, REORGED)
    world.refuse(resend(world), "double_spend", 0)
    assert world.engine.submissions_due() == []
    assert world.where("a") == ["CONFIRMED"]


def test_a_dissolved_batch_that_is_confirmed_after_all_breaks_finality_once(world: World) -> None:
    world.do("submit", [world.submission("a"), world.submission("b")])
    first = world.to_submitting("a", "b")
    world.see(first, DROPPED)
    world.do("cancel", "a")
    world.confirm(first)
    world.confirm(first)
    assert [one.batch_ids for one in world.seen(FinalityViolated)] == [("batch-1",)]


def test_only_the_latest_confirmed_batches_are_watched() -> None:
    world = World(check=False)
    world.agent()
    for number in range(WATCHED_BATCHES + 3):
        world.submit(f"op{number}")
        world.settle(f"op{number}")
    assert len(world.engine.transactions_watched()) == WATCHED_BATCHES


# -- timeouts ------------------------------------------------------------------------------------------------------


def test_a_timeout_waits_for_the_transaction_to_die(world: World) -> None:
    world.chain_of(3)
    transaction = world.to_submitting("op0", "op1")
    world.advance(29_999)
    assert world.seen(RollbackPending) == []
    world.advance(1)
    assert [one.operation_ids for one in world.seen(RollbackPending)] == [("op0", "op1")]
    assert world.where("op0", "op1", "op2") == ["SUBMITTING", "SUBMITTING", "QUEUED"]
    world.advance(1_000)
    assert len(world.seen(RollbackPending)) == 1
    world.see(transaction, EXPIRED)
    assert [world.why(f"op{n}") for n in range(3)] == [
        "confirmation_timeout",
        "confirmation_timeout",
        "parent_rolled_back",
    ]
    assert world.state.locked_lamports == 0


def test_inclusion_wins_over_a_timeout(world: World) -> None:
    world.chain_of(3)
    transaction = world.to_submitting("op0", "op1")
    world.advance(40_000)
    world.confirm(transaction)
    assert world.where("op0", "op1", "op2") == ["CONFIRMED", "CONFIRMED", "QUEUED"]
    world.run_until_quiet()
    assert world.where("op2") == ["CONFIRMED"]


def test_the_clock_runs_from_the_first_transaction_of_the_batch(world: World) -> None:
    world.submit("a")
    first = world.to_submitting("a")
    world.advance(20_000)
    world.see(first, EXPIRED)
    resend(world)
    world.advance(10_000)
    assert len(world.seen(RollbackPending)) == 1


def test_a_dead_transactions_timeout_rolls_back_at_once(world: World) -> None:
    world.submit("a")
    world.see(world.to_submitting("a"), EXPIRED)
    world.advance(30_000)
    assert world.why("a") == "confirmation_timeout"


def test_the_clock_stands_still_while_the_chain_is_disconnected(world: World) -> None:
    world.submit("a")
    world.to_submitting("a")
    world.advance(10_000)
    world.do("chain_connection", ConnectionStatus.DISCONNECTED)
    world.advance(100_000)
    world.do("chain_connection", ConnectionStatus.CONNECTED)
    world.do("chain_connection", ConnectionStatus.CONNECTED)
    world.advance(19_999)
    assert world.seen(RollbackPending) == []
    world.advance(1)
    assert len(world.seen(RollbackPending)) == 1


def test_the_time_that_nobody_ran_does_not_count(world: World) -> None:
    world.submit("a")
    world.to_submitting("a")
    world.now_ms += 1_000_000
    world.do("resume")
    world.advance(29_999)
    assert world.seen(RollbackPending) == []
    world.advance(1)
    assert len(world.seen(RollbackPending)) == 1


# -- rivals and registered tasks -----------------------------------------------------------------------------------


def test_the_first_to_confirm_wins_the_task(world: World) -> None:
    world.submit("a", task="t")
    world.submit("b", task="t", agent="bob", output="another")
    world.submit("c", "b", agent="bob")
    world.settle("a")
    assert world.where("a", "b", "c") == ["CONFIRMED", "ROLLED_BACK", "ROLLED_BACK"]
    assert (world.why("b"), world.why("c")) == ("invalid_state", "parent_rolled_back")
    assert world.state.agents["bob"].bonded_lamports == 0


def test_a_task_registered_late_fails_what_has_another_output(world: World) -> None:
    world.submit("a", task="t", output="wrong")
    world.submit("b", "a")
    world.do("register_task", "t", constraint_hash=digest("C", "right"))
    assert world.where("a", "b") == ["FAILED", "ROLLED_BACK"]
    assert world.why("b") == "parent_failed"
    world.submit("a2", task="t", output="right", retry_of="a")


def test_a_task_registered_while_the_operation_is_on_its_way_waits(world: World) -> None:
    world.submit("a", task="t", output="wrong")
    world.submit("b", "a")
    transaction = world.to_submitting("a")
    world.do("register_task", "t", constraint_hash=digest("C", "right"))
    assert world.where("a", "b") == ["SUBMITTING", "QUEUED"]
    (pending,) = world.seen(RollbackPending)
    assert pending.failure == "constraint_mismatch"
    world.see(transaction, EXPIRED)
    assert world.where("a", "b") == ["FAILED", "ROLLED_BACK"]
    assert world.state.totals.slashes == 1


def test_inclusion_wins_over_a_task_registered_late(world: World) -> None:
    world.submit("a", task="t", output="wrong")
    transaction = world.to_submitting("a")
    world.do("register_task", "t", constraint_hash=digest("C", "right"))
    world.confirm(transaction)
    assert world.where("a") == ["CONFIRMED"]
    assert world.state.totals.slashes == 0


def test_a_fault_overrides_a_timeout_that_waits(world: World) -> None:
    world.submit("a", task="t", output="wrong")
    transaction = world.to_submitting("a")
    world.advance(30_000)
    world.do("register_task", "t", constraint_hash=digest("C", "right"))
    world.see(transaction, EXPIRED)
    assert world.where("a") == ["FAILED"]


def test_tasks_are_registered_once_and_may_get_their_hash_later(world: World) -> None:
    world.do("register_task", "t", constraint_hash=None)
    count = len(world.events)
    world.do("register_task", "t", constraint_hash=None)
    assert len(world.events) == count
    world.do("register_task", "t", constraint_hash=digest("C", "x"))
    with pytest.raises(CoreError) as refused:
        world.do("register_task", "t", constraint_hash=digest("C", "y"))
    assert refused.value.code is ErrorCode.ID_CONFLICT
    with pytest.raises(CoreError) as refused:
        world.do("register_task", "u", constraint_hash=None, depends_on=("u",))
    assert refused.value.code is ErrorCode.CYCLE
    world.submit("a", task="done", output="x")
    world.settle("a")
    with pytest.raises(CoreError) as refused:
        world.do("register_task", "done", constraint_hash=digest("C", "y"))
    assert refused.value.code is ErrorCode.TASK_CONFIRMED
    world.do("register_task", "done", constraint_hash=digest("C", "x"))
    with pytest.raises(CoreError) as refused:
        world.do("claim_task", "done", "alice")
    assert refused.value.code is ErrorCode.TASK_CONFIRMED
    with pytest.raises(CoreError) as refused:
        world.do("claim_task", "ghost", "alice")
    assert refused.value.code is ErrorCode.UNKNOWN_TASK


def test_children_are_queued_when_their_last_parent_is_confirmed(world: World) -> None:
    world.configure(enabled=False)
    world.submit("a")
    world.submit("b")
    world.submit("c", "a", "b")
    world.settle("a")
    assert world.where("c") == ["DEFERRED"]
    world.settle("b")
    assert world.where("c") == ["QUEUED"]
    assert world.state.batch("batch-2").state is BatchState.CONFIRMED
    assert world.seen(BatchReverted) == []
