"""Settlements are posted once, whole, and neither make nor lose a lamport."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.chain.interface import EXTERNAL, SettlementRefused
from coordinator.chain.ledger import Ledger, create_ledger
from coordinator.chain.local import CHAIN_FILE, LocalChain
from coordinator.store.database import Database

World = Any


@pytest.fixture
def chain(world: World) -> LocalChain:
    chain: LocalChain = world.chain
    return chain


def test_a_deposit_a_slash_and_a_withdrawal(chain: LocalChain) -> None:
    chain.settle(1, [(EXTERNAL, -100), ("agent", 100)])
    chain.settle(2, [("agent", -10), ("victim", 5), ("treasury", 5)])
    chain.settle(3, [("agent", -90), (EXTERNAL, 90)])
    assert chain.balances() == {EXTERNAL: -10, "agent": 0, "treasury": 5, "victim": 5}
    assert chain.ledger_complaints() == []


def test_posting_it_again_changes_nothing(chain: LocalChain) -> None:
    for _ in range(3):
        chain.settle(1, [(EXTERNAL, -100), ("agent", 100)])
    chain.settle(1, [("agent", 60), (EXTERNAL, -100), ("agent", 40)])  # the same sums, written otherwise
    assert chain.balances() == {EXTERNAL: -100, "agent": 100}


def test_an_id_keeps_its_first_entries(chain: LocalChain) -> None:
    chain.settle(1, [(EXTERNAL, -100), ("agent", 100)])
    with pytest.raises(SettlementRefused, match="with other entries"):
        chain.settle(1, [(EXTERNAL, -200), ("agent", 200)])
    assert chain.balances() == {EXTERNAL: -100, "agent": 100}


@pytest.mark.parametrize(
    ("entries", "detail"),
    [
        ([(EXTERNAL, -100), ("agent", 101)], "sum to 1 lamports"),
        ([("agent", -11), ("treasury", 11)], "agent has 10 lamports"),
        ([("treasury", 1), ("nobody", -1)], "nobody has 0 lamports"),
        ([(EXTERNAL, -(2**63)), ("agent", 2**63)], "would exceed 63 bits"),
    ],
)
def test_a_refused_settlement_posts_nothing_and_may_come_again_right(
    chain: LocalChain, entries: list[tuple[str, int]], detail: str
) -> None:
    chain.settle(1, [(EXTERNAL, -10), ("agent", 10)])
    with pytest.raises(SettlementRefused, match=detail) as caught:
        chain.settle(2, entries)
    assert caught.value.settlement_id == 2
    assert chain.balances() == {EXTERNAL: -10, "agent": 10}
    chain.settle(2, [("agent", -1), ("treasury", 1)])
    assert chain.balances() == {EXTERNAL: -10, "agent": 9, "treasury": 1}


def test_a_settlement_without_entries_is_posted(chain: LocalChain) -> None:
    chain.settle(1, [])
    with pytest.raises(SettlementRefused, match="with other entries"):
        chain.settle(1, [(EXTERNAL, -1), ("agent", 1)])


def test_the_last_settlement_is_known_after_a_restart(world: World) -> None:
    assert world.chain.last_settlement() == 0
    world.chain.settle(3, [(EXTERNAL, -1), ("agent", 1)])
    world.chain.settle(2, [])
    world.restart()
    assert world.chain.last_settlement() == 3


def test_tampering_with_an_account_is_found(chain: LocalChain, tmp_path: Path) -> None:
    chain.settle(1, [(EXTERNAL, -100), ("agent", 60), ("other", 40)])
    connection = sqlite3.connect(tmp_path / CHAIN_FILE)
    connection.execute("UPDATE accounts SET lamports = 90 WHERE account = 'agent'")
    connection.execute("UPDATE accounts SET lamports = -5 WHERE account = 'other'")
    connection.commit()
    connection.close()
    assert chain.ledger_complaints() == [
        "other is at -5 lamports",
        "all accounts sum to -15 lamports, not to zero",
        "agent has 90 lamports, its settlements sum to 60",
        "other has -5 lamports, its settlements sum to 40",
    ]


ACCOUNTS = [EXTERNAL, "treasury", "a", "b"]
SETTLEMENTS = st.lists(
    st.tuples(
        st.integers(0, 12),  # 0 is no id and is refused
        st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(-50, 50)), max_size=4),
        st.booleans(),
    ),
    max_size=30,
)


@given(settlements=SETTLEMENTS)
@settings(max_examples=40, deadline=None)
def test_lamports_are_conserved_whatever_is_posted(
    tmp_path_factory: pytest.TempPathFactory, settlements: list[tuple[int, list[tuple[str, int]], bool]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    database = Database(path, migrations=(create_ledger,))
    ledger = Ledger(database)
    posted: dict[int, list[tuple[str, int]]] = {}
    for settlement_id, entries, balanced in settlements:
        if balanced:
            entries = [*entries, (EXTERNAL, -sum(lamports for _, lamports in entries))]
        try:
            ledger.settle(settlement_id, entries)
        except SettlementRefused:
            continue
        posted.setdefault(settlement_id, entries)

    expected: dict[str, int] = {}
    for entries in posted.values():
        for account, lamports in entries:
            expected[account] = expected.get(account, 0) + lamports
    balances = ledger.balances()
    assert balances == expected
    assert sum(balances.values()) == 0
    assert all(lamports >= 0 for account, lamports in balances.items() if account != EXTERNAL)
    assert ledger.complaints() == []
    database.close()
