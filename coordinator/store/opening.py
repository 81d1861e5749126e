"""Opening the log's own file: created where there is none, and its ends checked where there is one."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from coordinator.store.archive import Archive
from coordinator.store.database import FILE_ERRORS, Database, Migration, is_damage, sync_folder
from coordinator.store.errors import LogCorrupted, LogUnwritable
from coordinator.store.hashing import Head, HeadMark, genesis
from coordinator.store.reader import OF_INDEXED_KIND, Ends, hash_in, read_ends


def open_file(path: Path, *, new_log_id: bytes, new_base_seq: int, expected: bool) -> Database:
    """The log's file. A new log gets `new_log_id`, and numbers its events after `new_base_seq`.

    Raises:
        LogCorrupted: the file cannot be read, or is `expected` and not there.
        LogUnwritable: the disk refuses.
        SchemaTooNew: a newer version wrote the file.
    """
    if expected and not (path.exists() and path.stat().st_size):
        raise LogCorrupted(0, f"{path.name} is gone")
    try:
        return Database(path, migrations=log_migrations(new_log_id, Head(new_base_seq, genesis(new_log_id))))
    except FILE_ERRORS as error:
        if is_damage(error):
            raise LogCorrupted(0, f"{path.name} cannot be read: {error}") from error
        raise LogUnwritable(f"{path.name}: {error}") from error


def check_ends(database: Database, mark: HeadMark, archive: Archive) -> Ends:
    """The log's ends, once archive, base, head, last event and mark agree; the cost does not grow with the log.

    A mark that lags behind, as after a power failure, is brought up to date.

    Raises:
        LogCorrupted: they do not agree.
    """
    marked = read_mark(mark)
    with database.read() as connection:
        ends = read_ends(connection)
        log_id, head = ends.log_id, ends.head
        if hash_in(connection, head.seq) != head.hash or hash_in(connection, head.seq + 1):
            raise LogCorrupted(head.seq, "the last event is not the one that the log's head names")
        if marked is not None:
            _check_mark(connection, *marked, log_id=log_id, head=head)
    _check_archive(archive, ends)
    if marked is None or marked[1] != head:
        mark.write(log_id, head)
    mark.sync()
    sync_folder(mark.path.parent)
    return ends


def _check_archive(archive: Archive, ends: Ends) -> None:
    """Every archived event must be in some segment; a segment may hold more than was taken out of the file."""
    seq = ends.first.seq
    for segment in archive.segments():
        if segment.base_seq <= seq < segment.head_seq:
            seq = segment.head_seq
    if seq < ends.base.seq:
        raise LogCorrupted(seq + 1, f"archived events up to {ends.base.seq} are missing")


def read_mark(mark: HeadMark) -> tuple[bytes, Head] | None:
    """What the mark says.

    Raises:
        LogCorrupted: it is damaged.
    """
    try:
        return mark.read()
    except ValueError as error:
        raise LogCorrupted(0, f"the file {mark.path.name} is damaged: {error}") from error


def _check_mark(
    connection: sqlite3.Connection, marked_id: bytes, reached: Head, *, log_id: bytes, head: Head
) -> None:
    if marked_id != log_id:
        raise LogCorrupted(0, "the log is another one than the file head says")
    if reached.seq > head.seq:
        raise LogCorrupted(head.seq + 1, f"acknowledged events up to {reached.seq} are missing at the end")
    # An acknowledged head below the base was archived since; the head that lies above it is chained to it.
    kept = reached.seq >= read_ends(connection).base.seq
    if kept and hash_in(connection, reached.seq) != reached.hash:
        raise LogCorrupted(reached.seq, "it is not the event that was acknowledged under this number")


def log_migrations(log_id: bytes, base: Head) -> Sequence[Migration]:
    """The log's schema, version by version; a new log gets this id and begins after `base`."""

    def create(connection: sqlite3.Connection) -> None:
        connection.execute(
            "CREATE TABLE log (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,"
            " body BLOB NOT NULL, hash BLOB NOT NULL) STRICT"
        )
        connection.execute(
            "CREATE TABLE ends (log_id BLOB NOT NULL, base_seq INTEGER NOT NULL, base_hash BLOB NOT NULL,"
            " head_seq INTEGER NOT NULL, head_hash BLOB NOT NULL) STRICT"
        )
        connection.execute("INSERT INTO ends VALUES (?, ?, ?, ?, ?)", (log_id, *base, *base))

    return create, _allow_an_archive


def _allow_an_archive(connection: sqlite3.Connection) -> None:
    """Version 2: the log may begin before its file does, and a few kinds of events are found by kind."""
    connection.execute("ALTER TABLE ends ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE ends ADD COLUMN first_hash BLOB NOT NULL DEFAULT x''")
    connection.execute("UPDATE ends SET first_seq = base_seq, first_hash = base_hash")
    connection.execute(f"CREATE INDEX log_by_kind ON log (kind, seq) WHERE {OF_INDEXED_KIND}")
