"""Progress of a replay: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from coordinator.replay.board import Board, Outcome
from coordinator.replay.runner import ReplayProgress

LINE_INTERVAL_S = 5.0


@contextmanager
def progress_for(console: Console) -> Iterator[ReplayProgress]:
    """The progress display that suits the console."""
    if not console.is_terminal:
        yield LineProgress(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield BarProgress(bars)


class BarProgress:
    """One bar, for the run that is on: how many of its tasks have ended."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._title = ""
        self._bar: TaskID | None = None

    def phase(self, title: str, note: str, *, total: int) -> None:
        """A run is at this point; the first point of another run takes the bar over."""
        if self._bar is None or title != self._title:
            if self._bar is not None:
                self._bars.remove_task(self._bar)
            self._title, self._bar = title, self._bars.add_task(title, total=total, note=note)
        self._bars.update(self._bar, note=note)

    def tasks(self, board: Board) -> None:
        """The tasks have moved on."""
        assert self._bar is not None, "a phase comes before its tasks"
        self._bars.update(self._bar, completed=_ended(board), note=_note(board))


class LineProgress:
    """A line for every phase, and one every few seconds while tasks run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._last_s = 0.0

    def phase(self, title: str, note: str, *, total: int) -> None:
        """A run is at this point."""
        self._title = title
        self._last_s = time.monotonic()
        self._console.print(f"{title}: {note}", highlight=False, soft_wrap=True)

    def tasks(self, board: Board) -> None:
        """The tasks have moved on."""
        now_s = time.monotonic()
        if now_s - self._last_s >= LINE_INTERVAL_S:
            self._last_s = now_s
            count = f"{_ended(board)} of {len(board.records)} tasks ended"
            self._console.print(f"{self._title}: {count}, {_note(board)}", highlight=False, soft_wrap=True)


def _ended(board: Board) -> int:
    return sum(record.outcome is not None for record in board.records.values())


def _note(board: Board) -> str:
    flying = sum(r.outcome is None and r.operation_id is not None for r in board.records.values())
    lost = (
        f"{count} {outcome.value.replace('_', ' ')}"
        for outcome in (Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.SKIPPED)
        if (count := board.count(outcome))
    )
    return ", ".join((f"{flying} on their way to confirmation", *lost))
