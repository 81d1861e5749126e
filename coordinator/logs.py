"""Logs: one JSON object a line on standard error, or a console form on a terminal.

Call with names, not sentences, so that the runbook's greps work: `event` first, then `operation_id`,
`batch_id`, `agent_id`, `reason` where they apply. Other libraries' records take the same form.
"""

import contextlib
import logging
import sys
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

#: Keys whose values never reach a log, however they got into an event.
SECRET_KEYS = frozenset(
    {
        "admin_token",
        "authorization",
        "cookie",
        "output",
        "password",
        "salt",
        "secret",
        "token",
        "token_hash",
        "witness",
    }
)
DROPPED = "[dropped]"
_MAX_NESTING = 6


def configure(level: str = "info", *, console: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging for the whole process.

    `console` None: the console form when `stream` (default: standard error) is a terminal, else JSON lines.
    """
    out = sys.stderr if stream is None else stream
    lines = cast("TextIO", _Lines(stream))
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer = _renderer(console=out.isatty() if console is None else console, colors=out.isatty())
    structlog.configure(
        processors=[*_SHARED, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.INFO), force=True)
    # Its access log costs a third of the throughput; its own handlers would print a second form.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    # httpx logs every request of the client library at info.
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _Lines:
    """Where lines go: a stream, or whatever standard error is at that moment. A line that cannot be written (a closed
    stream, a full disk) is dropped: it must not stop what it tells of.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a line, if that is possible."""
        try:
            return (sys.stderr if self._stream is None else self._stream).write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        """Flush, if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            (sys.stderr if self._stream is None else self._stream).flush()


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `component: name`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(component=name))


def drop_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that replaces every value under a secret key, at any depth."""
    return cast("EventDict", _without_secrets(event, _MAX_NESTING))


def _without_secrets(value: Any, nesting: int) -> Any:
    if isinstance(value, dict):
        if nesting == 0:
            return DROPPED
        return {
            key: DROPPED if str(key).lower() in SECRET_KEYS else _without_secrets(item, nesting - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return DROPPED if nesting == 0 else [_without_secrets(item, nesting - 1) for item in value]
    return value


def _event_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    head = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**head, **event}


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # order="deterministic" would sort; the head's order is kept for the eye.
    return msgspec.json.encode(event, enc_hook=_plain).decode()


def _plain(value: object) -> object:
    return repr(value)[:500]


def _hex_digests(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in event.items()}


def _renderer(*, console: bool, colors: bool) -> list[Processor]:
    if console:
        # The default formatter (rich) prints local variables, secrets among them.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, _event_first, _as_json]


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    drop_secrets,
    _hex_digests,
]
