from typing import Any

import httpx
import msgspec
import pytest

from coordinator.answers import AgentAnswer
from coordinator.client.aio import AsyncClient
from coordinator.replay import audit as auditing
from coordinator.replay.audit import Audit, AuditError, audit

AGENT = AgentAnswer(
    agent_id="x",
    agent_key="00" * 32,
    balance_lamports=890,
    bonded_lamports=0,
    slashed_lamports=110,
    cooldown_until=None,
    in_rollout=True,
)
STAKE = {
    "locked_lamports": 0,
    "free_lamports": 890,
    "treasury_lamports": 110,
    "deposited_lamports": 1000,
    "withdrawn_lamports": 0,
}
SOUND = {"status": "ok", "invariants": {"stake_conservation": True, "acyclic": True}, "problems": []}


async def audited(
    monkeypatch: pytest.MonkeyPatch, *, stake: Any = STAKE, integrity: Any = SOUND, **agent: Any
) -> Audit:
    """An audit of a system that answers just so, over the real client and the real parsing."""
    known = msgspec.to_builtins(msgspec.structs.replace(AGENT, **agent))
    answers = {
        "/v1/agents/x": known,
        "/admin/stake/status": stake,
        "/admin/integrity-check": integrity,
    }
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    plain = httpx.AsyncClient
    monkeypatch.setattr(
        auditing.httpx, "AsyncClient", lambda **given: plain(**given | {"transport": transport})
    )
    async with AsyncClient("http://system", transport=transport) as client:
        return await audit(client, "http://system", agent_ids=["x"], deposited_lamports=1000)


async def test_a_sound_system_has_no_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await audited(monkeypatch)
    assert found.complaints == []
    assert found.stake_conserved
    assert found.slashed_lamports == {"x": 110}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stake": STAKE | {"free_lamports": 889}}, "1,000 lamports came in, 999 are there"),
        ({"balance_lamports": 891}, "they own 891 now, the treasury 110"),
        ({"bonded_lamports": 5}, "5 lamports are still bonded"),
    ],
)
async def test_a_lamport_that_is_lost_or_made_is_found(
    changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await audited(monkeypatch, **changes)
    assert not found.stake_conserved
    assert any(words in complaint for complaint in found.complaints)


async def test_an_invariant_that_is_broken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"status": "corrupted", "invariants": {"acyclic": False}, "problems": ["a → a"]}
    found = await audited(monkeypatch, integrity=broken)
    assert found.complaints == [
        "invariant acyclic does not hold",
        "the integrity check says corrupted: a → a",
    ]


async def test_an_answer_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuditError, match="/admin/stake/status"):
        await audited(monkeypatch, stake={"free_lamports": "many"})
