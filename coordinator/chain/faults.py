"""Faults on demand, written as `KIND@WHEN:…`; each part of the system reads its own.

    reject@op:TASK                    the chain refuses every batch that holds this task's operation
    lie@op:TASK                       the agent commits to another output than the task asks for
    kill-worker@batch:N               the worker that proves the N-th batch (from 1) is killed
    delay@t:SECONDS:DURATION          inclusion waits
    drop@t:SECONDS:DURATION           transactions submitted then vanish without a word, and expire
    outage@t:SECONDS:DURATION         the chain cannot be reached
    reorg@slot:N:DEPTH                at slot N the last DEPTH slots are undone, N among them

SECONDS count from the chain's start in this process, slots from its genesis.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_LONGEST_S = 1e6


class FaultError(ValueError):
    """A fault that cannot be read. `spec` is its text."""

    code = "invalid_fault"

    def __init__(self, spec: str, detail: str) -> None:
        super().__init__(f"{spec!r} is no fault: {detail}")
        self.spec = spec
        self.detail = detail


class WindowKind(StrEnum):
    """Faults that last for a time."""

    DELAY = "delay"
    DROP = "drop"
    OUTAGE = "outage"


@dataclass(frozen=True, kw_only=True)
class Window:
    """A fault from `start_ms` (inclusive) to `end_ms` (exclusive) after the chain's start."""

    kind: WindowKind
    start_ms: int
    end_ms: int

    def covers(self, elapsed_ms: int) -> bool:
        """Whether the fault is in force."""
        return self.start_ms <= elapsed_ms < self.end_ms


@dataclass(frozen=True, kw_only=True, order=True)
class Reorg:
    """At `slot`, the last `depth` slots are undone."""

    slot: int
    depth: int


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """All the faults of a run."""

    rejected_tasks: frozenset[str] = frozenset()
    lied_tasks: frozenset[str] = frozenset()
    kill_worker_batches: frozenset[int] = frozenset()
    windows: tuple[Window, ...] = ()
    reorgs: tuple[Reorg, ...] = ()

    @classmethod
    def parse(cls, specs: Iterable[str]) -> "FaultPlan":
        """The plan of faults in text.

        Raises:
            FaultError: the first that cannot be read.
        """
        rejected, lied, batches = set[str](), set[str](), set[int]()
        windows, reorgs = list[Window](), list[Reorg]()
        for spec in specs:
            head, colon, rest = spec.partition(":")
            match head if colon else "":
                case "reject@op":
                    rejected.add(_task(spec, rest))
                case "lie@op":
                    lied.add(_task(spec, rest))
                case "kill-worker@batch":
                    batches.add(_positive(spec, "N", rest))
                case "delay@t" | "drop@t" | "outage@t":
                    windows.append(_window(spec, WindowKind(head.removesuffix("@t")), rest))
                case "reorg@slot":
                    slot, depth = _two(spec, "N:DEPTH", rest)
                    reorgs.append(
                        Reorg(slot=_positive(spec, "N", slot), depth=_positive(spec, "DEPTH", depth))
                    )
                case _:
                    raise FaultError(spec, f"use {', '.join(FORMS)}")
        return cls(
            rejected_tasks=frozenset(rejected),
            lied_tasks=frozenset(lied),
            kill_worker_batches=frozenset(batches),
            windows=tuple(windows),
            reorgs=tuple(sorted(reorgs)),
        )

    def covering(self, kind: WindowKind, elapsed_ms: int) -> Window | None:
        """The fault of that kind that is in force, the one that lasts longest."""
        windows = [window for window in self.windows if window.kind is kind and window.covers(elapsed_ms)]
        return max(windows, key=lambda window: window.end_ms, default=None)


NO_FAULTS = FaultPlan()

FORMS = (
    "reject@op:TASK",
    "lie@op:TASK",
    "kill-worker@batch:N",
    "delay@t:SECONDS:DURATION",
    "drop@t:SECONDS:DURATION",
    "outage@t:SECONDS:DURATION",
    "reorg@slot:N:DEPTH",
)


def _task(spec: str, text: str) -> str:
    if not text:
        raise FaultError(spec, "the task's id is missing")
    return text


def _two(spec: str, form: str, text: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not colon:
        raise FaultError(spec, f"{form} is needed after the first colon")
    return first, second


def _positive(spec: str, name: str, text: str) -> int:
    # isdecimal alone would take other scripts' digits
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise FaultError(spec, f"{name} is a whole number from 1, not {text!r}")
    return int(text)


def _window(spec: str, kind: WindowKind, text: str) -> Window:
    start, duration = _two(spec, "SECONDS:DURATION", text)
    start_s, duration_s = _seconds(spec, "SECONDS", start), _seconds(spec, "DURATION", duration)
    if duration_s == 0:
        raise FaultError(spec, "DURATION is more than 0")
    start_ms = round(start_s * 1000)
    return Window(kind=kind, start_ms=start_ms, end_ms=start_ms + max(1, round(duration_s * 1000)))


def _seconds(spec: str, name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise FaultError(spec, f"{name} is a number of seconds, not {text!r}") from None
    if not 0 <= seconds <= _LONGEST_S:  # also false for what is not a number
        raise FaultError(spec, f"{name} is between 0 and {_LONGEST_S:.0f}, not {text}")
    return seconds
