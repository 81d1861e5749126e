"""The local chain's file: genesis, tasks, transactions, and the operations that stand on chain.

An operation's row exists exactly while its batch is on chain. So the tables themselves forbid that a
nullifier or a task is there twice, and a reorg is the deletion of the last slots' rows.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from coordinator.chain.interface import FINALITY_VIOLATION, BatchTransaction, ChainBatch, PublicStatement
from coordinator.chain.ledger import create_ledger
from coordinator.core.commands import Observation
from coordinator.core.states import TransactionStatus
from coordinator.store.database import Database, rows_of

_DIGEST_BYTES = 32


class Genesis(NamedTuple):
    """What is fixed when a chain is created; `accepted` are the names of the proof parameters it takes."""

    genesis: bytes
    genesis_ms: int
    slot_ms: int
    accepted: frozenset[str]


class Refusal(NamedTuple):
    """Why a batch is refused, and the guilty operations' places in it."""

    code: str
    indices: tuple[int, ...]
    detail: str


class ChainView:
    """Questions about the chain as it stands; `head_slot` is the slot in which they are asked."""

    def __init__(self, connection: sqlite3.Connection, *, head_slot: int, confirmation_slots: int) -> None:
        self._connection = connection
        self._confirmed_slot = head_slot - confirmation_slots

    def constraint_hash(self, task_id: str) -> bytes | None:
        """What the task demands of its output, if anything."""
        demanded: bytes | None = self._one("SELECT constraint_hash FROM tasks WHERE task_id = ?", task_id)
        return demanded

    def has_task(self, task_id: str) -> bool:
        """Whether an operation of the task is on chain."""
        return self._one("SELECT 1 FROM operations WHERE task_id = ?", task_id) is not None

    def is_spent(self, nullifier: bytes) -> bool:
        """Whether the nullifier is on chain."""
        return self._one("SELECT 1 FROM operations WHERE nullifier = ?", nullifier) is not None

    def is_confirmed(self, output_commitment: bytes) -> bool:
        """Whether an operation with that output is confirmed, or on chain again after it had been."""
        slot = self._one("SELECT min(slot) FROM operations WHERE output_commitment = ?", output_commitment)
        if slot is None or slot <= self._confirmed_slot:
            return slot is not None
        return (
            self._one("SELECT 1 FROM once_confirmed WHERE output_commitment = ?", output_commitment)
            is not None
        )

    def _one(self, query: str, key: str | bytes) -> Any:
        row = self._connection.execute(query, (key,)).fetchone()
        return row[0] if row is not None else None


def _create(connection: sqlite3.Connection) -> None:
    for table in (
        "genesis (genesis BLOB NOT NULL, genesis_ms INTEGER NOT NULL, slot_ms INTEGER NOT NULL,"
        " accepted TEXT NOT NULL, reorged_slot INTEGER NOT NULL)",
        "tasks (task_id TEXT PRIMARY KEY, constraint_hash BLOB)",
        "transactions (arrival INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, batch_id TEXT NOT NULL,"
        " valid_until_slot INTEGER NOT NULL, submitted_slot INTEGER NOT NULL, due_slot INTEGER,"
        " status TEXT NOT NULL, slot INTEGER, code TEXT, indices TEXT, detail TEXT, body BLOB)",
        "operations (nullifier BLOB PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, slot INTEGER NOT NULL,"
        " name TEXT NOT NULL, place INTEGER NOT NULL, agent_id TEXT NOT NULL, parents BLOB NOT NULL,"
        " constraint_hash BLOB NOT NULL, output_commitment BLOB NOT NULL, agent_key BLOB NOT NULL)",
        "once_confirmed (output_commitment BLOB PRIMARY KEY)",
    ):
        connection.execute(f"CREATE TABLE {table} STRICT")
    connection.execute("CREATE INDEX waiting ON transactions (due_slot) WHERE status = 'pending'")
    connection.execute("CREATE INDEX blocks ON transactions (slot) WHERE status = 'included'")
    connection.execute("CREATE INDEX outputs ON operations (output_commitment)")
    connection.execute("CREATE INDEX operations_by_name ON operations (name)")
    create_ledger(connection)


