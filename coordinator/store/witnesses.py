"""Private witnesses, beside the log: the log holds digests only. Secrets are erased once they are not needed.

Erasing leaves no copy in the file: SQLite's `secure_delete` overwrites what is deleted, and since the WAL
keeps old pages until it is truncated, every erasure truncates it. Secrets have a table of their own, so
that erasing one does not rewrite an output of 64 KiB.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from coordinator.store.database import Database, rows_of, typed_faults


class Witness(msgspec.Struct, frozen=True):
    """What stays private of an operation. `secret` is None once it was erased."""

    operation_id: str
    output: bytes
    salt: bytes
    secret: bytes | None

    def __repr__(self) -> str:
        """Without the private parts: a witness may end up in a log line or a traceback."""
        return f"Witness({self.operation_id!r}, output of {len(self.output)} bytes)"


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE outputs (operation_id TEXT PRIMARY KEY, output BLOB NOT NULL,"
        " salt BLOB NOT NULL) STRICT"
    )
    connection.execute("CREATE TABLE secrets (operation_id TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT")


#: After so many witnesses that the log names, those stored before them are named too.
_KNOWN_IN_A_ROW = 10_000
_ERASE_SECRET = "DELETE FROM secrets WHERE operation_id = ?"


class WitnessStore:
    """The file `witnesses.sqlite3`. Every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file.

        Raises:
            StoreCorrupted: it is damaged.
            LogUnwritable: the disk refuses.
        """
        self.path = path
        with typed_faults(self.path):
            self._database = Database(path, migrations=(_create,), secure_delete=True)
            self._database.empty_wal()  # a crash may have come between an erasure and its truncation

    def put(self, witnesses: Iterable[Witness]) -> None:
        """Stores witnesses durably; one that is there already is replaced.

        The log's writer calls this before it commits the events that name them.
        """
        kept = list(witnesses)
        with typed_faults(self.path), self._database.write() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)",
                [(witness.operation_id, witness.output, witness.salt) for witness in kept],
            )
            connection.executemany(_ERASE_SECRET, [(w.operation_id,) for w in kept if w.secret is None])
            connection.executemany(
                "INSERT OR REPLACE INTO secrets VALUES (?, ?)",
                [(w.operation_id, w.secret) for w in kept if w.secret is not None],
            )

    def get(self, operation_ids: Sequence[str]) -> dict[str, Witness]:
        """The witnesses that are there, by operation."""
        with typed_faults(self.path), self._database.read() as connection:
            query = (
                "SELECT operation_id, output, salt, secret FROM outputs LEFT JOIN secrets USING (operation_id)"
                " WHERE operation_id IN"
            )
            return {row[0]: Witness(*row) for row in rows_of(connection, query, operation_ids)}

    def output(self, operation_id: str) -> bytes | None:
        """The output of one operation, or None where there is none."""
        with typed_faults(self.path), self._database.read() as connection:
            row: tuple[bytes] | None = connection.execute(
                "SELECT output FROM outputs WHERE operation_id = ?", (operation_id,)
            ).fetchone()
        return row[0] if row is not None else None

    def with_secrets(self) -> frozenset[str]:
        """The operations whose secret is still there: after a crash, some may be confirmed already."""
        with typed_faults(self.path), self._database.read() as connection:
            rows = connection.execute("SELECT operation_id FROM secrets").fetchall()
        return frozenset(row[0] for row in rows)

    def erase_secrets(self, operation_ids: Sequence[str]) -> None:
        """Removes secrets for good, from the file and its WAL; outputs and salts stay."""
        with typed_faults(self.path):
            with self._database.write() as connection:
                connection.executemany(_ERASE_SECRET, [(operation_id,) for operation_id in operation_ids])
            self._database.empty_wal()

    def forget(self, operation_ids: Sequence[str]) -> None:
        """Removes whole witnesses for good."""
        with typed_faults(self.path):
            names = [(operation_id,) for operation_id in operation_ids]
            with self._database.write() as connection:
                connection.executemany(_ERASE_SECRET, names)
                connection.executemany("DELETE FROM outputs WHERE operation_id = ?", names)
            self._database.empty_wal()

    def drop_orphans(self, is_known: Callable[[str], bool]) -> int:
        """Forgets what no logged operation names (a crash came between two commits); returns how many.

        Such witnesses are among the last that were stored: from the newest on, all are looked at until many in a row
        are known, so that the cost does not grow with history.
        """
        orphans: list[str] = []
        known_in_a_row = 0
        with typed_faults(self.path):
            with self._database.read() as connection:
                for (operation_id,) in connection.execute(
                    "SELECT operation_id FROM outputs ORDER BY rowid DESC"
                ):
                    if not is_known(operation_id):
                        orphans.append(operation_id)
                        known_in_a_row = 0
                    elif (known_in_a_row := known_in_a_row + 1) >= _KNOWN_IN_A_ROW:
                        break
            if orphans:
                self.forget(orphans)
        return len(orphans)

    def close(self) -> None:
        self._database.close()
