"""Recovery over HTTP: a damaged log is said to be so, and rebuilt in the serving process; then everything serves."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.chain.faults import NO_FAULTS, FaultPlan
from coordinator.client.errors import Conflict
from coordinator.client.sync import Client
from coordinator.store.log import DAMAGED_FOLDER, HEAD_FILE, LOG_FILE
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem
from workers.statement import agent_key

ENVIRON = {
    "AGENC_ADMIN_TOKEN": OPERATOR_TOKEN,
    "AGENC_ADMIN_WORKERS_PORT": "0",
    "AGENC_AGENTS_OPEN_REGISTRATION": "true",
    "AGENC_CHAIN_SLOT_MS": "20",
    "AGENC_SPECULATION_ENABLED": "true",
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
    "AGENC_STORE_SNAPSHOT_AFTER": "1000000",
}
TOKEN = {"authorization": f"Bearer {OPERATOR_TOKEN}"}
TIMEOUT_S = 60

#: Each test goes on where the one before it left the folder.
pytestmark = pytest.mark.xdist_group("recovery")


@contextmanager
def running(folder: Path) -> Iterator[RunningSystem]:
    system = RunningSystem(folder, ENVIRON)
    system.start()
    try:
        yield system
    finally:
        system.stop()


def get(system: RunningSystem, path: str) -> Any:
    return httpx.get(f"{system.url}{path}", timeout=TIMEOUT_S).json()


def register(system: RunningSystem, name: str) -> Actor:
    secret = name.encode().ljust(24, b"!")
    with Client(system.url) as client:
        registered = client.register_agent(name, agent_key=agent_key(secret), deposit_lamports=500_000_000)
    return Actor(name, secret, registered.token, system.url)


def confirm(actor: Actor, *names: str) -> None:
    with actor.client as client:
        for name in names:
            client.submit(actor.body(name))
        for name in names:
            assert client.wait(name, timeout_s=TIMEOUT_S).state == "CONFIRMED"


def rebuild(system: RunningSystem) -> dict[str, Any]:
    """Begins a rebuild as the runbook does, and waits for its end."""
    body = {"action": "rebuild_state", "from_slot": "latest_confirmed"}
    response = httpx.post(f"{system.url}/admin/recovery", json=body, headers=TOKEN)
    assert response.status_code == 202, response.text
    deadline_s = time.monotonic() + TIMEOUT_S
    while (status := get(system, "/admin/recovery/status"))["status"] == "in_progress":
        assert time.monotonic() < deadline_s, status
        time.sleep(0.05)
    assert isinstance(status, dict)
    return status


def damage(folder: Path, seq: int) -> None:
    with sqlite3.connect(folder / LOG_FILE) as log:
        log.execute("UPDATE log SET at_ms = at_ms + 1 WHERE seq = ?", (seq,))
    log.close()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Actor]:
    """A data folder with confirmed operations, one that is not, and a deposit after the damage; damaged."""
    folder = tmp_path_factory.mktemp("history")
    with running(folder) as system:
        actor = register(system, "alice")
        confirm(actor, "first", "second")
        with actor.client as client:
            client.deposit("alice", 7)
            system.on_loop(system.service.parts.stop_loops)  # the chain hears nothing more of it
            client.submit(actor.body("open", "first"))
            client.deposit("alice", 1_000)
    return folder, actor


def test_a_rebuild_of_a_sound_log_loses_nothing(history: tuple[Path, Actor]) -> None:
    folder, actor = history
    with running(folder) as system:
        actor.url = system.url
        assert get(system, "/admin/recovery/status")["status"] == "idle"
        status = rebuild(system)
        assert (status["status"], status["source"], status["losses"]) == ("done", "log", None)
        with actor.client as client:
            assert client.wait("open", timeout_s=TIMEOUT_S).state == "CONFIRMED"
        assert get(system, "/admin/integrity-check")["status"] == "ok"
        assert get(system, "/admin/audit?limit=1")[0]["action"] == "rebuild_state"
        system.on_loop(system.service.parts.stop_loops)
        with actor.client as client:
            client.submit(actor.body("lost"))


def test_a_damaged_log_is_rebuilt_from_the_chain(history: tuple[Path, Actor]) -> None:
    folder, actor = history
    damage(folder, 4)
    with running(folder) as system:
        actor.url = system.url
        before = get(system, "/admin/integrity-check")
        assert before["status"] == "corrupted"
        assert before["log"]["at_event"] == 4
        assert httpx.get(f"{system.url}/ready").status_code == 503
        assert get(system, "/health/detailed")["log"]["state"] == "damaged"

        status = rebuild(system)
        assert (status["status"], status["source"]) == ("done", "chain"), status
        assert status["losses"]["operations"] == ["lost"]
        assert status["losses"]["agents_without_token"] == []
        assert status["confirmed_operations"] == 3
        aside = folder / status["set_aside"]
        assert aside.parent.name == DAMAGED_FOLDER
        assert (aside / LOG_FILE).is_file()

        assert httpx.get(f"{system.url}/ready").status_code == 200
        check = get(system, "/admin/integrity-check")
        assert check["status"] == "ok", check
        assert check["chain"]["balances_compared"]
        with actor.client as client:
            agent = client.agent("alice")
            assert (agent.balance_lamports, agent.bonded_lamports) == (500_001_007, 0)
            with pytest.raises(Conflict):
                client.submit(actor.body("first"))  # with another salt; its id is known again
        confirm(actor, "afterwards")
    with running(folder) as system:
        assert get(system, "/admin/integrity-check")["status"] == "ok"
        assert get(system, "/v1/agents/alice")["balance_lamports"] == 500_001_007


def test_a_log_that_is_gone_is_rebuilt_too(history: tuple[Path, Actor]) -> None:
    folder, _ = history
    (folder / LOG_FILE).unlink()
    with running(folder) as system:
        assert get(system, "/admin/integrity-check")["status"] == "corrupted"
        status = rebuild(system)
        assert (status["status"], status["source"], status["confirmed_operations"]) == ("done", "chain", 4)
        assert status["losses"]["agents_without_token"] == [], "a snapshot still knew it"
        assert get(system, "/v1/agents/alice")["balance_lamports"] == 500_001_007
        assert get(system, "/admin/integrity-check")["status"] == "ok"


def test_names_that_nobody_knows_any_more_are_given_anew(history: tuple[Path, Actor]) -> None:
    """Log, mark and snapshots are gone, and a rebuild was interrupted: the chain alone is left."""
    folder, actor = history
    (folder / LOG_FILE).unlink()
    (folder / HEAD_FILE).unlink()
    for path in (folder / "snapshots").iterdir():
        path.unlink()
    (folder / "rebuilding").write_text("no-such-label")
    with running(folder) as system:
        assert "interrupted" in get(system, "/admin/integrity-check")["log"]["detail"]
        status = rebuild(system)
        assert (status["status"], status["losses"]["agents_without_token"]) == ("done", ["alice"])
        assert not (folder / "rebuilding").exists()
        agent = get(system, "/v1/agents/alice")
        assert agent["balance_lamports"] == 500_001_007
        issue = f"{system.url}/admin/agent/alice/token"
        assert httpx.post(issue).status_code == 401
        refused = httpx.post(issue, headers=TOKEN, json={"agent_key": "01" * 32})
        assert refused.json()["error"]["detail"]["field"] == "agent_key", "the chain knows it"
        actor.token = httpx.post(issue, headers=TOKEN).json()["token"]
        actor.url = system.url
        confirm(actor, "anew")
        assert get(system, "/admin/audit?limit=1")[0]["action"] == "issue_token"
        assert get(system, "/admin/integrity-check")["status"] == "ok"


def test_damage_that_comes_while_it_serves_stops_the_writes(tmp_path: Path) -> None:
    with running(tmp_path) as system:
        actor = register(system, "bob")
        confirm(actor, "op")
        assert get(system, "/admin/integrity-check")["status"] == "ok"
        damage(tmp_path, 1)
        assert get(system, "/admin/integrity-check")["status"] == "corrupted"
        with actor.client as client:
            refused = httpx.post(
                f"{system.url}/v1/agents/bob/deposit",
                json={"lamports": 1},
                headers={"authorization": f"Bearer {actor.token}"},
            )
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "read_only")
            chain = system.service.parts.chain
            chain._faults = FaultPlan.parse(["outage@t:0:1000000"])
            status = rebuild(system)
            assert (status["status"], status["source"]) == ("failed", "chain")
            assert "outage" in status["detail"]
            assert httpx.get(f"{system.url}/ready").status_code == 503, (
                "and it stays so until somebody tries again"
            )

            chain._faults = NO_FAULTS
            status = rebuild(system)
            assert (status["status"], status["source"]) == ("done", "chain")
            assert status["losses"]["agents_without_token"] == [], "memory still knew it"
            client.deposit("bob", 1)
        assert get(system, "/admin/integrity-check")["status"] == "ok"
