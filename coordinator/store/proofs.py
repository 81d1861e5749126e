"""Batch proofs, beside the log, which holds their digests. Written before the event that names the batch."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from coordinator.store.database import Database, typed_faults
from coordinator.store.errors import StoreCorrupted


class ProofRecord(msgspec.Struct, frozen=True):
    """A verified proof of a batch and what its verifier needs beside the statements.

    `root` is the batch's, 32 bytes; `parameters` a set's name; the trace has 2^log_rows rows.
    """

    batch_id: str
    proof: bytes
    root: bytes
    parameters: str
    log_rows: int

    def __repr__(self) -> str:
        """Without the proof's hundreds of kilobytes."""
        return f"ProofRecord({self.batch_id!r}, {len(self.proof)} bytes, {self.parameters!r})"


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE proofs (batch_id TEXT PRIMARY KEY, root BLOB NOT NULL, parameters TEXT NOT NULL,"
        " log_rows INTEGER NOT NULL, sha256 BLOB NOT NULL, proof BLOB NOT NULL) STRICT"
    )


#: Proofs that are kept in memory: a proof is posted moments after it was stored.
CACHE_BYTES = 32 * 2**20


class ProofStore:
    """The file `proofs.sqlite3`, its latest proofs in memory too. Every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file.

        Raises:
            StoreCorrupted: it is damaged.
            LogUnwritable: the disk refuses.
        """
        self.path = path
        with typed_faults(self.path):
            self._database = Database(path, migrations=(_create,))
        self._cache: OrderedDict[str, ProofRecord] = OrderedDict()
        self._cached_bytes = 0
        self._cache_lock = threading.Lock()

    def put(self, records: Iterable[ProofRecord]) -> None:
        """Stores proofs durably; one that is there already is replaced."""
        kept = list(records)
        rows = [
            (r.batch_id, r.root, r.parameters, r.log_rows, sha256(r.proof).digest(), r.proof) for r in kept
        ]
        with typed_faults(self.path), self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?, ?, ?)", rows)
        for record in kept:
            self._remember(record)

    def get(self, batch_id: str) -> ProofRecord | None:
        """The proof of a batch, or None where there is none.

        Raises:
            StoreCorrupted: the file holds other bytes than were written.
        """
        with self._cache_lock:
            cached = self._cache.get(batch_id)
            if cached is not None:
                self._cache.move_to_end(batch_id)
                return cached
        with typed_faults(self.path), self._database.read() as connection:
            row = connection.execute(
                "SELECT proof, root, parameters, log_rows, sha256 FROM proofs WHERE batch_id = ?", (batch_id,)
            ).fetchone()
        if row is None:
            return None
        if sha256(row[0]).digest() != row[4]:
            raise StoreCorrupted(self.path, f"the proof of batch {batch_id} is not the one that was stored")
        return ProofRecord(batch_id, *row[:4])

    @property
    def cached_bytes(self) -> int:
        """What the proofs in memory take."""
        return self._cached_bytes

    def drop_cache(self) -> None:
        """Lets go of the proofs in memory; they are on the disk."""
        with self._cache_lock:
            self._cache.clear()
            self._cached_bytes = 0

    def _remember(self, record: ProofRecord) -> None:
        with self._cache_lock:
            self._let_go(record.batch_id)
            self._cache[record.batch_id] = record
            self._cached_bytes += len(record.proof)
            while self._cached_bytes > CACHE_BYTES:
                self._let_go(next(iter(self._cache)))

    def _let_go(self, batch_id: str) -> None:
        record = self._cache.pop(batch_id, None)
        if record is not None:
            self._cached_bytes -= len(record.proof)

    def batch_ids(self) -> frozenset[str]:
        """The batches that have a proof here."""
        with typed_faults(self.path), self._database.read() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT batch_id FROM proofs"))

    def forget(self, batch_ids: Sequence[str]) -> None:
        """Removes proofs, of batches that were dissolved."""
        with typed_faults(self.path), self._database.write() as connection:
            connection.executemany(
                "DELETE FROM proofs WHERE batch_id = ?", [(batch_id,) for batch_id in batch_ids]
            )
        with self._cache_lock:
            for batch_id in batch_ids:
                self._let_go(batch_id)

    def drop_orphans(self, known_ids: Collection[str]) -> int:
        """Forgets what no logged batch names (a crash came between two commits); returns how many."""
        orphans = [batch_id for batch_id in self.batch_ids() if batch_id not in known_ids]
        if orphans:
            self.forget(orphans)
        return len(orphans)

    def close(self) -> None:
        self._database.close()
