"""The history of a run: a line of JSON for everything that happened, and the digest over all of them."""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

_ENCODER = msgspec.json.Encoder(order="deterministic")
#: Lines that a failure shows.
_LAST_LINES = 30


class History:
    """Lines go to `out`, where there is one, and into the digest."""

    def __init__(self, now_ms: Callable[[], int], out: TextIO | None = None) -> None:
        self._now_ms = now_ms
        self._out = out
        self._digest = hashlib.sha256()
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)

    def add(self, what: str, **facts: Any) -> None:
        """Something happened now. Facts are what msgspec encodes; bytes become base64."""
        line = _ENCODER.encode({"ms": self._now_ms(), "what": what, **facts})
        self._digest.update(line)
        self._digest.update(b"\n")
        self._last.append(line)
        if self._out is not None:
            self._out.write(line.decode() + "\n")

    @property
    def last(self) -> list[str]:
        """The latest lines."""
        return [line.decode() for line in self._last]

    @property
    def digest(self) -> str:
        """SHA-256 over the lines, in hex."""
        return self._digest.hexdigest()
