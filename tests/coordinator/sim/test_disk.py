"""What a killed process leaves on the disk: all that was acknowledged, and of the rest a beginning."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from coordinator.core.events import Event, StakeDeposited
from coordinator.sim.disk import SimulatedLog, StoreFile
from coordinator.sim.loop import VirtualLoop
from coordinator.store.errors import LogUnwritable
from coordinator.store.log import EventLog


def event(number: int) -> StakeDeposited:
    return StakeDeposited(number, "agent", number + 1)


class Disk:
    """A log with a loop, and what it told."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.loop = VirtualLoop(Random(seed), longest_delay_s=0.02)
        self.heard: list[Event] = []
        self.durable: list[Event] = []
        self.log = SimulatedLog.begin(
            folder,
            log_id=bytes(16),
            loop=self.loop,
            heard=self._extend(self.heard),
            durable=self._extend(self.durable),
        )

    def _extend(self, known: list[Event]) -> "type":
        def extend(events: Sequence[Event]) -> None:
            known.extend(events)

        return extend  # type: ignore[return-value]  # a function, called as one

    def append(self, number: int) -> "asyncio.Future[int]":
        return asyncio.wrap_future(self.log.append([event(number)]), loop=self.loop)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "one", 3)
    yield made
    made.log.close()
    made.loop.close()


def found_in(folder: Path) -> list[Event]:
    log = EventLog.open(folder)
    found = [stored.event for stored in log.replay()]
    log.close()
    return found


def test_a_write_is_heard_at_once_and_durable_later(disk: Disk) -> None:
    written = disk.append(0)
    assert (disk.heard, disk.durable) == ([event(0)], [])
    assert disk.loop.run_until_complete(written) == 1
    assert disk.durable == [event(0)]


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_leaves_what_it_was_told_is_durable(seed: int, torn: bool, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "one", seed)
    disk.loop.run_until_complete(disk.append(0))
    for number in range(1, 4):
        disk.append(number)
    was_torn = disk.log.die(tmp_path / "two", Random(seed), torn=torn)
    disk.loop.close()
    found = found_in(tmp_path / "two")
    assert found == disk.durable == disk.heard[: len(found)]
    assert event(0) in found
    assert not (was_torn and len(found) == 4), "a torn write is not there"


def test_a_torn_write_does_happen(tmp_path: Path) -> None:
    torn = 0
    for seed in range(8):
        disk = Disk(tmp_path / f"from-{seed}", seed)
        disk.append(0)
        torn += disk.log.die(tmp_path / f"to-{seed}", Random(seed), torn=True)
        disk.loop.close()
        assert found_in(tmp_path / f"to-{seed}") == disk.durable
    assert torn


def test_a_full_disk_refuses_until_there_is_room(disk: Disk) -> None:
    disk.loop.run_until_complete(disk.append(0))
    disk.log.fill(StoreFile.LOG)
    refused = [disk.append(number) for number in range(1, 200)]
    with pytest.raises(LogUnwritable, match="full"):
        disk.loop.run_until_complete(asyncio.gather(*refused))
    kept = len(disk.durable)
    disk.log.free(StoreFile.LOG)
    disk.log.reopen()
    disk.loop.run_until_complete(disk.append(kept))
    assert [stored.event for stored in disk.log.replay()] == disk.durable
