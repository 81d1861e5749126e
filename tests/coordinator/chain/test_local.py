"""The local chain includes at slots, confirms by depth, and refuses what breaks a rule, whole and by name."""

import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator.chain.interface import ChainCorrupted, ChainMismatch, ChainUnavailable, TaskConflict
from coordinator.chain.local import CHAIN_FILE, LocalChain
from coordinator.core.states import ConnectionStatus
from workers.stark.parameters import PRODUCTION_NAMES

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
        world.go_to(5)
        world.submit("b2/2", child)
        world.go_to(6)
        assert world.status("b2/2") == "included"

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


class TestReorgs:
    def test_a_shallow_one_returns_the_batch_to_nothing(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "reorg@slot:6:5")
        world.go_to(0)
        operation = world.operation("t")
        world.submit("kept/1", world.operation("older"))
        world.go_to(1)
        world.submit("b1/1", operation)
        world.go_to(5)
        assert world.status("b1/1") == "included"
        world.go_to(6)
        assert world.status("b1/1") == "reorged"
        assert world.observe("b1/1").code is None
        assert world.status("kept/1") == "confirmed"
        assert operation.nullifier not in world.chain.nullifiers()
        world.go_to(60)
        assert world.status("b1/1") == "reorged", "a transaction that a reorg undid is dead"

        world.submit("b1/2", operation)
        world.go_to(66)
        assert world.status("b1/2") == "confirmed"
        assert world.chain.undone() == []

    def test_a_deep_one_breaks_the_promise_and_says_so(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "reorg@slot:13:14")
        parent = world.operation("parent")
        child = world.operation("child", parent)
        world.submit("b1/1", parent)
        world.go_to(6)
        world.submit("b2/1", child)
        world.go_to(12)
        assert world.confirmed() == ["b1/1", "b2/1"]
        world.go_to(13)
        assert world.confirmed() == []
        assert [world.observe(name).code for name in ("b1/1", "b2/1")] == ["finality_violation"] * 2
        assert world.chain.undone() == ["b1/1", "b2/1"]

        world.submit("b1/2", parent)
        world.submit("b2/2", child)
        world.go_to(14)
        assert world.status("b2/2") == "included", "posted again in order, though the parent is not deep yet"
        assert world.chain.undone() == []
        world.go_to(19)
        assert world.confirmed() == ["b1/2", "b2/2"]

    def test_what_is_included_in_the_reorgs_own_slot_is_undone(
        self, world_type: type, tmp_path: Path
    ) -> None:
        world: World = world_type(tmp_path, "reorg@slot:6:1")
        for slot in (4, 5, 6):
            world.go_to(slot)
            world.submit(f"at{slot + 1}/1", world.operation(f"t{slot}"))
        world.go_to(20)
        assert [world.status(f"at{slot}/1") for slot in (5, 6, 7)] == ["confirmed", "reorged", "confirmed"]

    def test_it_happens_once_even_over_a_restart(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "reorg@slot:6:3")
        world.go_to(6)
        world.chain.advance()
        world.submit("b1/1", world.operation("t"))
        world.restart()
        world.go_to(12)
        assert world.status("b1/1") == "confirmed"


