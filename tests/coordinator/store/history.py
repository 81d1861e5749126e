"""A log of a real core's events: agents, operations, batches, a slash; made by the core tests' world."""

from pathlib import Path
from random import Random

from coordinator.core.events import AdminActed, Event
from coordinator.core.states import RollbackPolicy
from coordinator.store.log import EventLog
from tests.coordinator.core.chaos import Chaos
from tests.coordinator.core.world import START_MS, World


def events_of_a_world(steps: int, *, seed: int = 7) -> list[Event]:
    """What a random world decided, with an operator's act now and then."""
    random = Random(seed)
    chaos = Chaos(World(workers=["w1", "w2"], check=False), RollbackPolicy.CASCADE)
    events: list[Event] = []
    for step in range(steps):
        chaos.step(random)
        if not step % 10:
            events.append(AdminActed(START_MS, "operator", f"act {step}", "{}", "{}"))
        events += chaos.world.events
        chaos.world.events = []
    return events


def write(folder: Path, events: list[Event]) -> None:
    """Writes events to the folder's log, in groups of ten."""
    log = EventLog.open(folder)
    for start in range(0, len(events), 10):
        log.append(events[start : start + 10]).result(10)
    log.close()
