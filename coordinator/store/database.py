"""One SQLite file as everything here uses it: WAL, synchronous FULL, mode 0600, versioned schema.

Writes go through one connection and reads through another, each behind its lock, so a reader never waits for
an fsync and SQLite never answers "database is locked".
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from coordinator.store.errors import LogUnwritable, SchemaTooNew, StoreCorrupted

Migration = Callable[[sqlite3.Connection], None]
"""Takes the tables from one schema version to the next, inside a transaction."""

_CHECKPOINT_PAGES = 4000
_NAMES_AT_ONCE = 500
_WAL_KEPT_BYTES = 64 * 2**20
_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class Database:
    """An open file. `migrations[i]` leads from schema version i to i + 1; a new file starts at 0."""

    def __init__(self, path: Path, *, migrations: Sequence[Migration], secure_delete: bool = False) -> None:
        """Opens or creates the file and brings its schema up to date.

        Raises:
            SchemaTooNew: a newer version wrote it.
            sqlite3.DatabaseError: it cannot be opened; `is_damage` tells corruption from a disk that refuses.
        """
        self.path = path
        self._secure_delete = secure_delete
        self._write_lock = threading.RLock()
        self._read_lock = threading.Lock()
        # SQLite gives its -wal and -shm files the mode of the main one: made here, no moment of 0644 exists.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._writer = self._connect()
        try:
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._migrate(migrations)
            self._reader = self._connect()
        except BaseException:
            self._writer.close()
            raise
        self._reader.execute("PRAGMA query_only = ON")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA secure_delete = {'ON' if self._secure_delete else 'OFF'}")
        return connection

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        with self.write() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT")
            row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
            version = row[0] or 0
            if version > len(migrations):
                raise SchemaTooNew(self.path, version, len(migrations))
            for migrate in migrations[version:]:
                migrate(connection)
                version += 1
                connection.execute("INSERT INTO schema_version VALUES (?)", (version,))

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed and on the disk when the block ends, undone when it raises."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back after some errors, a full disk among them.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The reading connection: each statement sees all that was committed before it."""
        with self._read_lock:
            yield self._reader

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own that sees one instant, for a long read beside the writer."""
        connection = self._connect()
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()

    def copy_to(self, target: Path) -> None:
        """Copies the file as it is at one instant, beside readers and the writer; the copy has mode 0600."""
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(target)) as copy, closing(self._connect()) as source:
            source.backup(copy)

    def empty_wal(self) -> None:
        """Moves the WAL into the file and truncates it, so that no old page is left in it.

        A reader from outside this object can be in the way; the next call makes up for it.
        """
        with self._write_lock, self._read_lock:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Closes both connections; the last close folds the WAL into the file."""
        with self._read_lock:
            self._reader.close()
        with self._write_lock:
            self._writer.close()


def rows_of(connection: sqlite3.Connection, query: str, names: Sequence[str]) -> Iterator[Any]:
    """The rows of a query that ends in `IN`, for any number of names.

    (SQLite's json_each would take a whole list at once, but loses a name with a NUL in it.)
    """
    for start in range(0, len(names), _NAMES_AT_ONCE):
        some = names[start : start + _NAMES_AT_ONCE]
        yield from connection.execute(f"{query} ({', '.join('?' * len(some))})", some)


FILE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a file may raise; the second where SQLite's message quotes what is damaged."""


def is_damage(error: Exception) -> bool:
    """Whether the file itself is broken, rather than the disk full or unreadable, or the statement wrong.

    Damage has many codes, down to the general one (a flipped byte in the header is an "unsupported file format"), so
    it is what is left when the others are known.
    """
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return False
    # What the Python module raises by itself, such as for text that is not UTF-8, has no code.
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or (code & 0xFF) not in _REFUSALS


@contextmanager
def typed_faults(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into faults of the store.

    Raises:
        StoreCorrupted: the file is damaged.
        LogUnwritable: the disk refuses.
    """
    try:
        yield
    except FILE_ERRORS as error:
        if is_damage(error):
            raise StoreCorrupted(path, str(error)) from error
        raise LogUnwritable(f"{path.name}: {error}") from error


def sqlite_files(path: Path) -> tuple[Path, ...]:
    """The file and the two that SQLite keeps beside it."""
    return (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"))


def sync_folder(folder: Path) -> None:
    """Makes the files' names durable, not only what is in them."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