class TestFaults:
    def test_a_rejected_task_is_refused_every_time(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "reject@op:bad")
        for slot in range(3):
            world.go_to(slot)
            world.submit(f"b{slot}/1", world.operation(f"good{slot}"), world.operation("bad"))
            assert refused(world, f"b{slot}/1", slot + 1) == ("chain_refused", (1,))
        world.submit("rest/1", *(world.operation(f"good{slot}") for slot in range(3)))
        world.go_to(4)
        assert world.status("rest/1") == "included"

    def test_a_delay_postpones_inclusion_to_its_end(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "delay@t:0.5:2")
        world.submit("b1/1", world.operation("t1"))
        world.go_to(1)
        assert world.status("b1/1") == "included", "slot 1 begins at 0.4 s, before the delay"
        world.submit("b2/1", world.operation("t2"))
        world.go_to(6)
        assert world.status("b2/1") == "pending"
        assert world.chain.connection() is ConnectionStatus.DEGRADED
        world.go_to(7)
        assert world.observe("b2/1").slot == 7, "the first slot at or after 2.5 s"

    def test_what_a_delay_keeps_too_long_expires(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "delay@t:0:10")
        world.submit("b1/1", world.operation("t"), valid_for=5)
        world.go_to(5)
        assert world.status("b1/1") == "pending"
        world.go_to(6)
        assert world.status("b1/1") == "expired"
        world.go_to(30)
        assert world.status("b1/1") == "expired"

    def test_dropped_transactions_vanish_and_expire(self, world_type: type, tmp_path: Path) -> None:
        world: World = world_type(tmp_path, "drop@t:0:1")
        world.submit("b1/1", world.operation("t"))
        world.go_to(10)
        assert world.status("b1/1") == "pending", "nobody is told"
        world.go_to(11)
        assert world.status("b1/1") == "expired"
        world.submit("b1/2", world.operation("t"))
        world.go_to(12)
        assert world.status("b1/2") == "included"

    def test_an_outage_is_of_the_connection_and_not_of_the_chain(
        self, world_type: type, tmp_path: Path
    ) -> None:
        world: World = world_type(tmp_path, "outage@t:0.2:4")
        world.submit("b1/1", world.operation("t"))
        batch = world.batch("b2/1", world.operation("u"))
        world.go_to(2)
        assert world.chain.connection() is ConnectionStatus.DISCONNECTED
        assert world.chain.slot() == 2
        for call in (
            lambda: world.chain.submit(batch),
            lambda: world.chain.poll(["b1/1"]),
            lambda: world.chain.settle(1, []),
            lambda: world.chain.register_task("t", None),
            world.chain.balances,
            world.chain.confirmed,
        ):
            with pytest.raises(ChainUnavailable) as caught:
                call()
            assert caught.value.retry
        world.go_to(11)
        assert world.chain.connection() is ConnectionStatus.CONNECTED
        assert (world.status("b1/1"), world.observe("b1/1").slot) == ("confirmed", 1)
        assert world.status("b2/1") == "dropped", "it never arrived"

    def test_slow_inclusion_degrades_the_connection_until_it_is_over(
        self, world_type: type, tmp_path: Path
    ) -> None:
        world: World = world_type(tmp_path, "delay@t:0:3")
        assert world.chain.connection() is ConnectionStatus.DEGRADED
        world.submit("b1/1", world.operation("t"))
        world.go_to(9)
        assert world.status("b1/1") == "included"
        assert world.chain.connection() is ConnectionStatus.DEGRADED, "8 slots on average"
        for slot in range(9, 20):
            world.go_to(slot)
            world.submit(f"c{slot}/1", world.operation(f"t{slot}"))
        world.go_to(21)
        world.chain.advance()
        assert world.chain.connection() is ConnectionStatus.CONNECTED


class TestRestart:
    def test_everything_is_there_again(self, world: World) -> None:
        world.chain.register_task("t9", world.operation("t9").constraint_hash)
        world.chain.settle(1, [("external", -5), ("agent", 5)])
        world.submit("b1/1", world.operation("t1"))
        world.go_to(1)
        world.chain.advance()
        world.submit("b2/1", world.operation("t2"))
        world.submit("b3/1", world.operation("t3"), valid_for=0)
        world.restart()

        assert world.chain.domain == b"local:a4d26868017c0ccf"
        assert world.status("b2/1") == "pending"
        world.go_to(7)
        assert [world.status(f"b{n}/1") for n in (1, 2, 3)] == ["confirmed", "confirmed", "expired"]
        assert world.chain.balances() == {"agent": 5, "external": -5}
        world.submit("b9/1", world.operation("t9", output="a lie"))
        assert refused(world, "b9/1", 8) == ("constraint_mismatch", (0,))

    def test_the_mempool_is_executed_in_its_own_slots_however_late(self, world: World) -> None:
        world.submit("b1/1", world.operation("t"))
        world.restart()
        world.go_to(1_000_000)
        assert (world.status("b1/1"), world.observe("b1/1").slot) == ("confirmed", 1)

    def test_the_genesis_is_kept_and_cannot_be_loosened(self, world: World, tmp_path: Path) -> None:
        def reopen(**options: Any) -> LocalChain:
            return LocalChain(tmp_path, clock_ms=lambda: world.now_ms, **options)

        world.chain.close()
        with pytest.raises(ChainMismatch, match="refuse proofs of mock"):
            reopen(accepted=PRODUCTION_NAMES | {"mock"})
        with pytest.raises(ChainMismatch, match="slots have 400 ms"):
            reopen(slot_ms=100)
        chain = reopen(genesis=bytes(8), accepted=frozenset())
        assert chain.domain == b"local:a4d26868017c0ccf"
        chain.close()

    def test_the_file_is_the_owners_alone(self, world: World, tmp_path: Path) -> None:
        assert (tmp_path / CHAIN_FILE).stat().st_mode & 0o777 == 0o600

    def test_a_damaged_file_is_named(self, world: World, tmp_path: Path) -> None:
        for number in range(20):
            world.submit(f"b{number}/1", *(world.operation(f"{number} {n}") for n in range(20)))
        world.go_to(10)
        world.chain.advance()
        world.chain.close()
        path = tmp_path / CHAIN_FILE
        data = bytearray(path.read_bytes())
        data[8192:] = b"\xa5" * (len(data) - 8192)
        path.write_bytes(data)

        def reopen_and_read() -> None:
            world.restart()
            world.chain.confirmed()

        with pytest.raises(ChainCorrupted, match=CHAIN_FILE):
            reopen_and_read()


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
