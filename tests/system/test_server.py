"""`agenc up` as operators and programs see it, and replays against a system that runs already."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest

from coordinator.cli.main import invoke
from coordinator.replay.embedded import Embedded, EmbeddedError
from coordinator.replay.profile import embedded_environment
from workers.batch_proof import Wire

AGENC = [sys.executable, "-m", "coordinator.cli.main"]
START_S = 90.0

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(240)]

WORKFLOW = {
    "name": "pair",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"id": "first step", "name": "first", "parents": [], "children": ["second/step"]},
                {"id": "second/step", "name": "second", "parents": ["first step"], "children": []},
            ]
        },
        "execution": {
            "makespanInSeconds": 0.2,
            "executedAt": "2026-01-01T00:00:00Z",
            "tasks": [
                {"id": "first step", "runtimeInSeconds": 0.1},
                {"id": "second/step", "runtimeInSeconds": 0.1},
            ],
        },
    },
}


@contextmanager
def server(data: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `agenc up` and its URL; stopped here at the latest."""
    arguments = ["up", "--port", "0", "--workers-port", "0", "--data-dir", str(data), *options]
    process = subprocess.Popen(
        [*AGENC, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        deadline_s = time.monotonic() + START_S
        while not (data / "endpoints.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline_s, "the server does not start"
            time.sleep(0.1)
        yield process, json.loads((data / "endpoints.json").read_text())["url"]
    finally:
        if process.poll() is None:  # the test failed before it stopped it
            process.terminate()
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_server_answers_alone_on_its_folder_and_port_until_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with server(data) as (process, url):
        endpoints = json.loads((data / "endpoints.json").read_text())
        assert httpx.get(url + "/health").json()["status"] == "healthy"
        assert httpx.get(endpoints["workers_url"] + "/health").is_success
        assert invoke(["up", "--port", "0", "--workers-port", "0", "--data-dir", str(data)]) == 2
        assert "in use by process" in capsys.readouterr().err
        port = url.rpartition(":")[2]
        assert invoke(["up", "--port", port, "--data-dir", str(tmp_path / "other")]) == 2
        assert f"port {port}" in capsys.readouterr().err
        said, complained = _stop(process, signal.SIGINT)
    assert url in said
    assert "shown this once" in said
    assert "Traceback" not in complained
    assert not (data / "endpoints.json").exists()


def _stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """Stops a server with a signal; it ends in time and calls that a success."""
    process.send_signal(number)
    said, complained = process.communicate(timeout=45)
    assert process.returncode == 0, complained
    return said, complained


def test_a_server_that_others_can_reach_needs_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AGENC_ADMIN_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert invoke(["up", "--host", host, "--data-dir", str(tmp_path / "data")]) == 2
        assert "AGENC_ADMIN_TOKEN" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"faults": ["flood@t:1:1"]}', '{"faults": [], "tasks": {"a": "zz"}}', '{"more": 1}']
)
def test_a_broken_faults_file_starts_nothing(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "faults.json"
    path.write_text(text)
    assert invoke(["up", "--data-dir", str(tmp_path / "data"), "--faults", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"agenc: --faults {path}: ")
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_running_system_is_replayed_against_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pair.json"
    path.write_text(json.dumps(WORKFLOW))
    token = "an-operators-token-for-this-test"
    environment = embedded_environment(speculation=True) | {"AGENC_AGENTS_OPEN_REGISTRATION": "false"}
    with server(tmp_path / "data", **environment, AGENC_ADMIN_TOKEN=token) as (process, url):
        monkeypatch.delenv("AGENC_ADMIN_TOKEN", raising=False)
        arguments = ["run", str(path), "--url", url, "--agents", "2"]
        assert invoke([*arguments, "--out", str(tmp_path / "refused")]) == 1
        assert "unauthorized" in capsys.readouterr().err
        monkeypatch.setenv("AGENC_ADMIN_TOKEN", token)
        for number, modes in (("one", []), ("two", ["--no-speculation"])):
            report = tmp_path / f"{number}.json"
            told = ["--out", str(tmp_path / number), "--report", str(report), *modes]
            assert invoke([*arguments, *told]) == 0, capsys.readouterr()
            runs = json.loads(report.read_text())["runs"]
            assert {run["confirmed"] for run in runs} == {2}
            assert runs[0]["denials"] == {}
        confirmed = httpx.get(url + "/v1/operations", params={"state": "CONFIRMED"}).json()["operations"]
        assert len(confirmed) == 6
        _check_both_encodings(url, confirmed[0]["operation_id"], tmp_path)
        _stop(process, signal.SIGTERM)


def _check_both_encodings(url: str, operation_id: str, folder: Path) -> None:
    """A receipt is to be had with the plain and with the pruned proof, and a stranger's program accepts both."""
    sizes = []
    for wire in Wire:
        path = f"/v1/operations/{quote(operation_id, safe='')}/proof"
        receipt = httpx.get(url + path, params={"wire": wire.value}).raise_for_status()
        assert receipt.json()["parameters"]["wire"] == wire.value
        sizes.append(len(receipt.content))
        kept = folder / f"{wire.value}.json"
        kept.write_bytes(receipt.content)
        assert invoke(["verify", str(kept)]) == 0
    assert sizes[1] <= 0.65 * sizes[0]


async def test_a_system_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = {"AGENC_STRICT": "true", "AGENC_SPECULATION_MAX_DEPTH": "99"}
    with pytest.raises(EmbeddedError, match="max_depth"):
        async with Embedded(tmp_path / "system", environment=broken):
            pytest.fail("it cannot have started")


@pytest.mark.usefixtures("nothing_left_behind")
def test_the_embedded_system_stops_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from coordinator.replay.embedded import Embedded
async def main():
    async with Embedded(Path({str(tmp_path)!r}), environment={{}}) as system:
        print(system.endpoints.url, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline().startswith("http://")
    served = json.loads((tmp_path / "data" / "endpoints.json").read_text())["pid"]
    starter.kill()
    starter.communicate()
    gone, _ = psutil.wait_procs([psutil.Process(served)], timeout=60)
    assert gone


def test_a_url_that_nobody_answers_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--url", "http://127.0.0.1:9", "--out", str(tmp_path / "out")]
    assert invoke(arguments) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("agenc: ")
    assert complaint.count("\n") == 1
