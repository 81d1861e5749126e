"""The chain's accounts: lamports move by settlements, each posted once, whole, and summing to zero."""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from coordinator.chain.interface import EXTERNAL, SettlementRefused
from coordinator.store.database import Database

_MAX_LAMPORTS = 2**63 - 1


def create_ledger(connection: sqlite3.Connection) -> None:
    """The ledger's tables."""
    connection.execute("CREATE TABLE accounts (account TEXT PRIMARY KEY, lamports INTEGER NOT NULL) STRICT")
    connection.execute(
        "CREATE TABLE settlements (settlement_id INTEGER PRIMARY KEY, entries TEXT NOT NULL) STRICT"
    )


class Ledger:
    """Accounts in a chain's file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, settlement_id: int, entries: Sequence[tuple[str, int]]) -> None:
        """Posts entries of (account, lamports to add) unless this settlement was posted already.

        Raises:
            SettlementRefused: see `Chain.settle`.
        """
        if not 1 <= settlement_id <= _MAX_LAMPORTS:
            raise SettlementRefused(settlement_id, "the id is a number from 1, of at most 63 bits")
        total = sum(lamports for _, lamports in entries)
        if total:
            raise SettlementRefused(settlement_id, f"its entries sum to {total} lamports, not to zero")
        changes: dict[str, int] = {}
        for account, lamports in entries:
            changes[account] = changes.get(account, 0) + lamports
        text = json.dumps(sorted(changes.items()))
        with self._database.write() as connection:
            if not self._is_new(connection, settlement_id, text):
                return
            connection.execute("INSERT INTO settlements VALUES (?, ?)", (settlement_id, text))
            for account, lamports in changes.items():
                self._add(connection, settlement_id, account, lamports)

    def last(self) -> int:
        """The highest id that was posted; 0 where none was."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT max(settlement_id) FROM settlements").fetchone()[0] or 0)

    def balances(self) -> dict[str, int]:
        """Every account, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT account, lamports FROM accounts ORDER BY account").fetchall()
        return dict(rows)

    def complaints(self) -> list[str]:
        """What is wrong with the accounts, against all settlements ever posted; empty when nothing is."""
        with self._database.snapshot() as connection:
            balances = dict(connection.execute("SELECT account, lamports FROM accounts"))
            posted: dict[str, int] = {}
            for (entries,) in connection.execute("SELECT entries FROM settlements"):
                for account, lamports in json.loads(entries):
                    posted[account] = posted.get(account, 0) + lamports
        return [*_sum_complaints(balances), *_posting_complaints(balances, posted)]

    def _is_new(self, connection: sqlite3.Connection, settlement_id: int, text: str) -> bool:
        row = connection.execute(
            "SELECT entries FROM settlements WHERE settlement_id = ?", (settlement_id,)
        ).fetchone()
        if row is not None and row[0] != text:
            raise SettlementRefused(settlement_id, "it was posted already, with other entries")
        return row is None

    def _add(self, connection: sqlite3.Connection, settlement_id: int, account: str, lamports: int) -> None:
        row = connection.execute("SELECT lamports FROM accounts WHERE account = ?", (account,)).fetchone()
        balance = (row[0] if row is not None else 0) + lamports
        if balance < 0 and account != EXTERNAL:
            raise SettlementRefused(settlement_id, f"{account} has {balance - lamports} lamports")
        if not -_MAX_LAMPORTS <= balance <= _MAX_LAMPORTS:
            raise SettlementRefused(settlement_id, f"{account} would exceed 63 bits")
        connection.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (account, balance))


def _sum_complaints(balances: Mapping[str, int]) -> list[str]:
    complaints = [
        f"{account} is at {lamports} lamports"
        for account, lamports in balances.items()
        if lamports < 0 and account != EXTERNAL
    ]
    total = sum(balances.values())
    if total:
        complaints.append(f"all accounts sum to {total} lamports, not to zero")
    return complaints


def _posting_complaints(balances: Mapping[str, int], posted: Mapping[str, int]) -> list[str]:
    return [
        f"{account} has {balances.get(account, 0)} lamports, its settlements sum to {posted.get(account, 0)}"
        for account in sorted(balances.keys() | posted.keys())
        if balances.get(account, 0) != posted.get(account, 0)
    ]
