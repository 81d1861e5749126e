"""Reading the log with its hash chain checked: no event is given out that is not the one that was written."""

import sqlite3
import struct
from collections.abc import Iterator
from typing import NamedTuple

from coordinator.store.database import FILE_ERRORS
from coordinator.store.errors import LogCorrupted
from coordinator.store.hashing import Head, link


class Ends(NamedTuple):
    """The two ends of a log: the first event comes after `base`, the last one is `head`."""

    log_id: bytes
    base: Head
    head: Head


def read_ends(connection: sqlite3.Connection) -> Ends:
    """The ends as the file says them.

    Raises:
        LogCorrupted: they are not there.
    """
    try:
        row = connection.execute(
            "SELECT log_id, base_seq, base_hash, head_seq, head_hash FROM ends"
        ).fetchone()
    except FILE_ERRORS as error:
        raise LogCorrupted(0, f"the log's head cannot be read: {error}") from error
    if row is None or [type(value) for value in row] != [bytes, int, bytes, int, bytes]:
        raise LogCorrupted(0, "the log's head is missing or damaged")
    log_id, base_seq, base_hash, head_seq, head_hash = row
    return Ends(log_id, Head(base_seq, base_hash), Head(head_seq, head_hash))


def hash_at(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """The stored hash of event `seq`, or None where there is no such event; the base counts as one.

    Raises:
        LogCorrupted: the file cannot be read there.
    """
    base = read_ends(connection).base
    if seq == base.seq:
        return base.hash
    try:
        row = connection.execute("SELECT hash FROM log WHERE seq = ?", (seq,)).fetchone()
    except FILE_ERRORS as error:
        raise LogCorrupted(seq, f"the file cannot be read: {error}") from error
    if row is None:
        return None
    if not isinstance(row[0], bytes):
        raise LogCorrupted(seq, "a column holds a value of another type")
    return row[0]


def verified_rows(
    connection: sqlite3.Connection, *, after: int, reached: Head
) -> Iterator[tuple[int, bytes]]:
    """(seq, body) of every event after number `after`, each checked against the one before it.

    The connection must see one instant. `reached` is a head that the log is known to have had. Events up to
    `after` are taken on trust; where it lies outside the log there is nothing to check and nothing to give.

    Raises:
        LogCorrupted: at the first event that cannot be trusted.
    """
    _, base, head = read_ends(connection)
    if after > max(head.seq, reached.seq):
        return
    seq = max(after, base.seq)
    digest = hash_at(connection, seq)
    if digest is None:
        raise LogCorrupted(seq, f"the event is missing; the log's head is {head.seq}")
    for found, at_ms, kind, body, stored in _rows(connection, seq):
        if found != seq + 1:
            raise LogCorrupted(seq + 1, f"the event is missing; the next one is {found}")
        seq = found
        try:
            digest = link(digest, seq, at_ms, kind, body)
        except (TypeError, AttributeError, struct.error) as error:
            raise LogCorrupted(seq, "a column holds a value of another type") from error
        if digest != stored:
            raise LogCorrupted(seq, "its hash does not match")
        if seq == reached.seq and digest != reached.hash:
            raise LogCorrupted(seq, "it is not the event that was acknowledged under this number")
        yield seq, body
    if reached.seq > seq:
        raise LogCorrupted(seq + 1, f"acknowledged events up to {reached.seq} are missing at the end")
    if (seq, digest) != head:
        raise LogCorrupted(seq + 1, f"the log ends at event {seq}, its head is {head.seq}")


def _rows(connection: sqlite3.Connection, seq: int) -> Iterator[tuple[int, int, str, bytes, bytes]]:
    """The rows after `seq`. What SQLite finds wrong is told with the number of the row it was about to give."""
    query = "SELECT seq, at_ms, kind, body, hash FROM log WHERE seq > ? ORDER BY seq"
    try:
        for row in connection.execute(query, (seq,)):
            seq += 1
            yield row
    except FILE_ERRORS as error:
        raise LogCorrupted(seq + 1, f"the file cannot be read: {error}") from error
