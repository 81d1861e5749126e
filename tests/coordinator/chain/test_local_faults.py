"""What the local chain does when it is made to fail, and after its process was started again."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.chain.interface import ChainCorrupted, ChainMismatch, ChainUnavailable
from coordinator.chain.local import CHAIN_FILE, LocalChain
from coordinator.core.states import ConnectionStatus
from workers.stark.parameters import PRODUCTION_NAMES

World = Any
"""`World` of conftest.py, which an importlib test module cannot import."""


def refused(world: World, name: str, slot: int) -> tuple[str | None, tuple[int, ...]]:
    """Code and guilty places of a transaction that must be refused by that slot."""
    world.go_to(slot)
    observation = world.observe(name)
    assert observation.status == "refused"
    return observation.code, observation.indices


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
        assert world.chain.nullifiers() == {world.operation(f"t{slot}").nullifier for slot in (4, 6)}
        assert [len(batch.operations) for batch in world.chain.confirmed()] == [1, 1]

    @pytest.mark.parametrize(("depth", "promised"), [(5, False), (6, True)])
    def test_five_slots_are_the_promise(
        self, world_type: type, tmp_path: Path, depth: int, promised: bool
    ) -> None:
        slot = 1 + depth - 1  # the batch stands at slot 1, the deepest that is undone
        world: World = world_type(tmp_path, f"reorg@slot:{slot}:{depth}")
        parent = world.operation("parent")
        world.submit("b1/1", parent)
        world.go_to(slot)
        assert world.status("b1/1") == "reorged"
        assert world.chain.undone() == (["b1/1"] if promised else [])
        world.submit("b1/2", parent)
        world.submit("b2/1", world.operation("child", parent))
        world.go_to(slot + 1)
        assert world.status("b1/2") == "included"
        assert world.status("b2/1") == ("included" if promised else "refused")

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

    def test_a_delay_that_ends_where_a_slot_begins_lets_that_slot_include(
        self, world_type: type, tmp_path: Path
    ) -> None:
        world: World = world_type(tmp_path, "delay@t:0.4:0.8")
        world.submit("b1/1", world.operation("t"))
        world.go_to(9)
        assert world.observe("b1/1").slot == 3

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
