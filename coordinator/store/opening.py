"""Opening the log's own file: created where there is none, and its ends checked where there is one."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from coordinator.store.database import FILE_ERRORS, Database, is_damage
from coordinator.store.errors import LogCorrupted, LogUnwritable
from coordinator.store.hashing import Head, HeadMark, genesis
from coordinator.store.reader import hash_at, read_ends


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
        return Database(path, migrations=(_creator(new_log_id, new_base_seq),))
    except FILE_ERRORS as error:
        if is_damage(error):
            raise LogCorrupted(0, f"{path.name} cannot be read: {error}") from error
        raise LogUnwritable(f"{path.name}: {error}") from error


def check_ends(database: Database, mark: HeadMark) -> tuple[bytes, Head]:
    """The log's id and head, once base, head, last event and mark agree; the cost does not grow with the log.

    A mark that lags behind, as after a power failure, is brought up to date.

    Raises:
        LogCorrupted: they do not agree.
    """
    marked = read_mark(mark)
    with database.read() as connection:
        log_id, _, head = read_ends(connection)
        if hash_at(connection, head.seq) != head.hash or hash_at(connection, head.seq + 1):
            raise LogCorrupted(head.seq, "the last event is not the one that the log's head names")
        if marked is not None:
            _check_mark(connection, *marked, log_id=log_id, head=head)
    if marked is None or marked[1] != head:
        mark.write(log_id, head)
    mark.sync()
    _sync_folder(mark.path.parent)
    return log_id, head


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
    if hash_at(connection, reached.seq) != reached.hash:
        raise LogCorrupted(reached.seq, "it is not the event that was acknowledged under this number")


def _creator(log_id: bytes, base_seq: int) -> Callable[[sqlite3.Connection], None]:
    def create(connection: sqlite3.Connection) -> None:
        connection.execute(
            "CREATE TABLE log (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,"
            " body BLOB NOT NULL, hash BLOB NOT NULL) STRICT"
        )
        connection.execute(
            "CREATE TABLE ends (log_id BLOB NOT NULL, base_seq INTEGER NOT NULL, base_hash BLOB NOT NULL,"
            " head_seq INTEGER NOT NULL, head_hash BLOB NOT NULL) STRICT"
        )
        first = genesis(log_id)
        connection.execute(
            "INSERT INTO ends VALUES (?, ?, ?, ?, ?)", (log_id, base_seq, first, base_seq, first)
        )

    return create


def _sync_folder(folder: Path) -> None:
    """Makes the files' names durable, not only what is in them."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
