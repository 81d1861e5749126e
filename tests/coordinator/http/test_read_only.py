"""A damaged log: the process serves and says so, and takes no writes."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from coordinator.client.errors import Unavailable
from coordinator.client.retry import NO_RETRY
from coordinator.client.sync import Client
from tests.coordinator.conftest import OPERATOR_TOKEN, RunningSystem

ENVIRON = {
    "AGENC_ADMIN_TOKEN": OPERATOR_TOKEN,
    "AGENC_ADMIN_WORKERS_PORT": "0",
    "AGENC_AGENTS_OPEN_REGISTRATION": "true",
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("damaged")
    with running(folder) as system, Client(system.url) as client:
        for at in range(5):
            client.register_agent(f"agent-{at}", agent_key=bytes(32))
    with sqlite3.connect(folder / "log.sqlite3") as log:
        log.execute("UPDATE log SET body = CAST(body || x'00' AS BLOB) WHERE seq = 3")
    log.close()
    with running(folder) as system:
        yield system


@contextmanager
def running(folder: Path) -> Iterator[RunningSystem]:
    system = RunningSystem(folder, ENVIRON)
    system.start()
    yield system
    system.stop()


def test_it_is_alive_but_not_ready(damaged: RunningSystem) -> None:
    health = httpx.get(f"{damaged.url}/health")
    assert (health.status_code, health.json()["status"]) == (200, "unhealthy")
    ready = httpx.get(f"{damaged.url}/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert ready.json()["reasons"]


def test_what_is_wrong_is_said(damaged: RunningSystem) -> None:
    check = httpx.get(f"{damaged.url}/admin/integrity-check", timeout=60).json()
    assert check["status"] == "corrupted"
    assert check["log"]["at_event"] == 3
    assert httpx.get(f"{damaged.url}/admin/status").json()["read_only"]
    assert "speculation_health_score 0\n" in httpx.get(f"{damaged.url}/metrics").text


def test_writes_are_refused_with_a_time_to_come_again(damaged: RunningSystem) -> None:
    body = {"agent_id": "late", "agent_key": "00" * 32}
    response = httpx.post(f"{damaged.url}/v1/agents", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "read_only")
    assert int(response.headers["retry-after"]) > 0
    with Client(damaged.url, token=OPERATOR_TOKEN, retry=NO_RETRY) as operator, pytest.raises(Unavailable):
        operator.set_config({"speculation.enabled": True})


def test_reads_go_on(damaged: RunningSystem) -> None:
    for path in ("/admin/audit", "/admin/stake/status", "/admin/blocked-operations", "/v1/operations"):
        assert httpx.get(f"{damaged.url}{path}").status_code == 200, path
