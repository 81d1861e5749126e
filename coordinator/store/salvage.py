"""What can still be read of a damaged log: every event whose own hash fits, whatever became of the others.

This is not enough to make a state from, since what lies between is gone. It is enough to know names again: which
agent had which key, which operation a nullifier belonged to.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from coordinator.core.events import Event, decode_event
from coordinator.store.archive import Archive
from coordinator.store.database import FILE_ERRORS
from coordinator.store.errors import LogCorrupted
from coordinator.store.reader import Row, check_link

_COLUMNS = "seq, at_ms, kind, body, hash"
_PAGE_EVENTS = 500


def salvage(folder: Path, log_file: str) -> Iterator[tuple[int, Event]]:
    """(number, event) of all that can be read in a folder's archive and log, in order; never raises."""
    for path in (*(segment.path for segment in Archive(folder).segments()), folder / log_file):
        yield from _of_file(path)


def _of_file(path: Path) -> Iterator[tuple[int, Event]]:
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            first, last = _bounds(connection)
            before = first - 1, _base_hash(connection)
            for row in _rows(connection, first, last):
                seq, _, _, body, digest = row
                if before[0] == seq - 1 and _fits(before[1], row):
                    event = _decoded(body)
                    if event is not None:
                        yield seq, event
                before = (seq, digest)
    except FILE_ERRORS:
        return


def _bounds(connection: sqlite3.Connection) -> tuple[int, int]:
    (first,) = connection.execute("SELECT min(seq) FROM log").fetchone()
    (last,) = connection.execute("SELECT max(seq) FROM log").fetchone()
    return first or 1, last or 0


def _base_hash(connection: sqlite3.Connection) -> bytes:
    try:
        row = connection.execute("SELECT base_hash FROM ends").fetchone()
    except FILE_ERRORS:
        return b""
    return row[0] if row is not None and isinstance(row[0], bytes) else b""


def _rows(connection: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    for start in range(first, last + 1, _PAGE_EVENTS):
        end = min(start + _PAGE_EVENTS - 1, last)
        try:
            yield from connection.execute(
                f"SELECT {_COLUMNS} FROM log WHERE seq BETWEEN ? AND ? ORDER BY seq", (start, end)
            ).fetchall()
        except FILE_ERRORS:
            yield from _one_by_one(connection, start, end)


def _one_by_one(connection: sqlite3.Connection, start: int, end: int) -> Iterator[Row]:
    for seq in range(start, end + 1):
        try:
            row = connection.execute(f"SELECT {_COLUMNS} FROM log WHERE seq = ?", (seq,)).fetchone()
        except FILE_ERRORS:
            continue
        if row is not None:
            yield row


def _decoded(body: bytes) -> Event | None:
    try:
        return decode_event(body)
    except msgspec.DecodeError:
        return None  # of another version


def _fits(before: bytes, row: Row) -> bool:
    try:
        check_link(before, row[0], row)
    except LogCorrupted:
        return False
    return True
