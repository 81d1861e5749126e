"""A disk that is full: reads go on, writes are refused and say why; with room again it serves again, without a restart.

On a real file system of a few megabytes, which only root can mount.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.coordinator.http.test_recovery import TIMEOUT_S, confirm, get, register, running


def fill(path: Path) -> None:
    """Writes to a file until no block is left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_writes_until_there_is_room(small_disk: Path) -> None:
    with running(small_disk / "data") as system:
        actor = register(system, "alice")
        confirm(actor, "before")
        headers = {"authorization": f"Bearer {actor.token}"}
        deposit = f"{system.url}/v1/agents/alice/deposit"
        balance = get(system, "/v1/agents/alice")["balance_lamports"]

        filler = small_disk / "filler"
        fill(filler)
        deadline_s = time.monotonic() + TIMEOUT_S
        while (answer := httpx.post(deposit, json={"lamports": 1}, headers=headers)).status_code == 200:
            balance += 1
            assert time.monotonic() < deadline_s
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "read_only")
        assert httpx.get(f"{system.url}/ready").status_code == 503
        log = get(system, "/health/detailed")["log"]
        assert log["state"] == "read_only"
        assert "full" in log["reason"]
        assert get(system, "/health")["status"] == "unhealthy"
        assert get(system, "/v1/operations/before")["state"] == "CONFIRMED"
        assert get(system, "/admin/integrity-check")["status"] == "ok", "full is not damaged"

        filler.unlink()
        while httpx.get(f"{system.url}/ready").status_code == 503:
            assert time.monotonic() < deadline_s, get(system, "/health/detailed")
            time.sleep(0.1)
        assert get(system, "/health/detailed")["log"]["reloads"] == 1
        assert get(system, "/v1/agents/alice")["balance_lamports"] == balance, (
            "what was acknowledged, no more"
        )
        assert httpx.post(deposit, json={"lamports": 1}, headers=headers).status_code == 200
        confirm(actor, "after")
        assert get(system, "/admin/integrity-check")["status"] == "ok"
