"""The local chain includes at slots, confirms by depth, and refuses what breaks a rule, whole and by name."""

import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator.chain.interface import TaskConflict
from coordinator.chain.local import LocalChain

World = Any
"""`World` of conftest.py, which an importlib test module cannot import."""


class TestSlots:
    def test_slots_follow_the_clock(self, world: World) -> None:
        assert world.chain.slot() == 0
        world.go_to(7, extra_ms=399)
        assert world.chain.slot() == 7
        world.go_to(8)
        assert world.chain.slot() == 8

    def test_a_clock_that_goes_back_does_not_take_the_slot_with_it(self, world: World) -> None:
        world.go_to(8)
        assert world.chain.slot() == 8
        world.go_to(3)
        assert world.chain.slot() == 8

    def test_what_was_confirmed_stays_so_when_a_clock_that_went_back_begins_anew(self, world: World) -> None:
        parent = world.operation("parent")
        world.submit("b1/1", parent)
        world.go_to(6)
        assert world.status("b1/1") == "confirmed"
        world.go_to(3)
        world.restart()
        assert world.status("b1/1") == "confirmed"
        world.submit("b2/1", world.operation("child", parent))
        world.go_to(7)
        assert world.status("b2/1") == "included"

    def test_the_domain_names_chain_and_genesis(self, world: World, tmp_path: Path) -> None:
        assert world.chain.domain == b"local:a4d26868017c0ccf"
        other = LocalChain(tmp_path / "other", clock_ms=lambda: 0)
        assert other.domain.startswith(b"local:")
        assert len(other.domain) == len(world.chain.domain)
        assert other.domain != world.chain.domain
        other.close()


class TestLifeOfATransaction:
    def test_included_at_the_next_slot_and_confirmed_five_slots_later(self, world: World) -> None:
        world.go_to(3, extra_ms=200)
        world.submit("b1/1", world.operation("t"))
        assert world.status("b1/1") == "pending"
        world.go_to(4)
        assert (world.status("b1/1"), world.observe("b1/1").slot) == ("included", 4)
        world.go_to(8, extra_ms=399)
        assert world.status("b1/1") == "included"
        assert world.confirmed() == []
        world.go_to(9)
        assert (world.status("b1/1"), world.observe("b1/1").slot) == ("confirmed", 4)
        assert world.confirmed() == ["b1/1"]

    def test_history_does_not_depend_on_when_somebody_looks(self, world_type: type, tmp_path: Path) -> None:
        seen = []
        for name, looks in (("often", range(1, 30)), ("once", [29])):
            world: World = world_type(tmp_path / name, "delay@t:2:1", "reorg@slot:12:3")
            for slot in range(0, 20, 2):
                world.go_to(slot)
                world.submit(f"b{slot}/1", world.operation(f"t{slot}"))
                if name == "often":
                    world.chain.advance()
            for slot in looks:
                world.go_to(slot)
                world.chain.advance()
            seen.append(world.chain.poll([f"b{slot}/1" for slot in range(0, 20, 2)]))
        assert seen[0] == seen[1]
        assert {observation.status.value for observation in seen[0]} == {"confirmed", "reorged"}

    def test_sending_it_again_changes_nothing(self, world: World) -> None:
        batch = world.batch("b1/1", world.operation("t"))
        for slot in range(10):
            world.go_to(slot)
            world.chain.submit(batch)
        assert world.observe("b1/1").slot == 1
        assert world.status("b1/1") == "confirmed"

    def test_one_that_comes_too_late_expires(self, world: World) -> None:
        batch = world.batch("b1/1", world.operation("t"), valid_for=3)
        world.go_to(3)
        world.chain.submit(batch)
        assert world.status("b1/1") == "pending", "it is not dead before its last slot is over"
        world.go_to(4)
        assert (world.status("b1/1"), world.observe("b1/1").slot) == ("expired", 4)
        world.go_to(40)
        assert world.status("b1/1") == "expired"
        assert world.chain.nullifiers() == frozenset()

    def test_the_last_valid_slot_still_includes(self, world: World) -> None:
        batch = world.batch("b1/1", world.operation("t"), valid_for=4)
        world.go_to(3)
        world.chain.submit(batch)
        world.go_to(60)
        assert (world.status("b1/1"), world.observe("b1/1").slot) == ("confirmed", 4)

    def test_one_the_chain_never_got_is_dropped_for_good(self, world: World) -> None:
        batch = world.batch("b1/1", world.operation("t"))
        assert world.status("b1/1") == "dropped"
        world.chain.submit(batch)
        world.go_to(9)
        assert world.status("b1/1") == "dropped", "who was told that it is dead must be able to rely on it"
        assert world.chain.nullifiers() == frozenset()

    def test_several_are_answered_in_the_order_asked(self, world: World) -> None:
        for name in ("x/1", "y/1", "z/1"):
            world.submit(name, world.operation(name))
        world.go_to(1)
        names = ["z/1", "nobody", "x/1", "x/1", "y/1"]
        assert [observation.transaction for observation in world.chain.poll(names)] == names
        assert world.chain.poll([]) == []

    def test_confirmed_batches_come_back_whole_and_in_order(self, world: World) -> None:
        first = world.operation("t1")
        second, third = world.operation("t2", first, agent="b"), world.operation("t3", first, first)
        world.submit("b1/1", first, second)
        world.go_to(6)
        world.submit("b2/1", third)
        world.go_to(12)
        confirmed = world.chain.confirmed()
        assert [(b.transaction, b.batch_id, b.slot) for b in confirmed] == [
            ("b1/1", "b1", 1),
            ("b2/1", "b2", 7),
        ]
        assert [batch.operations for batch in confirmed] == [(first, second), (third,)]
        assert world.chain.nullifiers() == {first.nullifier, second.nullifier, third.nullifier}


