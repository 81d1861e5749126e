"""Reading the log with its hash chain checked: no event is given out that is not the one that was written.

Events lie in two places: the oldest ones in the archive's segments, the others in the log's file. Read page by
page, each in a transaction of its own, so that a long reading keeps neither the writer's WAL nor a compaction
from going on.
"""

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from coordinator.store.archive import Archive
from coordinator.store.database import FILE_ERRORS
from coordinator.store.errors import LogCorrupted
from coordinator.store.hashing import Head, genesis, link

Row = tuple[int, int, str, bytes, bytes]
"""(seq, at_ms, kind, body, hash)."""

Connect = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""A connection of its own to the log's file, which sees one instant."""

_PAGE_EVENTS = 1_000
_COLUMNS = "seq, at_ms, kind, body, hash"

#: Kinds that are looked up by kind: the index of the log's file holds these only, so that it costs the writer
#: nothing for the many others. What operators did, what was slashed, what moves lamports or tasks on chain.
INDEXED_KINDS = (
    "AdminActed",
    "AgentRegistered",
    "OperationFailed",
    "StakeDeposited",
    "StakeWithdrawn",
    "StateRebuilt",
    "TaskRegistered",
)
#: The index is used only by a query that has this very condition.
OF_INDEXED_KIND = f"kind IN ({', '.join(repr(kind) for kind in INDEXED_KINDS)})"


class Ends(NamedTuple):
    """The ends of a log: kept from after `first` on, in the log's own file from after `base` on, up to `head`."""

    log_id: bytes
    first: Head
    base: Head
    head: Head

    @property
    def pruned(self) -> bool:
        """Whether events before `first` were deleted, so that the log by itself no longer makes the state."""
        return self.first.hash != genesis(self.log_id)


def read_ends(connection: sqlite3.Connection) -> Ends:
    """The ends as the file says them.

    Raises:
        LogCorrupted: they are not there.
    """
    try:
        row = connection.execute(
            "SELECT log_id, first_seq, first_hash, base_seq, base_hash, head_seq, head_hash FROM ends"
        ).fetchone()
    except FILE_ERRORS as error:
        raise LogCorrupted(0, f"the log's head cannot be read: {error}") from error
    if row is None or [type(value) for value in row] != [bytes, int, bytes, int, bytes, int, bytes]:
        raise LogCorrupted(0, "the log's head is missing or damaged")
    log_id, first_seq, first_hash, base_seq, base_hash, head_seq, head_hash = row
    ends = Ends(log_id, Head(first_seq, first_hash), Head(base_seq, base_hash), Head(head_seq, head_hash))
    if first_seq > base_seq or (first_seq == base_seq and first_hash != base_hash):
        raise LogCorrupted(first_seq + 1, "the log's two beginnings do not agree")
    return ends


