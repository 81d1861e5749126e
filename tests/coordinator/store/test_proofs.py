"""Proofs come back byte for byte, or not at all."""

import os
import sqlite3
from pathlib import Path

import pytest

from coordinator.store.errors import StoreCorrupted
from coordinator.store.proofs import ProofRecord, ProofStore


@pytest.fixture
def store(tmp_path: Path) -> ProofStore:
    return ProofStore(tmp_path / "proofs.sqlite3")


def record(batch_id: str) -> ProofRecord:
    return ProofRecord(batch_id, os.urandom(50_000), os.urandom(32), "standard", 12)


def test_a_proof_comes_back_after_a_restart(store: ProofStore) -> None:
    first, second = record("batch-1"), record("batch-2")
    store.put([first, second])
    store.close()
    store = ProofStore(store.path)
    assert [store.get("batch-1"), store.get("batch-2"), store.get("batch-3")] == [first, second, None]
    assert store.batch_ids() == {"batch-1", "batch-2"}
    store.close()


def test_a_proof_that_comes_again_replaces_the_first(store: ProofStore) -> None:
    store.put([record("batch-1")])
    second = record("batch-1")
    store.put([second])
    assert store.get("batch-1") == second
    store.close()


def test_forgotten_and_orphaned_proofs_are_gone(store: ProofStore) -> None:
    store.put([record(f"batch-{n}") for n in range(5)])
    store.forget(["batch-0", "never heard of"])
    assert store.batch_ids() == {f"batch-{n}" for n in range(1, 5)}
    assert store.drop_orphans({"batch-2", "batch-9"}) == 3
    assert store.drop_orphans({"batch-2"}) == 0
    assert store.batch_ids() == {"batch-2"}
    store.close()


def test_other_bytes_than_were_stored_are_never_given_out(store: ProofStore) -> None:
    good, bad = record("good"), record("bad")
    store.put([good, bad])
    connection = sqlite3.connect(store.path)
    connection.execute("UPDATE proofs SET proof = ? WHERE batch_id = 'bad'", (bad.proof[:-1] + b"?",))
    connection.commit()
    connection.close()
    assert store.get("bad") == bad, "what is in memory is what was written"
    store.drop_cache()
    assert store.get("good") == good
    with pytest.raises(StoreCorrupted, match="batch bad"):
        store.get("bad")
    store.close()
