"""Upkeep in a serving system: snapshots, compaction, a start from a snapshot with the check behind it; memory."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.cli.main import invoke
from coordinator.client.sync import Client
from coordinator.store.snapshot import Snapshots
from tests.coordinator.http import test_recovery as recovery
from tests.coordinator.http.test_recovery import TIMEOUT_S, TOKEN, get, register


@pytest.fixture(scope="module", autouse=True)
def little_patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(recovery.ENVIRON, "AGENC_STORE_SNAPSHOT_AFTER", "100")
        patched.setitem(recovery.ENVIRON, "AGENC_STORE_COMPACT_AFTER", "1")
        yield


def until(system: Any, path: str, found: Any) -> Any:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not found(answer := get(system, path)):
        assert time.monotonic() < deadline_s, answer
        time.sleep(0.05)
    return answer


def test_a_long_history_is_snapshotted_compacted_backed_up_and_read_again(tmp_path: Path) -> None:
    data, backup, restored = tmp_path / "data", tmp_path / "backup", tmp_path / "restored"
    with recovery.running(data) as system:
        actor = register(system, "alice")
        with Client(system.url, token=actor.token) as client:
            client.submit_batch([actor.body() for _ in range(120)])
            until(system, "/health/detailed", lambda health: health["log"]["snapshot_at_event"] > 0)
            client.submit_batch([actor.body("last")])
            client.wait("last", timeout_s=TIMEOUT_S)
        parts = system.service.parts
        system.on_loop(parts.upkeep.snapshot)
        health = get(system, "/health/detailed")["log"]
        assert (health["state"], health["archived_segments"]) == ("writable", 1)
        assert health["since_snapshot"] < 100
        first_kept = get(system, "/admin/integrity-check")
        assert (first_kept["status"], first_kept["log"]["archived_segments"]) == ("ok", 1)
        assert httpx.get(f"{system.url}/v1/operations/last").status_code == 200
        assert invoke(["backup", str(backup), "--data-dir", str(data)]) == 0, "while it serves"
    assert len(Snapshots(data).paths()) == 2
    assert invoke(["restore", str(backup), "--data-dir", str(restored)]) == 0
    with recovery.running(restored) as system:
        health = until(system, "/health/detailed", lambda health: health["log"]["verification"] != "running")[
            "log"
        ]
        assert health["verification"] == "ok"
        assert health["verified_events"] >= health["snapshot_at_event"] > 0
        assert system.service.engine.state.totals.admitted == 121
        assert get(system, "/v1/operations/last")["state"] == "CONFIRMED"
        until(system, "/admin/status", lambda status: status["open_operations"] == 0)
        assert system.service.engine.state.totals.confirmed == 121, "what was under way goes on"
        assert get(system, "/admin/integrity-check")["status"] == "ok"


def test_memory_is_accounted_for_and_collected(tmp_path: Path) -> None:
    with recovery.running(tmp_path) as system:
        actor = register(system, "bob")
        system.on_loop(system.service.parts.stop_loops)
        with Client(system.url, token=actor.token) as client:
            client.submit(actor.body("root"))
            for number in range(3):
                client.submit(actor.body(f"child-{number}", "root" if not number else f"child-{number - 1}"))
            client.submit_batch([actor.body() for _ in range(200)])
        stats = get(system, "/admin/memory-stats")
        parts = ("state_snapshots_mb", "pending_operations_mb", "proof_cache_mb", "other_mb")
        assert set(stats) == {"total_mb", "limit_mb", *parts}
        assert stats["total_mb"] == pytest.approx(sum(stats[part] for part in parts), abs=1e-9)
        assert stats["limit_mb"] == 4096
        assert 0 < stats["pending_operations_mb"] < 204 * 4096 / 2**20
        detail = get(system, "/admin/operation/child-1")
        assert set(detail["rests_on"]) == {"root", "child-0"}
        collected = httpx.post(f"{system.url}/admin/gc", headers=TOKEN).json()
        assert collected["freed_mb"] == pytest.approx(
            collected["before"]["total_mb"] - collected["after"]["total_mb"], abs=0.002
        )
        assert "speculation_gc_duration_seconds_count 1" in httpx.get(f"{system.url}/metrics").text
        assert httpx.post(f"{system.url}/admin/gc").status_code == 401