def refused(world: World, name: str, slot: int) -> tuple[str | None, tuple[int, ...]]:
    """Code and guilty places of a transaction that must be refused by that slot."""
    world.go_to(slot)
    observation = world.observe(name)
    assert observation.status == "refused"
    return observation.code, observation.indices


class TestRules:
    def test_a_registered_constraint_hash_is_enforced(self, world: World) -> None:
        world.chain.register_task("t1", world.operation("t1").constraint_hash)
        world.chain.register_task("free", None)
        good = world.operation("t1")
        world.submit("b1/1", world.operation("free"), good)
        world.submit("b2/1", world.operation("t2"), world.operation("t1", output="something else"))
        assert refused(world, "b2/1", 1) == ("constraint_mismatch", (1,))
        assert world.status("b1/1") == "included"

    def test_the_chain_may_know_what_the_coordinator_was_not_told(self, world: World) -> None:
        world.chain.preregister_task("t", world.operation("t").constraint_hash)
        world.chain.register_task("t", None)
        world.submit("b1/1", world.operation("t", output="a lie"))
        assert refused(world, "b1/1", 1) == ("constraint_mismatch", (0,))

    def test_a_task_keeps_its_first_constraint_hash(self, world: World) -> None:
        first, other = world.operation("a").constraint_hash, world.operation("b").constraint_hash
        world.chain.register_task("t", None)
        world.chain.register_task("t", first)
        world.chain.register_task("t", first)
        with pytest.raises(TaskConflict, match="'t'"):
            world.chain.register_task("t", other)
        world.submit("b1/1", world.operation("t", output="b"))
        assert refused(world, "b1/1", 1) == ("constraint_mismatch", (0,))

    def test_a_nullifier_is_spent_once(self, world: World) -> None:
        operation = world.operation("t")
        world.submit("b1/1", operation)
        world.go_to(1)
        world.submit("b2/1", world.operation("u"), operation)
        assert refused(world, "b2/1", 2) == ("double_spend", (1,))
        assert world.chain.nullifiers() == {operation.nullifier}

    def test_a_nullifier_is_spent_once_even_for_another_task(self, world: World) -> None:
        first = world.operation("t")
        stolen, twin = (_with(world.operation(task), nullifier=first.nullifier) for task in ("u", "v"))
        world.submit("b1/1", stolen, twin)
        assert refused(world, "b1/1", 1) == ("double_spend", (1,))
        world.submit("b2/1", first)
        world.go_to(2)
        world.submit("b3/1", stolen)
        assert refused(world, "b3/1", 3) == ("double_spend", (0,))

    def test_a_task_is_done_once_whoever_does_it(self, world: World) -> None:
        world.submit("b1/1", world.operation("t"))
        world.submit("b2/1", world.operation("t", agent="another"))
        assert refused(world, "b2/1", 1) == ("double_spend", (0,))

    def test_nothing_is_spent_twice_within_a_batch(self, world: World) -> None:
        first = world.operation("t")
        again, other = world.operation("t", agent="another"), world.operation("u")
        world.submit("b1/1", first, other, again, first)
        assert refused(world, "b1/1", 1) == ("double_spend", (2, 3))

    def test_a_parent_earlier_in_the_batch_is_enough(self, world: World) -> None:
        chain = [world.operation("t0")]
        for number in range(1, 10):
            chain.append(world.operation(f"t{number}", chain[-1]))
        world.submit("b1/1", *chain)
        world.go_to(6)
        assert world.status("b1/1") == "confirmed"

    def test_a_parent_later_in_the_batch_is_not(self, world: World) -> None:
        parent = world.operation("parent")
        world.submit("b1/1", world.operation("child", parent), parent)
        assert refused(world, "b1/1", 1) == ("unconfirmed_parent", (0,))

    def test_a_parent_in_another_batch_must_be_confirmed(self, world: World) -> None:
        parent = world.operation("parent")
        child = world.operation("child", parent)
        world.submit("b1/1", parent)
        world.go_to(1)
        world.submit("b2/1", child)
        assert refused(world, "b2/1", 2) == ("unconfirmed_parent", (0,)), "included is not confirmed"
        world.go_to(4)
        world.submit("b2/2", child)
        assert refused(world, "b2/2", 5) == ("unconfirmed_parent", (0,)), "four slots are not five"
        world.submit("b2/3", child)
        world.go_to(6)
        assert world.status("b2/3") == "included"

    def test_a_proof_of_other_statements_is_refused_without_naming_anyone(self, world: World) -> None:
        first, second = world.operation("t1"), world.operation("t2")
        proof = world.batch("x", second, first).proof
        world.chain.submit(_with(world.batch("b1/1", first, second), proof=proof))
        assert refused(world, "b1/1", 1) == ("invalid_proof", ())

    def test_a_proof_for_another_chain_is_refused(
        self, world: World, tmp_path: Path, world_type: type
    ) -> None:
        other = LocalChain(tmp_path / "other", clock_ms=lambda: world.now_ms, genesis=bytes(8))
        here, world.chain = world.chain, other
        batch = world.batch("b1/1", world.operation("t"))
        world.chain = here
        world.chain.submit(batch)
        assert refused(world, "b1/1", 1) == ("invalid_proof", ())
        other.close()

    @pytest.mark.parametrize("parameters", ["testing", "mock", "unheard-of"])
    def test_parameters_that_prove_nothing_are_refused(self, world: World, parameters: str) -> None:
        world.chain.submit(world.batch("b1/1", world.operation("t"), parameters=parameters))
        assert refused(world, "b1/1", 1) == ("parameters_refused", ())

    def test_an_empty_batch_is_refused(self, world: World) -> None:
        world.chain.submit(_with(world.batch("b1/1", world.operation("t")), operations=()))
        assert refused(world, "b1/1", 1) == ("invalid_statement", ())

    @pytest.mark.parametrize(
        "change",
        [
            {"agent_key": bytes(31)},
            {"output_commitment": b"\xff" * 32},
            {"agent_id": ""},
            {"task_id": "t" * 257},
        ],
    )
    def test_malformed_statements_are_refused_by_name(self, world: World, change: dict[str, Any]) -> None:
        good = world.operation("t1")
        bad = _with(world.operation("t2"), **change)
        batch = world.batch("b1/1", good)
        world.chain.submit(_with(batch, operations=(good, bad)))
        assert refused(world, "b1/1", 1) == ("invalid_statement", (1,))

    def test_a_refused_batch_leaves_nothing_behind(self, world: World) -> None:
        good, bad = world.operation("t1"), world.operation("t2", world.operation("nowhere"))
        world.submit("b1/1", good, bad)
        assert refused(world, "b1/1", 1) == ("unconfirmed_parent", (1,))
        assert world.chain.nullifiers() == frozenset()
        world.submit("b1/2", good)
        world.go_to(2)
        assert world.status("b1/2") == "included"


def test_many_threads_may_use_it_at_once(world: World) -> None:
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(10):
                name = f"w{worker}-{number}/1"
                world.submit(name, world.operation(name))
                world.chain.settle(worker * 100 + number + 1, [("external", -1), (f"agent{worker}", 1)])
                world.chain.poll([name])
                world.chain.connection()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    world.go_to(6)
    assert len(world.confirmed()) == 40
    assert world.chain.balances() == {"external": -40} | {f"agent{worker}": 10 for worker in range(4)}


def _with(struct: Any, **changes: Any) -> Any:
    return type(struct)(
        **{field: changes.get(field, getattr(struct, field)) for field in struct.__struct_fields__}
    )
