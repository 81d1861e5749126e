"""An asyncio loop whose time is virtual and whose threads are events: the same program runs the same way every time.

Time jumps to the next timer when nothing is ready, so an hour of waiting takes no time. What asyncio would give to a
thread runs on the loop instead: begun after one random delay and answered after another, so that the races between the
loop and its threads are explored, and a seed tells them again.

A simulated process owns the tasks and jobs that are started in its context (`OWNER`). When it dies, its tasks are
cancelled and its jobs neither run nor answer any more: that is `kill -9`, as far as anything outside can see.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar
from random import Random
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Owner(Protocol):
    """Who owns tasks and jobs; see `OWNER`."""

    dead: bool
    tasks: dict[asyncio.Task[Any], None]


#: The simulated process in whose context something runs; None for the world outside.
OWNER: ContextVar[Owner | None] = ContextVar("OWNER", default=None)

#: What is due within so short a time is due: sums of virtual times are rounded.
_RESOLUTION_S = 1e-9


class Deadlock(Exception):
    """Nothing is ready and nothing is scheduled: whoever waits would wait for ever."""


class _NoFiles(selectors.BaseSelector):
    """A selector without files: waiting only moves the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `delays` draws the delays of jobs; `at_step` calls something after so many of its steps."""

    def __init__(self, delays: Random, *, longest_delay_s: float) -> None:
        self._files = _NoFiles()
        super().__init__(self._files)
        self._clock_resolution = _RESOLUTION_S
        self._delays = delays
        self._longest_delay_s = longest_delay_s
        self._steps = 0
        self.in_job = False
        """Whether a job runs at this moment: it may block, as a thread may."""

        self._at_steps: list[tuple[int, Callable[[], None]]] = []
        self.set_task_factory(
            cast("Any", _make_task)
        )  # typeshed's protocol takes no keywords, asyncio passes them

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._files.now_s

    def after_steps(self, count: int, call: Callable[[], None]) -> None:
        """Calls `call` once the loop has made `count` more of its steps: between any two turns of callbacks."""
        self._at_steps.append((self._steps + count, call))

    def pass_time(self, seconds: float) -> None:
        """A job sleeps: time goes on, and nothing else does meanwhile."""
        self._files.now_s += seconds

    def delay_s(self) -> float:
        """A random delay of something that takes a thread, the disk or a local call."""
        return self._delays.random() * self._longest_delay_s

    def run_in_executor(  # type: ignore[override]  # the stub's variadic types cannot be restated for one override
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Runs `func` on the loop, later; a dead owner's job neither runs nor answers."""
        owner = OWNER.get()
        future: asyncio.Future[T] = self.create_future()

        def answer(result: T | None, error: BaseException | None) -> None:
            if future.done() or (owner is not None and owner.dead):
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(cast("T", result))

        def run() -> None:
            if owner is not None and owner.dead:
                return
            result, error = None, None
            self.in_job = True
            try:
                result = func(*args)
            except Exception as raised:  # handed to whoever awaits the job
                error = raised
            finally:
                self.in_job = False
            self.call_later(self.delay_s(), answer, result, error)

        self.call_later(self.delay_s(), run)
        return future

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]  # the loop's own step, which typeshed does not show
        self._steps += 1
        if self._at_steps:
            due = [call for step, call in self._at_steps if step <= self._steps]
            self._at_steps = [item for item in self._at_steps if item[0] > self._steps]
            for call in due:
                call()

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call, so nobody is to be woken."""


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Gives the task to the process in whose context it is made."""
    task = asyncio.Task(coroutine, loop=loop, name=name, context=context)
    owner = OWNER.get()
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
        if owner.dead:
            task.cancel()
    return task
