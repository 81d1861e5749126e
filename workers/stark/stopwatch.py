"""Seconds spent in named phases, by a clock that the caller gives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]


class Stopwatch:
    """``seconds`` has an entry for each of ``phases`` from the start. Phases do not nest."""

    def __init__(self, clock: Clock, phases: tuple[str, ...]) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = dict.fromkeys(phases, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self._clock()
        yield
        self.seconds[name] += self._clock() - started
