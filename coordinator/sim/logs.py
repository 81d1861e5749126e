"""The coordinator's own log lines in a run: silent but for errors, which a run takes for what they are, defects."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR

import structlog
from structlog.types import EventDict, WrappedLogger

#: Errors that tell of the world, not of the program.
_EXPECTED = frozenset({"finality_violated"})


@contextmanager
def errors_to(hear: Callable[[str, BaseException | None], None]) -> Iterator[None]:
    """While this lasts, `hear` is told of every unexpected error line, with its exception where it has one."""

    def processor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if event.get("event") not in _EXPECTED:
            info = event.pop("exc_info", None)
            cause = info if isinstance(info, BaseException) else sys.exc_info()[1] if info else None
            facts = ", ".join(f"{key}={value}" for key, value in event.items() if key != "event")
            hear(f"{event.get('event')} ({facts}){'' if cause is None else f': {cause!r}'}", cause)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[processor],
        wrapper_class=structlog.make_filtering_bound_logger(ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
