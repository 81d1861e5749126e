"""Files are versioned, migrations run once, and a failing one changes nothing."""

import sqlite3
from pathlib import Path

import pytest

from coordinator.store.database import Database
from coordinator.store.errors import SchemaTooNew


def first(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE things (name TEXT) STRICT")
    connection.execute("INSERT INTO things VALUES ('old')")


def second(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7")


def failing(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM things")
    connection.execute("CREATE TABLE things (name TEXT)")


def things(database: Database) -> list[tuple[object, ...]]:
    with database.read() as connection:
        return connection.execute("SELECT * FROM things").fetchall()


def test_an_old_file_is_brought_up_to_date_once(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    Database(path, migrations=(first,)).close()
    for _ in range(2):
        database = Database(path, migrations=(first, second))
        assert things(database) == [("old", 7)]
        database.close()
    with pytest.raises(SchemaTooNew, match="schema 2, this version knows up to 1"):
        Database(path, migrations=(first,))


def test_a_failing_migration_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    Database(path, migrations=(first,)).close()
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Database(path, migrations=(first, failing))
    database = Database(path, migrations=(first, second))
    assert things(database) == [("old", 7)]
    database.close()


def test_a_write_that_raises_is_undone(tmp_path: Path) -> None:
    database = Database(tmp_path / "file.sqlite3", migrations=(first,))

    def write_and_fail() -> None:
        with database.write() as connection:
            connection.execute("DELETE FROM things")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        write_and_fail()
    assert things(database) == [("old",)]
    with database.write() as connection:
        connection.execute("DELETE FROM things")
    assert things(database) == []
    database.close()


def test_every_commit_is_synced_in_wal_mode(tmp_path: Path) -> None:
    database = Database(tmp_path / "file.sqlite3", migrations=())
    with database.write() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
