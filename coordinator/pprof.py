"""Profiles in pprof's format (github.com/google/pprof, proto/profile.proto), as `go tool pprof` reads it.

Encoded here: of protobuf it takes variable-length integers and length-prefixed bytes, and nothing else.
"""

import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from workers.sampling import Frame, Stack

#: py-spy's raw frames: `function (file:line)`, the line missing where it is not known.
_RAW_FRAME: Final = re.compile(r"(?P<function>.*?) \((?P<file>[^()]*?)(?::(?P<line>[0-9]+))?\)\Z")
_UNSEEN: Final = Frame("(unknown)", "", 0)

# Field numbers of profile.proto.
_SAMPLE_TYPE, _SAMPLE, _LOCATION, _FUNCTION, _STRINGS = 1, 2, 4, 5, 6
_TIME_NANOS, _DURATION_NANOS, _PERIOD_TYPE, _PERIOD, _COMMENT = 9, 10, 11, 12, 13


def parse_raw(text: str) -> dict[Stack, int]:
    """The stacks of py-spy's raw format: a line each, `outermost;…;innermost count`.

    Lines of another form are left out.
    """
    stacks: dict[Stack, int] = {}
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames and count.isdecimal():
            stack = tuple(map(_parse_frame, frames.split(";")))
            stacks[stack] = stacks.get(stack, 0) + int(count)
    return stacks


def _parse_frame(text: str) -> Frame:
    match = _RAW_FRAME.match(text)
    if match is None:
        return Frame(text or _UNSEEN.function, "", 0)
    return Frame(match["function"], match["file"], int(match["line"] or 0))


def encode(
    stacks: Mapping[Stack, int],
    *,
    started_ns: int,
    duration_ns: int,
    period_ns: int,
    clock: str,
    comments: Sequence[str],
) -> bytes:
    """The gzipped profile: of each stack the samples and the nanoseconds they stand for.

    Args:
        stacks: how often each stack was met, outermost frame first.
        started_ns: nanoseconds since the epoch.
        duration_ns: how long was sampled.
        period_ns: between two samples.
        clock: what the nanoseconds are of: `cpu` or `wall`.
        comments: lines that `go tool pprof -comments` shows.
    """
    tables = _Tables()
    samples = [_sample(tables, stack, count, period_ns) for stack, count in stacks.items()]
    value_types = [_value_type(tables, "samples", "count"), _value_type(tables, clock, "nanoseconds")]
    comment_ids = [tables.string(comment) for comment in comments]
    body = b"".join(
        (
            *(_bytes(_SAMPLE_TYPE, each) for each in value_types),
            *(_bytes(_SAMPLE, each) for each in samples),
            *(_bytes(_LOCATION, each) for each in tables.locations()),
            *(_bytes(_FUNCTION, each) for each in tables.functions()),
            *(_bytes(_STRINGS, each.encode()) for each in tables.strings),
            _number(_TIME_NANOS, started_ns),
            _number(_DURATION_NANOS, duration_ns),
            _bytes(_PERIOD_TYPE, value_types[1]),
            _number(_PERIOD, period_ns),
            _bytes(_COMMENT, b"".join(map(_varint, comment_ids))),
        )
    )
    return gzip.compress(body, mtime=0)


@dataclass
class _Tables:
    """The profile's tables; ids count from 1, places in the string table from 0, where the empty string stands."""

    strings: dict[str, int] = field(default_factory=lambda: {"": 0})
    _functions: dict[tuple[str, str], int] = field(default_factory=dict)
    _locations: dict[Frame, int] = field(default_factory=dict)

    def string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def location(self, frame: Frame) -> int:
        self.string(frame.function)
        self.string(frame.file)
        function = (frame.function, frame.file)
        self._functions.setdefault(function, len(self._functions) + 1)
        return self._locations.setdefault(frame, len(self._locations) + 1)

    def locations(self) -> Iterable[bytes]:
        for frame, at in self._locations.items():
            line = _number(1, self._functions[frame.function, frame.file]) + _number(2, frame.line)
            yield _number(1, at) + _bytes(4, line)

    def functions(self) -> Iterable[bytes]:
        for (function, file), at in self._functions.items():
            name = self.strings[function]
            yield _number(1, at) + _number(2, name) + _number(3, name) + _number(4, self.strings[file])


def _sample(tables: _Tables, stack: Stack, count: int, period_ns: int) -> bytes:
    innermost_first = b"".join(_varint(tables.location(frame)) for frame in reversed(stack))
    return _bytes(1, innermost_first) + _bytes(2, _varint(count) + _varint(count * period_ns))


def _value_type(tables: _Tables, kind: str, unit: str) -> bytes:
    return _number(1, tables.string(kind)) + _number(2, tables.string(unit))


def _varint(value: int) -> bytes:
    assert value >= 0, "only what is not negative is written"
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field_number: int, value: int) -> bytes:
    return _varint(field_number << 3) + _varint(value)


def _bytes(field_number: int, value: bytes) -> bytes:
    return _varint(field_number << 3 | 2) + _varint(len(value)) + value
