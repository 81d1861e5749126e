"""Whatever is submitted, reorganised, restarted or looked at: nothing confirms twice or before its parents"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from coordinator.chain.interface import ChainBatch, ChainUnavailable
from coordinator.core.commands import Observation

World = Any

TASKS = 8


@dataclass(frozen=True)
class Submit:
    """A batch of operations of (task, agent, tasks of its parents)."""

    operations: tuple[tuple[int, int, tuple[int, ...]], ...]
    valid_for: int


@dataclass(frozen=True)
class Wait:
    milliseconds: int


@dataclass(frozen=True)
class Look:
    pass


@dataclass(frozen=True)
class Restart:
    pass


_operation = st.integers(0, TASKS - 1).flatmap(
    lambda task: st.tuples(
        st.just(task),
        st.integers(0, 1),
        st.lists(st.integers(0, task - 1), max_size=2, unique=True).map(tuple) if task else st.just(()),
    )
)
ACTIONS = st.lists(
    st.one_of(
        st.builds(Submit, st.lists(_operation, min_size=1, max_size=4).map(tuple), st.integers(0, 8)),
        st.builds(Wait, st.integers(0, 3000)),
        st.just(Look()),
        st.just(Restart()),
    ),
    min_size=4,
    max_size=25,
)
FAULTS = st.lists(
    st.one_of(
        st.builds("reorg@slot:{}:{}".format, st.integers(1, 60), st.integers(1, 9)),
        st.builds(
            "{}@t:{}:{}".format,
            st.sampled_from(["delay", "drop", "outage"]),
            st.integers(0, 15),
            st.integers(1, 4),
        ),
        st.builds("reject@op:t{}".format, st.integers(0, TASKS - 1)),
    ),
    max_size=3,
)


def perform(world: World, actions: list[Any]) -> Iterator[None]:
    """Does the actions one by one."""
    for number, action in enumerate(actions):
        match action:
            case Submit(operations, valid_for):
                public = [
                    world.operation(
                        f"t{task}",
                        *(world.operation(f"t{p}", agent="agent0") for p in parents),
                        agent=f"agent{a}",
                    )
                    for task, a, parents in operations
                ]
                try:
                    world.submit(f"b{number}/1", *public, valid_for=valid_for)
                except ChainUnavailable:
                    note(f"b{number} met an outage")
            case Wait(milliseconds):
                world.now_ms += milliseconds
            case Look():
                world.chain.advance()
            case Restart():
                world.restart()
        yield


def end(world: World) -> tuple[list[Observation], list[ChainBatch]]:
    """How it all ends, long after every fault."""
    world.now_ms += 120_000
    names = [f"b{number}/1" for number in range(25)]
    return world.chain.poll(names), world.chain.confirmed()


def check(world: World, batches: list[ChainBatch]) -> None:
    """What must hold of the batches on chain, at any instant."""
    operations = [operation for batch in batches for operation in batch.operations]
    nullifiers = [operation.nullifier for operation in operations]
    assert len(set(nullifiers)) == len(nullifiers)
    tasks = [operation.task_id for operation in operations]
    assert len(set(tasks)) == len(tasks)
    assert not set(tasks) & world.faults.rejected_tasks
    earlier: dict[bytes, tuple[int, str]] = {}
    for batch in batches:
        for operation in batch.operations:
            for parent in operation.parents:
                slot, transaction = earlier[parent]
                assert transaction == batch.transaction or slot < batch.slot
            earlier[operation.output_commitment] = (batch.slot, batch.transaction)


@given(actions=ACTIONS, faults=FAULTS)
@settings(max_examples=60, deadline=None)
def test_what_is_confirmed_is_confirmed_once_and_after_its_parents(
    world_type: type, tmp_path_factory: pytest.TempPathFactory, actions: list[Any], faults: list[str]
) -> None:
    world: World = world_type(tmp_path_factory.mktemp("chain"), *faults)
    deepest = max((reorg.depth for reorg in world.faults.reorgs), default=0)
    promised: list[str] = []
    for _ in perform(world, actions):
        try:
            batches = world.chain.confirmed()
        except ChainUnavailable:
            continue
        check(world, batches)
        names = [batch.transaction for batch in batches]
        if deepest <= 5:
            assert names[: len(promised)] == promised, (
                "no reorg of a depth within the promise undoes anything"
            )
        promised = names
    observations, batches = end(world)
    check(world, batches)
    confirmed = {o.transaction for o in observations if o.status == "confirmed"}
    assert confirmed == {batch.transaction for batch in batches}
    assert "pending" not in {observation.status for observation in observations}
    world.chain.close()


@given(actions=ACTIONS, faults=FAULTS)
@settings(max_examples=40, deadline=None)
def test_neither_looking_nor_restarting_changes_history(
    world_type: type, tmp_path_factory: pytest.TempPathFactory, actions: list[Any], faults: list[str]
) -> None:
    # The windows of faults count from the start of the process, which a restart moves: slots alone do not.
    faults = [fault for fault in faults if "@t:" not in fault]
    ends = []
    for kept in (lambda action: True, lambda action: isinstance(action, Submit | Wait)):
        world: World = world_type(tmp_path_factory.mktemp("chain"), *faults)
        for action, _ in zip(
            actions, perform(world, [a if kept(a) else Wait(0) for a in actions]), strict=True
        ):
            note(str(action))
        ends.append(end(world))
        world.chain.close()
    assert ends[0] == ends[1]