def hash_in(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """The stored hash of event `seq` in this file, or None where there is no such event; the base counts as one.

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


class LogReader:
    """The whole log of a folder, archive included. Every method works from any thread."""

    def __init__(self, connect: Connect, archive: Archive) -> None:
        self._connect = connect
        self._archive = archive

    def ends(self) -> Ends:
        """Raises:
        LogCorrupted: they cannot be read.
        """
        with self._connect() as connection:
            return read_ends(connection)

    def hash_at(self, seq: int) -> bytes | None:
        """The stored hash of event `seq`, wherever it lies; None where no such event is kept.

        Raises:
            LogCorrupted: the place cannot be read.
        """
        with self._connect() as connection:
            ends = read_ends(connection)
            if seq == ends.first.seq:
                return ends.first.hash
            if seq >= ends.base.seq:
                return hash_in(connection, seq)
        segment = self._archive.covering(seq - 1)
        if segment is None:
            return None
        with self._archive.reading(segment) as connection:
            return hash_in(connection, seq)

    def rows(self, after: int, *, reached: Head) -> Iterator[Row]:
        """Every event after number `after` as of the first step, each checked against the one before it.

        `reached` is a head that the log is known to have had. Events up to `after` are taken on trust; where it
        lies outside the log there is nothing to check and nothing to give.

        Raises:
            LogCorrupted: at the first event that cannot be trusted.
        """
        with self._connect() as connection:
            ends = read_ends(connection)
        if after > max(ends.head.seq, reached.seq):
            return
        seq = max(after, ends.first.seq)
        digest = ends.first.hash if seq == ends.first.seq else self.hash_at(seq)
        if digest is None:
            raise LogCorrupted(seq, f"the event is missing; the log's head is {ends.head.seq}")
        while seq < ends.head.seq:
            page, damage = self._page(seq, up_to=ends.head.seq)
            for row in page:
                digest = check_link(digest, seq + 1, row)
                seq += 1
                if seq == reached.seq and digest != reached.hash:
                    raise LogCorrupted(seq, "it is not the event that was acknowledged under this number")
                yield row
            if damage is not None:
                raise damage
        if reached.seq > seq:
            raise LogCorrupted(seq + 1, f"acknowledged events up to {reached.seq} are missing at the end")
        if (seq, digest) != ends.head:
            raise LogCorrupted(seq + 1, f"the log ends at event {seq}, its head is {ends.head.seq}")

    def _page(self, after: int, *, up_to: int) -> tuple[list[Row], LogCorrupted | None]:
        """The next rows, at least one, from the place where they lie now; or what is wrong after them."""
        with self._connect() as connection:
            base = read_ends(connection).base
            if after >= base.seq:
                return _fetch(connection, after, up_to=up_to)
        segment = self._archive.covering(after)
        if segment is None:
            return [], LogCorrupted(after + 1, f"archived events up to {base.seq} are missing")
        try:
            with self._archive.reading(segment) as connection:
                return _fetch(connection, after, up_to=min(up_to, segment.head_seq))
        except FILE_ERRORS as error:
            return [], LogCorrupted(after + 1, f"{segment.path.name} cannot be read: {error}")

    def of_kinds(
        self, kinds: tuple[str, ...], *, after: int, up_to: int, newest: int | None = None
    ) -> list[Row]:
        """Events of some of `INDEXED_KINDS` in (after, up_to], oldest first; with `newest`, the last so many.

        Each is checked against the event before it, so that it is one that was written.

        Raises:
            LogCorrupted: one of them is not, or the place cannot be read.
        """
        assert set(kinds) <= set(INDEXED_KINDS), "no index for these kinds"
        with self._connect() as connection:
            ends = read_ends(connection)
            found = _select_kinds(connection, kinds, max(after, ends.base.seq), up_to, newest)
        for segment in reversed(self._archive.segments()):
            left = None if newest is None else newest - len(found)
            if segment.head_seq <= max(after, ends.first.seq) or left == 0:
                break
            with self._archive.reading(segment) as connection:
                above = max(after, ends.first.seq)
                found = _select_kinds(connection, kinds, above, min(up_to, ends.base.seq), left) + found
        return found


def _fetch(
    connection: sqlite3.Connection, after: int, *, up_to: int
) -> tuple[list[Row], LogCorrupted | None]:
    """A page of rows. What SQLite finds wrong is told with the number of the row it was about to give."""
    query = f"SELECT {_COLUMNS} FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    rows: list[Row] = []
    try:
        rows.extend(connection.execute(query, (after, up_to, _PAGE_EVENTS)))
    except FILE_ERRORS as error:
        return rows, LogCorrupted(after + len(rows) + 1, f"the file cannot be read: {error}")
    if not rows:
        return rows, LogCorrupted(after + 1, "the event is missing")
    return rows, None


def check_link(previous: bytes, seq: int, row: Row) -> bytes:
    """The row's hash, once it is known to follow from the one before it."""
    found, at_ms, kind, body, stored = row
    if found != seq:
        raise LogCorrupted(seq, f"the event is missing; the next one is {found}")
    try:
        digest = link(previous, seq, at_ms, kind, body)
    except (TypeError, AttributeError, struct.error) as error:
        raise LogCorrupted(seq, "a column holds a value of another type") from error
    if digest != stored:
        raise LogCorrupted(seq, "its hash does not match")
    return digest


def _select_kinds(
    connection: sqlite3.Connection, kinds: tuple[str, ...], after: int, up_to: int, newest: int | None
) -> list[Row]:
    query = (
        f"SELECT {_COLUMNS} FROM log WHERE {OF_INDEXED_KIND} AND kind IN ({', '.join('?' * len(kinds))})"
        " AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?"
    )
    try:
        limit = -1 if newest is None else newest
        rows: list[Row] = connection.execute(query, (*kinds, after, up_to, limit)).fetchall()
    except FILE_ERRORS as error:
        raise LogCorrupted(after + 1, f"the file cannot be read: {error}") from error
    for row in rows:
        before = hash_in(connection, row[0] - 1)
        if before is None:
            raise LogCorrupted(row[0] - 1, "the event is missing")
        check_link(before, row[0], row)
    rows.reverse()
    return rows
