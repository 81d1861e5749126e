"""The table of transitions, exhausted: each of its moves is made by a story here, and no story makes another."""

from collections.abc import Callable

import pytest

from coordinator.core.states import (
    IN_BATCH,
    TERMINAL,
    TRANSITIONS,
    OperationState,
    ReturnReason,
    TransactionStatus,
)
from tests.coordinator.core.world import World, transitions

Move = tuple[OperationState, OperationState]
TABLE: set[Move] = {(before, after) for before, states in TRANSITIONS.items() for after in states}


def at(state: str) -> World:
    """A world whose operation `x` stands in a state; `p` is its parent where it needs one."""
    world = World(workers=["w1", "w2"])
    world.agent()
    if state in ("SPECULATING", "DEFERRED", "AWAITING_ANCESTORS", "SPECULATIVE"):
        world.configure(optimistic_proofs=state != "SPECULATING")
        world.submit("p")
        world.configure(enabled=state != "DEFERRED")
        world.submit("x", "p")
    else:
        world.submit("x")
    if state == "AWAITING_ANCESTORS":
        world.start("p")
        (batch_id,) = world.start("x")
        world.prove(batch_id)
    if state in ("PROVING", "PROVED", "SUBMITTING"):
        (batch_id,) = world.start("x")
        if state != "PROVING":
            world.prove(batch_id)
        if state == "SUBMITTING":
            world.send_due()
    if state != "SPECULATIVE":
        assert world.where("x") == [state]
    return world


def finish(world: World) -> None:
    world.run_until_quiet()


def cancel(world: World) -> None:
    world.do("cancel", "x")


def condemn(world: World) -> None:
    world.do("register_task", "task-x", constraint_hash=bytes(32))


def clear(world: World) -> None:
    world.do("clear_queue", by="operator")
    world.advance(1)


def lose(world: World) -> None:
    world.fail_batch(next(iter(world.running)))


def expire(world: World) -> None:
    world.see(world.engine.transactions_open()[0].transaction, TransactionStatus.EXPIRED)


def refuse(world: World) -> None:
    world.refuse(world.engine.transactions_open()[0].transaction, "invalid_proof", 0)


def lose_the_ancestor(world: World) -> None:
    (batch_id,) = world.running
    world.fail_batch(batch_id, ReturnReason.WORKER_LOST)


def refuse_with_company(world: World) -> None:
    world.submit("y")
    world.refuse(world.to_submitting("x", "y"), "invalid_witness", 1)


def clear_while_proving(world: World) -> None:
    world.start("p", "x")
    clear(world)


BEFORE_THE_CHAIN = ("SPECULATING", "DEFERRED", "QUEUED", "PROVING", "PROVED", "AWAITING_ANCESTORS")
STORIES: list[tuple[str, Callable[[World], None]]] = [
    *((state, story) for state in BEFORE_THE_CHAIN for story in (finish, cancel, condemn)),
    ("QUEUED", clear),
    ("SPECULATIVE", clear),
    ("PROVING", clear),
    ("PROVING", lose),
    ("SPECULATIVE", clear_while_proving),
    ("AWAITING_ANCESTORS", lose_the_ancestor),
    ("SUBMITTING", finish),
    ("SUBMITTING", expire),
    ("SUBMITTING", refuse),
    ("QUEUED", refuse_with_company),
]


def made_by(state: str, story: Callable[[World], None]) -> set[Move]:
    world = at(state)
    story(world)
    return transitions([*world.state.live.values(), *world.state.ended.values()])


@pytest.mark.parametrize(("state", "story"), STORIES, ids=lambda one: getattr(one, "__name__", one))
def test_a_story_makes_only_moves_of_the_table(state: str, story: Callable[[World], None]) -> None:
    assert made_by(state, story) <= TABLE


def test_the_stories_make_every_move_of_the_table() -> None:
    made: set[Move] = set()
    for state, story in STORIES:
        made |= made_by(state, story)
    assert made == TABLE


def test_ends_are_ends_and_only_the_chain_ends_what_it_has() -> None:
    assert all(not TRANSITIONS[state] for state in TERMINAL)
    assert not TRANSITIONS[OperationState.SUBMITTING] & {OperationState.ROLLED_BACK, OperationState.FAILED}
    assert set(TRANSITIONS) == set(OperationState)
    assert IN_BATCH.isdisjoint(TERMINAL)
