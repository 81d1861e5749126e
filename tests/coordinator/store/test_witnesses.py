"""Witnesses come back while they are needed; what was erased is in no file any more."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.store import witnesses
from coordinator.store.database import sqlite_files
from coordinator.store.errors import StoreCorrupted
from coordinator.store.witnesses import Witness, WitnessStore


@pytest.fixture
def store(tmp_path: Path) -> WitnessStore:
    return WitnessStore(tmp_path / "witnesses.sqlite3")


def witness(name: str, *, secret: bytes | None = None) -> Witness:
    return Witness(name, f"output of {name}".encode(), os.urandom(24), secret or os.urandom(24))


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sqlite_files(path) if file.exists())


@given(
    contents=st.dictionaries(
        st.text(min_size=1), st.tuples(st.binary(), st.binary(), st.binary()), max_size=8
    )
)
@settings(max_examples=20, deadline=None)
def test_witnesses_come_back_as_they_were_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, tuple[bytes, bytes, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("witnesses") / "witnesses.sqlite3"
    expected = {name: Witness(name, *parts) for name, parts in contents.items()}
    store = WitnessStore(path)
    store.put(expected.values())
    store.close()
    store = WitnessStore(path)
    assert store.get([*expected, "somebody else's"]) == expected
    assert all(store.output(name) == parts[0] for name, parts in contents.items())
    assert store.output("somebody else's") is None
    store.close()


def test_a_witness_that_comes_again_replaces_the_first(store: WitnessStore) -> None:
    first, second = witness("a"), Witness("a", b"other", bytes(24), bytes(range(24)))
    store.put([first, witness("b")])
    store.put([second])
    assert store.get(["a"]) == {"a": second}
    assert store.with_secrets() == {"a", "b"}
    store.close()


def test_an_erased_secret_is_gone_and_the_rest_is_not(store: WitnessStore) -> None:
    kept, erased = witness("kept"), witness("erased")
    store.put([kept, erased])
    store.erase_secrets(["erased", "never heard of"])
    assert store.get(["kept", "erased"]) == {
        "kept": kept,
        "erased": Witness("erased", erased.output, erased.salt, None),
    }
    assert store.with_secrets() == {"kept"}
    store.erase_secrets(["erased"])
    store.put([erased, Witness("kept", kept.output, kept.salt, None)])
    assert store.get(["erased"]) == {"erased": erased}
    assert store.with_secrets() == {"erased"}
    store.close()


def test_many_at_once(store: WitnessStore) -> None:
    witnesses = {f"operation-{n}": witness(f"operation-{n}") for n in range(5000)}
    store.put(witnesses.values())
    assert store.get(list(witnesses)) == witnesses
    store.erase_secrets(list(witnesses))
    assert store.with_secrets() == frozenset()
    store.close()


def test_no_file_holds_an_erased_secret(store: WitnessStore) -> None:
    """In random order, between other writes, so that pages split and cells move as they do in a long run."""
    order = random.Random(7)
    live: dict[str, bytes] = {}
    erased: list[bytes] = []
    for step in range(60):
        fresh = [witness(f"{step}-{n}") for n in range(order.randrange(1, 80))]
        store.put(fresh)
        live |= {w.operation_id: w.secret for w in fresh if w.secret is not None}
        gone = order.sample(sorted(live), order.randrange(0, len(live) // 2 + 1))
        if step % 3 == 0:
            store.forget(gone)
        else:
            store.erase_secrets(gone)
        erased += [live.pop(name) for name in gone]
    content = on_disk(store.path)
    assert len(erased) > 500
    assert [secret for secret in erased if secret in content] == []
    assert [secret for secret in live.values() if secret not in content] == []
    store.close()


def test_a_crash_before_the_wal_was_truncated_is_made_up_for_at_the_next_start(
    store: WitnessStore, tmp_path: Path
) -> None:
    gone = witness("gone", secret=os.urandom(24))
    assert gone.secret is not None
    store.put([gone])
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("DELETE FROM secrets")
    connection.commit()
    crashed = Path(shutil.copytree(tmp_path, tmp_path / "crashed")) / store.path.name
    connection.close()
    store.close()
    assert gone.secret in on_disk(crashed)
    reopened = WitnessStore(crashed)
    assert gone.secret not in on_disk(crashed)
    reopened.close()


def test_a_forgotten_witness_leaves_neither_output_nor_salt(store: WitnessStore) -> None:
    kept = witness("kept")
    gone = Witness("gone", os.urandom(20_000), os.urandom(24), os.urandom(24))
    store.put([kept, gone])
    store.forget(["gone"])
    content = on_disk(store.path)
    for private in (gone.output[:64], gone.output[9_000:9_064], gone.salt, gone.secret):
        assert private not in content
    assert store.get(["kept", "gone"]) == {"kept": kept}
    store.close()


def test_orphans_are_dropped(store: WitnessStore) -> None:
    store.put([witness(name) for name in ("a", "b", "c")])
    assert store.drop_orphans({"b", "never written"}.__contains__) == 2
    assert store.drop_orphans({"b"}.__contains__) == 0
    assert store.get(["a", "b", "c"]).keys() == {"b"}
    assert store.with_secrets() == {"b"}
    store.close()


def test_a_witness_does_not_show_what_is_private() -> None:
    text = repr(Witness("o", b"the output", b"the salt", b"the secret"))
    assert text == "Witness('o', output of 10 bytes)"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "witnesses.sqlite3"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreCorrupted, match=r"witnesses\.sqlite3 is damaged"):
        WitnessStore(path)


def test_orphans_are_looked_for_among_the_last_only(
    store: WitnessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "_KNOWN_IN_A_ROW", 3)
    store.put([witness(name) for name in ("old", "a", "b", "c", "gone", "d", "lost")])
    asked: list[str] = []

    def is_known(operation_id: str) -> bool:
        asked.append(operation_id)
        return operation_id in ("a", "b", "c", "d")

    assert store.drop_orphans(is_known) == 2
    assert asked == ["lost", "d", "gone", "c", "b", "a"]
    store.close()
