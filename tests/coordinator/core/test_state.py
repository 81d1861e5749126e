"""The state: a fold over the log, dumped and loaded without loss, bounded, and the same in every process."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest

from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import (
    AdmittedOperation,
    OperationsAdmitted,
    RebuiltAgent,
    RebuiltOperation,
    StateRebuilt,
    decode_event,
    encode_event,
)
from coordinator.core.invariants import check
from coordinator.core.records import MAX_TYPES_PER_AGENT, OTHER_TYPE, Operation
from coordinator.core.state import CoreState, replay
from coordinator.core.states import RollbackPolicy
from tests.coordinator.core.chaos import Chaos
from tests.coordinator.core.world import START_MS, World, digest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("policy", [RollbackPolicy.CASCADE, RollbackPolicy.SELECTIVE])
def test_a_loaded_state_goes_on_like_the_one_it_was_made_from(policy: RollbackPolicy) -> None:
    """Two engines, one of them loaded from a snapshot, take the rest of a log alike, indexes included."""
    random = Random(7)
    chaos = Chaos(World(workers=["w1", "w2"], check=False), policy)
    for _ in range(300):
        chaos.step(random)
    events = chaos.world.events
    for cut in (len(events) // 3, len(events) // 2, len(events) * 3 // 4):
        straight = replay(events[:cut], retained=chaos.world.retained)
        loaded = CoreState.load(straight.dump())
        for event in events[cut:]:
            straight.apply(event)
            loaded.apply(event)
        assert loaded.dump() == straight.dump()
        for name in ("counts", "due", "submitted", "depth_counts", "live_nullifiers", "task_in_flight"):
            assert getattr(loaded, name) == getattr(straight, name), name
        for name in ("commitments", "snapshots", "branches", "locked_lamports", "open_bytes", "queued_rows"):
            assert getattr(loaded, name) == getattr(straight, name), name
        for queues in ("closed", "dependent"):
            left, right = getattr(loaded.ready, queues), getattr(straight.ready, queues)
            assert {one: list(queue) for one, queue in left.items()} == {
                one: list(queue) for one, queue in right.items()
            }
        assert loaded.ready.groups.keys() == straight.ready.groups.keys()


def test_ended_operations_are_forgotten_but_for_what_must_be_known() -> None:
    world = World(retained=8, check=False)
    world.agent()
    for number in range(60):
        world.submit(f"op{number}")
        if number % 3:
            world.settle(f"op{number}")
        else:
            world.do("cancel", f"op{number}")
    state = world.state
    assert len(state.ended) <= 8 + 1 + 16
    assert sum(len(one.operation_ids) for one in state.ended_batches.values()) <= 8 + 1 + 16
    assert len(state.confirmed_outputs) == len(state.spent_nullifiers) == 40
    with pytest.raises(CoreError) as unknown:
        state.operation("op1")
    assert unknown.value.code is ErrorCode.UNKNOWN_OPERATION
    with pytest.raises(CoreError) as unknown:
        state.batch("batch-1")
    assert unknown.value.code is ErrorCode.NOT_FOUND
    assert state.commitment_of("op1") == digest("O", "output-of-task-op1")
    assert state.commitment_of("op0") is None


def test_the_types_of_an_agent_are_bounded() -> None:
    world = World(check=False)
    world.agent()
    for number in range(MAX_TYPES_PER_AGENT + 5):
        world.submit(f"op{number}", operation_type=f"type{number}")
    by_type = world.state.agents["alice"].by_type
    assert len(by_type) == MAX_TYPES_PER_AGENT + 1
    assert by_type[OTHER_TYPE].admitted == 5


def test_a_rebuilt_state_starts_a_new_log_from_the_chain() -> None:
    event = StateRebuilt(
        START_MS,
        agents=(RebuiltAgent("alice", digest("key", "alice"), b"", 70), RebuiltAgent("bob", b"", b"", 30)),
        treasury_lamports=5,
        confirmed=(RebuiltOperation("old", "task-old", digest("O"), digest("N")),),
        last_batch_number=41,
    )
    assert decode_event(encode_event(event)) == event
    state = replay([event])
    assert all(report.ok for report in check(state))
    world = World()
    world.configure(enabled=False)
    world.engine = Engine(state, world.config)
    world.shadow = CoreState.load(state.dump())
    world.submit("new", "old")
    (batch_id,) = world.start()
    assert batch_id == "batch-42"
    world.prove(batch_id)
    world.confirm(*world.send_due())
    again = world.try_submit("again", task="task-old").error
    assert again is not None
    assert again.code is ErrorCode.TASK_CONFIRMED


def test_an_event_that_does_not_follow_is_an_assertion() -> None:
    world = World()
    world.agent()
    world.submit("a")
    (admitted,) = world.seen(OperationsAdmitted)
    with pytest.raises(AssertionError, match="admitted twice"):
        world.shadow.apply(admitted)


def test_an_event_written_before_a_field_was_appended_is_read() -> None:
    world = World()
    world.agent()
    world.submit("a")
    (event,) = world.seen(OperationsAdmitted)
    fields = AdmittedOperation.__struct_fields__
    assert fields[-3:] == ("committed", "snapshot", "bonded_by")
    plain = msgspec.msgpack.decode(encode_event(event))
    operations = plain[-1]
    operations[0] = operations[0][:-3]
    older = decode_event(msgspec.msgpack.encode(plain))
    assert isinstance(older, OperationsAdmitted)
    (read,) = older.operations
    assert (read.operation_id, read.committed, read.snapshot, read.bonded_by) == ("a", False, False, None)


STORY = """
import hashlib, sys
sys.path.insert(0, ".")
from random import Random
from tests.coordinator.core.chaos import Chaos
from tests.coordinator.core.world import World
from coordinator.core.events import encode_event
random = Random(3)
chaos = Chaos(World(workers=["w1", "w2"], check=False))
for _ in range(250):
    chaos.step(random)
print(hashlib.sha256(b"".join(map(encode_event, chaos.world.events)) + chaos.world.state.dump()).hexdigest())
"""


def test_the_same_commands_give_the_same_events_whatever_the_hash_seed() -> None:
    told = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", STORY], cwd=REPOSITORY, env=environment, capture_output=True, check=True
        )
        told.add(done.stdout.strip())
    assert len(told) == 1
    assert len(told.pop()) == 2 * hashlib.sha256().digest_size


def test_a_record_begins_with_what_was_admitted() -> None:
    fields = AdmittedOperation.__struct_fields__
    assert Operation.__struct_fields__[: len(fields)] == fields
    world = World(check=False)
    world.agent()
    world.submit("a")
    world.submit("b", "a", priority=3, deadline_ms=START_MS)
    for event in world.seen(OperationsAdmitted):
        (admitted,) = event.operations
        operation = world.state.live[admitted.operation_id]
        for name in set(fields) - {"bonded_by"}:
            assert getattr(operation, name) == getattr(admitted, name), name
        assert operation.bonded_by == operation.agent_id
