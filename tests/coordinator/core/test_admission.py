"""What admission refuses, what it takes for the same operation, and in which order it judges a call's items."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import OperationsAdmitted
from coordinator.core.graph import arrange
from coordinator.core.states import OperationState
from tests.coordinator.core.world import World, digest


@pytest.fixture
def world() -> World:
    made = World()
    made.agent("alice")
    made.agent("bob")
    return made


def refusal(world: World, *args: Any, **kwargs: Any) -> CoreError:
    before = world.state.dump()
    error = world.try_submit(*args, **kwargs).error
    assert error is not None
    assert world.state.dump() == before
    return error


def test_the_same_id_with_the_same_content_is_the_same_operation(world: World) -> None:
    submission = world.submission("a")
    first, second = world.do("submit", [submission, submission])
    assert (first.created, second.created) == (True, False)
    assert second.error is None
    assert len(world.state.live) == 1
    world.run_until_quiet()
    (late,) = world.do("submit", [submission])
    assert (late.created, late.error) == (False, None)


def test_a_confirmed_operation_is_recognised_after_its_record_was_let_go() -> None:
    world = World(retained=0)
    world.agent()
    submission = world.submission("first")
    world.do("submit", [submission])
    world.run_until_quiet()
    for number in range(20):
        world.submit(f"op{number}")
        world.run_until_quiet()
    assert "first" not in world.state.ended
    (again,) = world.do("submit", [submission])
    assert (again.created, again.error) == (False, None)
    other = world.try_submit("first", task="another", output="something").error
    assert other is not None
    assert other.code is ErrorCode.ID_CONFLICT
    assert world.submit("child", "first").parents == ("first",)


def test_the_same_id_with_other_content_conflicts(world: World) -> None:
    world.submit("a")
    assert refusal(world, "a", content_digest=digest("other")).code is ErrorCode.ID_CONFLICT
    assert refusal(world, "a", agent="bob").code is ErrorCode.ID_CONFLICT


def test_unknown_agents_and_foreign_keys_are_refused(world: World) -> None:
    assert refusal(world, "a", agent="nobody").code is ErrorCode.UNKNOWN_AGENT
    assert refusal(world, "a", agent_key=digest("another")).code is ErrorCode.AGENT_KEY_MISMATCH


def test_a_registered_constraint_hash_is_enforced_without_a_slash(world: World) -> None:
    world.do("register_task", "t", constraint_hash=digest("C", "right"))
    error = refusal(world, "a", task="t", output="wrong")
    assert (error.code, error.field) == (ErrorCode.CONSTRAINT_MISMATCH, "output")
    assert world.state.agents["alice"].slashed_lamports == 0
    assert world.submit("b", task="t", output="right").state is OperationState.QUEUED


def test_tasks_may_have_to_be_registered(world: World) -> None:
    world.configure(tasks_require_registration=True)
    assert refusal(world, "a", task="t").code is ErrorCode.UNKNOWN_TASK
    world.do("register_task", "t", constraint_hash=None)
    world.submit("a", task="t")


def test_a_claim_keeps_others_away_until_it_expires(world: World) -> None:
    world.do("register_task", "t", constraint_hash=None, claim_ttl_ms=10_000)
    expires_ms = world.do("claim_task", "t", "bob")
    assert expires_ms == world.now_ms + 10_000
    assert refusal(world, "a", task="t").code is ErrorCode.TASK_CLAIMED
    with pytest.raises(CoreError, match="holds the claim"):
        world.do("claim_task", "t", "alice")
    world.advance(10_000)
    world.submit("a", task="t")
    assert world.do("claim_task", "t", "alice") == world.now_ms + 10_000


@pytest.mark.parametrize(
    ("parents", "code"), [(("ghost",), "unknown_parent"), (("a", "a"), "invalid"), (("x",), "cycle")]
)
def test_parents_must_be_known_distinct_and_others(world: World, parents: tuple[str, ...], code: str) -> None:
    world.submit("a")
    error = refusal(world, "x", *parents)
    assert (error.code, error.field) == (code, "depends_on")


def test_a_parent_that_ended_is_unknown_and_its_replacement_named(world: World) -> None:
    world.submit("a")
    world.do("cancel", "a")
    assert "ROLLED_BACK" in refusal(world, "x", "a").message
    world.submit("a2", task="task-a", retry_of="a")
    assert "'a2' replaces it" in refusal(world, "x", "a").message


def test_outputs_named_for_parents_must_be_theirs(world: World) -> None:
    world.submit("a")
    right = world.state.live["a"].output_commitment
    world.submit("b", "a", parent_outputs={"a": right}, parent_commitments=(right,))
    for outputs in ({"a": digest("no")}, {"a": right, "z": right}):
        error = refusal(world, "c", "a", parent_outputs=outputs)
        assert (error.code, error.field) == (ErrorCode.INVALID, "parent_outputs")
    assert refusal(world, "c", parent_outputs={"a": right}).field == "parent_outputs"
    assert refusal(world, "c", "a", parent_commitments=(digest("no"),)).code is ErrorCode.UNKNOWN_PARENT


def test_a_task_is_done_once_and_a_nullifier_used_once(world: World) -> None:
    world.submit("a", task="t")
    taken = world.state.live["a"].nullifier
    assert refusal(world, "b", task="other", nullifier=taken).code is ErrorCode.NULLIFIER_USED
    world.run_until_quiet()
    assert refusal(world, "b", task="other", nullifier=taken).code is ErrorCode.NULLIFIER_USED
    assert refusal(world, "b", task="t", agent="bob").code is ErrorCode.TASK_CONFIRMED


def test_a_rollback_releases_the_nullifier_for_a_retry(world: World) -> None:
    world.submit("a", task="t")
    taken = world.state.live["a"].nullifier
    world.do("cancel", "a")
    retry = world.submit("a2", task="t", retry_of="a")
    assert retry.nullifier == taken
    assert world.state.operation("a").replaced_by == "a2"


def test_only_what_ended_badly_is_retried_and_only_by_its_agent(world: World) -> None:
    world.submit("a")
    assert refusal(world, "b", retry_of="a").field == "retry_of"
    assert refusal(world, "b", retry_of="ghost").code is ErrorCode.UNKNOWN_OPERATION
    world.do("cancel", "a")
    assert refusal(world, "b", agent="bob", retry_of="a").field == "retry_of"
    world.submit("b", retry_of="a")


def test_the_queue_and_the_open_operations_have_limits(world: World) -> None:
    world.configure(queue_size=2)
    world.submit("a")
    world.submit("b")
    assert refusal(world, "c").code is ErrorCode.QUEUE_FULL
    (same,) = world.do("submit", [world.submission("a")])
    assert same.error is None, "a repetition is answered, however full the queue"
    world.configure(queue_size=1_000, max_open_operations=2)
    assert refusal(world, "c").code is ErrorCode.QUEUE_FULL
    world.run_until_quiet()
    world.submit("c")


def test_an_operation_must_fit_the_greatest_proof(world: World) -> None:
    world.configure(max_log_rows=10)
    assert refusal(world, "a", rows=769).code is ErrorCode.OUTPUT_TOO_LARGE
    world.submit("a", rows=768)


def test_items_of_a_call_may_come_in_any_order(world: World) -> None:
    items = [world.submission("c", "b"), world.submission("b", "a"), world.submission("a")]
    assert [verdict.created for verdict in world.do("submit", items)] == [True] * 3
    (event,) = world.seen(OperationsAdmitted)
    assert [one.operation_id for one in event.operations] == ["a", "b", "c"]
    assert [one.depth for one in event.operations] == [0, 1, 2]


def test_cycles_in_a_call_are_refused_and_what_hangs_on_them(world: World) -> None:
    items = [
        world.submission("a", "b"),
        world.submission("b", "a"),
        world.submission("below", "a"),
        world.submission("apart"),
    ]
    codes = [None if one.error is None else one.error.code for one in world.do("submit", items)]
    assert codes == ["cycle", "cycle", "unknown_parent", None]


def test_children_of_a_refused_item_are_refused_even_where_the_id_exists(world: World) -> None:
    world.submit("a")
    items = [world.submission("a", content_digest=digest("other")), world.submission("b", "a")]
    codes = [one.error.code for one in world.do("submit", items)]
    assert codes == ["id_conflict", "unknown_parent"]


def test_parents_are_resolved_for_statements(world: World) -> None:
    world.submit("a")
    world.run_until_quiet()
    world.submit("b")
    state = world.state
    staged = {"new": digest("staged")}
    found = world.engine.resolve_parents(["a", "new", "b"], staged)
    assert found == (state.confirmed_outputs["a"], staged["new"], state.live["b"].output_commitment)
    with pytest.raises(CoreError) as refused:
        world.engine.resolve_parents(["ghost"], staged)
    assert refused.value.code is ErrorCode.UNKNOWN_PARENT


@given(st.integers(1, 12), st.data())
def test_arrange_puts_parents_first_and_finds_every_cycle(count: int, data: st.DataObject) -> None:
    ids = [str(number) for number in range(count)]
    names = st.sampled_from([*ids, "outside"])
    parents = {one: data.draw(st.lists(names, max_size=3, unique=True)) for one in ids}
    ordered, cyclic, below = arrange(ids, parents)
    assert sorted(ordered + cyclic + below) == sorted(ids)
    for at, one in enumerate(ordered):
        assert all(parent in ordered[:at] for parent in parents[one] if parent in parents)

    def ancestors(one: str, seen: set[str]) -> set[str]:
        for parent in parents.get(one, ()):
            if parent not in seen:
                seen.add(parent)
                ancestors(parent, seen)
        return seen

    on_cycles = {one for one in ids if one in ancestors(one, set())}
    assert on_cycles <= set(cyclic)
    assert all(ancestors(one, set()) & on_cycles for one in cyclic + below)
