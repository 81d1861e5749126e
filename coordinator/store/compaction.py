"""Compaction: the oldest events leave the log's file for the archive. Pruning: the archive's oldest ones go for good.

    1  the events are copied, each checked, into a new file in `archive/`
    2  it is made durable and gets its name: from here on the events are there twice
    3  the log's file lets go of them, a few thousand at a time, so that the writer hardly waits

A crash between two steps leaves what the next compaction finishes. Whoever calls this has a snapshot of the state at
the last event that goes, or after it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from coordinator.store.archive import Archive, Segment
from coordinator.store.database import Database
from coordinator.store.errors import LogCorrupted
from coordinator.store.hashing import Head
from coordinator.store.opening import log_migrations
from coordinator.store.reader import LogReader, Row

_LET_GO_EVENTS = 2_000
_COPY_EVENTS = 1_000


def compact(log: Database, reader: LogReader, archive: Archive, *, up_to: int) -> Segment | None:
    """Archives the events up to number `up_to`; None where there was nothing to archive. Blocks.

    Raises:
        LogCorrupted: an event on its way is not the one that was written; the log's file keeps it.
        sqlite3.Error, OSError: the disk refuses; the log's file keeps what was not archived.
    """
    ends = reader.ends()
    archived = max((one.head_seq for one in archive.segments()), default=ends.first.seq)
    start = max(archived, ends.base.seq)
    segment = None
    if up_to > start:
        head_seq = min(up_to, ends.head.seq)
        segment = _write_segment(reader, archive, ends.log_id, base_seq=start, head=ends.head, up_to=head_seq)
        archived = segment.head_seq
    _let_go(log, reader, up_to=archived)
    return segment


def _write_segment(
    reader: LogReader, archive: Archive, log_id: bytes, *, base_seq: int, head: Head, up_to: int
) -> Segment:
    base_hash = reader.hash_at(base_seq)
    if base_hash is None:
        raise LogCorrupted(base_seq, "the event is missing")
    part = archive.unfinished()
    with closing(sqlite3.connect(part, isolation_level=None)) as connection:
        # One file that nobody else sees, made durable as a whole when it is complete.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for migrate in log_migrations(log_id, Head(base_seq, base_hash)):
            migrate(connection)
        rows = islice(reader.rows(base_seq, reached=head), up_to - base_seq)
        last_hash = _copy(rows, connection)
        connection.execute("UPDATE ends SET head_seq = ?, head_hash = ?", (up_to, last_hash))
        connection.execute("COMMIT")
    return archive.add(part, base_seq=base_seq, head_seq=up_to)


def _copy(rows: Iterator[Row], connection: sqlite3.Connection) -> bytes:
    """Copies rows; the hash of the last one."""
    last_hash = b""
    while page := list(islice(rows, _COPY_EVENTS)):
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", page)
        last_hash = page[-1][4]
    return last_hash


def _let_go(log: Database, reader: LogReader, *, up_to: int) -> None:
    """Takes archived events out of the log's file, oldest first."""
    base_seq = reader.ends().base.seq
    while base_seq < up_to:
        base_seq = min(base_seq + _LET_GO_EVENTS, up_to)
        digest = reader.hash_at(base_seq)
        assert digest is not None, "an archived event is still in the log's file"
        with log.write() as connection:
            connection.execute("DELETE FROM log WHERE seq <= ?", (base_seq,))
            connection.execute("UPDATE ends SET base_seq = ?, base_hash = ?", (base_seq, digest))


def prune(log: Database, reader: LogReader, archive: Archive, *, up_to: int) -> list[Segment]:
    """Deletes the archive's segments that end at `up_to` or before; they cannot be had back. Blocks.

    Raises:
        LogCorrupted: the log's ends cannot be read.
        sqlite3.Error, OSError: the disk refuses.
    """
    ends = reader.ends()
    doomed = [one for one in archive.segments() if one.head_seq <= min(up_to, ends.base.seq)]
    forgotten = max((one.head_seq for one in doomed), default=0)
    if forgotten > ends.first.seq:
        digest = reader.hash_at(forgotten)
        assert digest is not None, "the last event of a segment has a hash"
        with log.write() as connection:
            connection.execute("UPDATE ends SET first_seq = ?, first_hash = ?", (forgotten, digest))
    archive.remove(doomed)
    return doomed