def _add_head(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE genesis ADD COLUMN head_slot INTEGER NOT NULL DEFAULT 0")


class ChainStore:
    """The file. Every method is one transaction; the caller sees to their order."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path, migrations=(_create, _add_head))

    def close(self) -> None:
        self.database.close()

    def genesis(self, new: Genesis) -> Genesis:
        """The chain's genesis: `new` where the chain is created now."""
        with self.database.write() as connection:
            row = connection.execute("SELECT genesis, genesis_ms, slot_ms, accepted FROM genesis").fetchone()
            if row is not None:
                return Genesis(row[0], row[1], row[2], frozenset(json.loads(row[3])))
            accepted = json.dumps(sorted(new.accepted))
            connection.execute(
                "INSERT INTO genesis VALUES (?, ?, ?, ?, 0, 0)",
                (new.genesis, new.genesis_ms, new.slot_ms, accepted),
            )
        return new

    @contextmanager
    def view(self, *, head_slot: int, confirmation_slots: int) -> Iterator[ChainView]:
        """The chain as it stands."""
        with self.database.read() as connection:
            yield ChainView(connection, head_slot=head_slot, confirmation_slots=confirmation_slots)

    def register_task(self, task_id: str, constraint_hash: bytes | None) -> bool:
        """Registers a task, or adds the hash to one that has none; False if it has another hash."""
        with self.database.write() as connection:
            connection.execute(
                "INSERT INTO tasks VALUES (?, ?) ON CONFLICT DO UPDATE"
                " SET constraint_hash = coalesce(constraint_hash, excluded.constraint_hash)",
                (task_id, constraint_hash),
            )
            row = connection.execute(
                "SELECT constraint_hash FROM tasks WHERE task_id = ?", (task_id,)
            ).fetchone()
        return constraint_hash is None or row[0] == constraint_hash

    def add(self, batch: BatchTransaction, *, submitted_slot: int, due_slot: int | None) -> None:
        """Adds a transaction unless its name is known; without a due slot it only expires."""
        row = (
            batch.transaction,
            batch.batch_id,
            batch.valid_until_slot,
            submitted_slot,
            due_slot,
            msgspec.msgpack.encode(batch) if due_slot is not None else None,
        )
        with self.database.write() as connection:
            connection.execute(
                "INSERT INTO transactions (name, batch_id, valid_until_slot, submitted_slot, due_slot, body,"
                " status) VALUES (?, ?, ?, ?, ?, ?, 'pending') ON CONFLICT DO NOTHING",
                row,
            )

    def due(self, slot: int) -> list[tuple[int, str]]:
        """(due slot, name) of what waits and is due by `slot`, in the order of inclusion."""
        with self.database.read() as connection:
            return connection.execute(
                "SELECT due_slot, name FROM transactions WHERE status = 'pending' AND due_slot <= ?"
                " ORDER BY due_slot, arrival",
                (slot,),
            ).fetchall()

    def waiting(self, name: str) -> BatchTransaction:
        """A transaction of the mempool."""
        with self.database.read() as connection:
            row = connection.execute("SELECT body FROM transactions WHERE name = ?", (name,)).fetchone()
        return msgspec.msgpack.decode(row[0], type=BatchTransaction)

    def include(self, batch: BatchTransaction, slot: int) -> None:
        """Puts a batch on chain."""
        rows = [_row(batch.transaction, slot, *item) for item in enumerate(batch.operations)]
        with self.database.write() as connection:
            connection.executemany("INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            _end(connection, batch.transaction, TransactionStatus.INCLUDED, slot)

    def refuse(self, name: str, slot: int, refusal: Refusal) -> None:
        """Ends a transaction that breaks the chain's rules."""
        with self.database.write() as connection:
            _end(connection, name, TransactionStatus.REFUSED, slot)
            connection.execute(
                "UPDATE transactions SET code = ?, indices = ?, detail = ? WHERE name = ?",
                (refusal.code, json.dumps(refusal.indices), refusal.detail, name),
            )

    def head_slot(self) -> int:
        """The highest slot that something on chain may have been judged by; see `reach`."""
        with self.database.read() as connection:
            return int(connection.execute("SELECT head_slot FROM genesis").fetchone()[0])

    def reach(self, slot: int, *, confirmation_slots: int) -> None:
        """The chain has come to `slot`: waiting transactions that were valid only before it end. The slot is kept
        while it decides whether something is confirmed; what was called confirmed must not cease to be so because a
        clock that was set back begins anew.
        """
        with self.database.write() as connection:
            connection.execute(
                "UPDATE transactions SET status = 'expired', slot = valid_until_slot + 1, body = NULL"
                " WHERE status = 'pending' AND valid_until_slot < ?",
                (slot,),
            )
            connection.execute(
                "UPDATE genesis SET head_slot = ? WHERE head_slot < ? AND EXISTS (SELECT 1 FROM transactions"
                " WHERE status = 'included' AND slot > head_slot - ?)",
                (slot, slot, confirmation_slots),
            )

    def reorged_slot(self) -> int:
        """The slot of the last reorg."""
        with self.database.read() as connection:
            return int(connection.execute("SELECT reorged_slot FROM genesis").fetchone()[0])

    def reorg(self, slot: int, *, depth: int, confirmation_slots: int) -> None:
        """Undoes the last `depth` slots up to `slot`; what had been confirmed is marked so."""
        kept_slot, confirmed_slot = slot - depth, slot - confirmation_slots
        with self.database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO once_confirmed"
                " SELECT output_commitment FROM operations WHERE slot > ? AND slot <= ?",
                (kept_slot, confirmed_slot),
            )
            connection.execute("DELETE FROM operations WHERE slot > ?", (kept_slot,))
            connection.execute(
                "UPDATE transactions SET status = 'reorged', code = iif(slot <= ?, ?, NULL)"
                " WHERE status = 'included' AND slot > ?",
                (confirmed_slot, FINALITY_VIOLATION, kept_slot),
            )
            connection.execute("UPDATE genesis SET reorged_slot = ?", (slot,))

    def observe(self, names: Sequence[str], *, slot: int, confirmation_slots: int) -> list[Observation]:
        """What became of transactions. One that is unknown is recorded as dropped, and stays so."""
        query = "SELECT name, status, slot, code, indices FROM transactions WHERE name IN"
        with self.database.read() as connection:
            found = {row[0]: row for row in rows_of(connection, query, names)}
        self._drop(name for name in names if name not in found)
        return [
            _observation(found.get(name, (name, "dropped", slot, None, None)), slot, confirmation_slots)
            for name in names
        ]

    def batches(self, *, up_to_slot: int) -> list[ChainBatch]:
        """The batches on chain up to a slot, oldest first."""
        with self.database.snapshot() as connection:
            heads = connection.execute(
                "SELECT name, batch_id, slot FROM transactions WHERE status = 'included' AND slot <= ?"
                " ORDER BY slot, arrival",
                (up_to_slot,),
            ).fetchall()
            return [
                ChainBatch(
                    transaction=name, batch_id=batch_id, slot=slot, operations=_operations(connection, name)
                )
                for name, batch_id, slot in heads
            ]

    def nullifiers(self) -> frozenset[bytes]:
        """All that are on chain."""
        with self.database.read() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT nullifier FROM operations"))

    def undone(self) -> list[str]:
        """Transactions that had been confirmed, and whose batch is not on chain."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT name FROM transactions t WHERE code = ? AND NOT EXISTS (SELECT 1 FROM transactions"
                " WHERE batch_id = t.batch_id AND status = 'included') ORDER BY arrival",
                (FINALITY_VIOLATION,),
            ).fetchall()
        return [row[0] for row in rows]

    def inclusion_lag(self, *, since_slot: int) -> float:
        """Mean slots from submission to inclusion, of what was included since; 0 where nothing was."""
        with self.database.read() as connection:
            row = connection.execute(
                "SELECT avg(slot - submitted_slot) FROM transactions WHERE status = 'included' AND slot >= ?",
                (since_slot,),
            ).fetchone()
        return float(row[0] or 0)

    def _drop(self, names: Iterable[str]) -> None:
        unknown = [(name,) for name in names]
        if unknown:
            with self.database.write() as connection:
                connection.executemany(
                    "INSERT INTO transactions (name, batch_id, valid_until_slot, submitted_slot, status)"
                    " VALUES (?, '', 0, 0, 'dropped') ON CONFLICT DO NOTHING",
                    unknown,
                )


def _end(connection: sqlite3.Connection, name: str, status: TransactionStatus, slot: int) -> None:
    connection.execute(
        "UPDATE transactions SET status = ?, slot = ?, body = NULL WHERE name = ?", (status.value, slot, name)
    )


def _row(name: str, slot: int, place: int, operation: PublicStatement) -> tuple[bytes | str | int, ...]:
    return (
        operation.nullifier,
        operation.task_id,
        slot,
        name,
        place,
        operation.agent_id,
        b"".join(operation.parents),
        operation.constraint_hash,
        operation.output_commitment,
        operation.agent_key,
    )


def _operations(connection: sqlite3.Connection, name: str) -> tuple[PublicStatement, ...]:
    rows = connection.execute(
        "SELECT task_id, agent_id, parents, constraint_hash, output_commitment, nullifier, agent_key"
        " FROM operations WHERE name = ? ORDER BY place",
        (name,),
    )
    return tuple(
        PublicStatement(
            task_id=task_id,
            agent_id=agent_id,
            parents=tuple(
                parents[start : start + _DIGEST_BYTES] for start in range(0, len(parents), _DIGEST_BYTES)
            ),
            constraint_hash=constraint_hash,
            output_commitment=output_commitment,
            nullifier=nullifier,
            agent_key=agent_key,
        )
        for task_id, agent_id, parents, constraint_hash, output_commitment, nullifier, agent_key in rows
    )


def _observation(
    row: tuple[str, str, int | None, str | None, str | None], head_slot: int, confirmation_slots: int
) -> Observation:
    name, text, slot, code, indices = row
    status = TransactionStatus(text)
    at_slot = slot if slot is not None else head_slot
    if status is TransactionStatus.INCLUDED and head_slot - at_slot >= confirmation_slots:
        status = TransactionStatus.CONFIRMED
    return Observation(
        transaction=name, status=status, slot=at_slot, code=code, indices=tuple(json.loads(indices or "[]"))
    )
