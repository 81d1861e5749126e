"""What a run, or many, made happen: every transition, denial, reason and event, and what never did."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import get_args

from coordinator.core import events as ev
from coordinator.core.events import Event
from coordinator.core.records import Operation
from coordinator.core.states import (
    TRANSITIONS,
    BreakerState,
    ConnectionStatus,
    Denial,
    FailureCode,
    Latch,
    ReturnReason,
    RevertReason,
    RollbackReason,
)
from coordinator.sim.faults import Fault


class Topic(StrEnum):
    """What is counted."""

    FAULT = "fault"
    TRANSITION = "transition"
    DENIAL = "denial"
    ROLLBACK = "rollback"
    FAILURE = "failure"
    RETURN = "return"
    REVERT = "revert"
    BREAKER = "breaker"
    LATCH = "latch"
    CONNECTION = "connection"
    EVENT = "event"
    REFUSAL = "refusal"


def _all_transitions() -> list[str]:
    return [f"{before} → {after}" for before, afters in TRANSITIONS.items() for after in sorted(afters)]


#: All that can occur, by topic; refusals are listed as they come.
POSSIBLE: Mapping[Topic, Sequence[str]] = {
    Topic.FAULT: list(Fault),
    Topic.TRANSITION: _all_transitions(),
    Topic.DENIAL: list(Denial),
    Topic.ROLLBACK: list(RollbackReason),
    Topic.FAILURE: list(FailureCode),
    Topic.RETURN: list(ReturnReason),
    Topic.REVERT: list(RevertReason),
    Topic.BREAKER: list(BreakerState),
    Topic.LATCH: list(Latch),
    Topic.CONNECTION: list(ConnectionStatus),
    Topic.EVENT: [kind.__name__ for kind in get_args(Event)],
}

#: What no run of the simulator can make happen, and why.
IMPOSSIBLE: Mapping[tuple[Topic, str], str] = {
    (
        Topic.ROLLBACK,
        RollbackReason.STAKE_INSUFFICIENT,
    ): "a bond is locked at admission, so none can lack it later",
    (Topic.EVENT, "AgentTokenIssued"): "the agents of a run do not lose their tokens",
}


@dataclass
class Coverage:
    """How often each thing occurred."""

    counts: dict[Topic, Counter[str]] = field(default_factory=lambda: {topic: Counter() for topic in Topic})

    def add(self, topic: Topic, name: str, count: int = 1) -> None:
        """It occurred."""
        self.counts[topic][name] += count

    def merge(self, other: "Coverage") -> None:
        """Counts another run in."""
        for topic, counter in other.counts.items():
            self.counts[topic].update(counter)

    def event(self, event: Event) -> None:
        """Counts what an event tells."""
        self.add(Topic.EVENT, type(event).__name__)
        match event:
            case ev.OperationsAdmitted():
                for one in event.operations:
                    if one.decision is not None and one.decision.denial is not None:
                        self.add(Topic.DENIAL, one.decision.denial)
            case ev.OperationsRolledBack():
                for reason in event.reasons:
                    self.add(Topic.ROLLBACK, reason)
            case ev.OperationFailed():
                self.add(Topic.FAILURE, event.code)
            case ev.BatchReturned():
                self.add(Topic.RETURN, event.reason)
            case ev.BatchReverted():
                self.add(Topic.REVERT, event.reason)
            case ev.BreakerChanged():
                self.add(Topic.BREAKER, event.state)
            case ev.LatchChanged(latch=latch) if latch is not None:
                self.add(Topic.LATCH, latch)
            case ev.ChainConnectionChanged():
                self.add(Topic.CONNECTION, event.status)

    def ended(self, operation: Operation) -> None:
        """Counts the moves of an operation that has ended."""
        for before, after in pairwise(entry[1] for entry in operation.timeline):
            self.add(Topic.TRANSITION, f"{before} → {after}")

    def missing(self) -> list[tuple[Topic, str]]:
        """What could have occurred and did not."""
        return [
            (topic, name)
            for topic, names in POSSIBLE.items()
            for name in names
            if not self.counts[topic][name] and (topic, name) not in IMPOSSIBLE
        ]

    def lines(self, *, only_seen: bool = False) -> Iterable[str]:
        """A report: one topic a paragraph; with `only_seen` without what did not occur."""
        for topic in Topic:
            counter = self.counts[topic]
            known = POSSIBLE.get(topic, ())
            names = [*known, *sorted(counter.keys() - set(known))]
            lines = [self._line(topic, name) for name in names if counter[name] or not only_seen]
            if lines:
                yield f"{topic}:"
                yield from lines

    def _line(self, topic: Topic, name: str) -> str:
        note = IMPOSSIBLE.get((topic, name))
        return f"  {self.counts[topic][name]:>9,}  {name}" + (
            "" if note is None else f"   (cannot occur: {note})"
        )
