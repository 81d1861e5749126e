"""How many workers there should be, and which go first: pure functions, composed by the pool."""

from collections.abc import Collection, Sequence

from workers.messages import ScaleLimit, WorkerState

#: The order in which workers are let go: those that cost least to lose first.
_GOING_ORDER = (WorkerState.WAITING, WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY)


def target(desired: int, *, slots: int, memory_workers: int) -> tuple[int, ScaleLimit | None]:
    """min(desired, slots, memory), and what limits it (None: nothing). One worker always fits the memory."""
    allowed = {ScaleLimit.SLOTS: slots, ScaleLimit.MEMORY: max(1, memory_workers)}
    limit = min(allowed, key=lambda name: allowed[name])
    return (desired, None) if desired <= allowed[limit] else (allowed[limit], limit)


def new_numbers(taken: Collection[int], count: int) -> list[int]:
    """The lowest free worker numbers, from 1: ids stay few, so that they can be metric labels."""
    numbers: list[int] = []
    number = 0
    while len(numbers) < count:
        number += 1
        if number not in taken:
            numbers.append(number)
    return numbers


def who_goes(workers: Sequence[tuple[int, WorkerState]], count: int) -> list[int]:
    """The `count` of (number, state) to let go: dead, starting, idle, and last busy ones; newest first."""
    ordered = sorted(workers, key=lambda worker: (_GOING_ORDER.index(worker[1]), -worker[0]))
    return [number for number, _ in ordered[:count]]
