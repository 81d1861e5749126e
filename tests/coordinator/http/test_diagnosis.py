"""What an operator looks for causes with: the pipeline, profiles, pages of lists, the audit. Mock proofs."""

import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.cli.main import invoke
from coordinator.client.sync import Client
from coordinator.core.states import OperationState
from coordinator.pipeline import Stage
from coordinator.shell import profiling
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem

WAIT_S = 60.0
TOKEN = {"authorization": f"Bearer {OPERATOR_TOKEN}"}


@pytest.fixture
def http(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=90) as client:
        yield client


def post(http: httpx.Client, path: str, body: Any = None) -> httpx.Response:
    return http.post(path, content=None if body is None else json.dumps(body), headers=TOKEN)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def all_pages(http: httpx.Client, path: str) -> list[dict[str, Any]]:
    """Every item, following the Link headers."""
    found: list[dict[str, Any]] = []
    response = http.get(path)
    while True:
        found += response.json()
        if "next" not in response.links:
            return found
        response = http.get(response.links["next"]["url"])


class TestPipeline:
    def test_every_stage_of_what_was_confirmed(self, http: httpx.Client, actor: Actor) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
            client.wait(name, timeout_s=WAIT_S)
        found = http.get("/admin/pipeline/analyze").json()
        stages = {stage["stage"]: stage for stage in found["stages"]}
        assert list(stages) == list(Stage)
        assert stages["admit"]["mean_seconds"] > 0
        assert stages["confirm"]["mean_seconds"] > 0
        assert stages["confirm"]["floor_seconds"] == 0.12
        assert found["confirmed"] >= 1
        assert found["confirmed_per_second"] > 0

    def test_a_chain_that_takes_nothing_is_the_bottleneck(
        self, http: httpx.Client, actor: Actor, frozen_chain: None
    ) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
            client.wait(name, OperationState.PROVED, timeout_s=WAIT_S)
        # Its time so far has to outweigh what the operations before it waited for a worker.
        deadline_s = time.monotonic() + WAIT_S
        while (found := http.get("/admin/pipeline/bottlenecks").json())["bottleneck"] != "submit":
            assert time.monotonic() < deadline_s, found
            time.sleep(0.1)
        slowest = found["stages"][0]
        assert (slowest["stage"], slowest["operations_now"]) == ("submit", 1)
        assert slowest["knob"]["key"] == "chain.slot_ms"
        assert slowest["knob"]["value"] == 20
        assert slowest["knob"]["limited_by"].startswith("pinned by AGENC_CHAIN_SLOT_MS")
        assert len(found["stages"]) == len(Stage)

    @pytest.mark.parametrize("window", ["9", "3601", "x"])
    def test_a_window_of_another_kind(self, http: httpx.Client, window: str) -> None:
        for route in ("analyze", "bottlenecks"):
            assert code_of(http.get(f"/admin/pipeline/{route}?window={window}")) == (422, "invalid")


class TestProfiles:
    @pytest.mark.parametrize("target", ["coordinator", "w-1"])
    def test_a_profile_that_pprof_opens(self, http: httpx.Client, tmp_path: Path, target: str) -> None:
        worker = None if target == "coordinator" else target
        started = post(http, "/admin/debug/profile/start", {"duration_seconds": 1, "worker": worker})
        assert started.status_code == 200, started.text
        assert (started.json()["target"], started.json()["status"]) == (target, "running")
        again = post(http, "/admin/debug/profile/start", {"duration_seconds": 1})
        assert code_of(again) == (409, "profile_running")
        result = http.get("/admin/debug/profile/result")
        assert result.headers["content-type"] == "application/octet-stream"
        assert f"{target}: sampled".encode() in gzip.decompress(result.content)
        assert OPERATOR_TOKEN.encode() not in gzip.decompress(result.content)
        go = shutil.which("go")
        if go is None:
            pytest.skip("go is not installed: the profile was not opened with it")
        path = tmp_path / "profile.pb.gz"
        path.write_bytes(result.content)
        shown = subprocess.run(
            [go, "tool", "pprof", "-top", path], capture_output=True, text=True, check=True
        )
        assert "Type: " in shown.stdout

    @pytest.mark.parametrize("target", ["coordinator", "w-1"])
    def test_without_py_spy_the_process_samples_itself_and_says_so(
        self, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, target: str
    ) -> None:
        monkeypatch.setattr(profiling, "py_spy", lambda: None)
        worker = None if target == "coordinator" else target
        body = {"duration_seconds": 1, "worker": worker}
        assert post(http, "/admin/debug/profile/start", body).json()["sampler"] == "in-process"
        profile = gzip.decompress(http.get("/admin/debug/profile/result").content)
        assert f"{target}: sampled in the process by the wall clock".encode() in profile
        assert b"py-spy is not installed" in profile
        assert b"Thread.run" in profile

    def test_a_debugger_that_may_not_attach_is_replaced(
        self, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        refused = tmp_path / "py-spy"
        refused.write_text("#!/bin/sh\necho 'Error: Permission Denied' >&2\nexit 1\n")
        refused.chmod(0o755)
        monkeypatch.setattr(profiling, "py_spy", lambda: str(refused))
        post(http, "/admin/debug/profile/start", {"duration_seconds": 1})
        profile = gzip.decompress(http.get("/admin/debug/profile/result").content)
        assert b"py-spy could not attach: Error: Permission Denied" in profile

    def test_who_took_it_stands_in_the_audit(self, http: httpx.Client) -> None:
        post(http, "/admin/debug/profile/start", {"duration_seconds": 1})
        http.get("/admin/debug/profile/result")
        (act,) = http.get("/admin/audit?limit=1").json()
        assert (act["by"], act["action"]) == ("environment", "profile")
        assert act["after"] == {"target": "coordinator", "duration_seconds": 1}

    def test_what_is_refused(self, http: httpx.Client) -> None:
        for body in ({"duration_seconds": 0}, {"duration_seconds": 301}, {"duration_seconds": "1"}, {"x": 1}):
            assert code_of(post(http, "/admin/debug/profile/start", body)) == (422, "invalid")
        unknown = post(http, "/admin/debug/profile/start", {"worker": "worker-99"})
        assert code_of(unknown) == (404, "not_found")


class TestPages:
    def test_of_blocked_operations(self, http: httpx.Client, actor: Actor, frozen_chain: None) -> None:
        with actor.client as client:
            names = [client.submit(actor.body()).operation_id for _ in range(5)]
        first = http.get("/admin/blocked-operations?limit=2")
        assert [blocked["operation_id"] for blocked in first.json()] == names[:2]
        everything = all_pages(http, "/admin/blocked-operations?limit=2")
        assert [blocked["operation_id"] for blocked in everything] == names

    def test_of_an_agents_rollbacks(
        self, http: httpx.Client, operator: Client, actor: Actor, frozen_chain: None
    ) -> None:
        with actor.client as client:
            names = [client.submit(actor.body()).operation_id]
            for _ in range(2):
                names.append(client.submit(actor.body(None, names[-1])).operation_id)
            client.cancel(names[0])
            names.append(client.submit(actor.body()).operation_id)
            client.cancel(names[-1])
        path = f"/admin/agent/{actor.agent_id}/rollbacks"
        whole = [one["operation_id"] for one in http.get(path).json()]
        assert sorted(whole) == sorted(names)
        assert whole[0] == names[-1]
        assert [one["operation_id"] for one in all_pages(http, f"{path}?limit=1")] == whole
        assert code_of(http.get(f"{path}?cursor=1")) == (422, "invalid")
        assert http.get(f"{path}?cursor=1-1").json() == []

    def test_of_the_audit(self, http: httpx.Client, operator: Client) -> None:
        for depth in (1, 2, 3):
            operator.set_config({"speculation.max_depth": depth})
        latest = http.get("/admin/audit?limit=3").json()
        assert [act["after"]["speculation.max_depth"] for act in latest] == [3, 2, 1]
        assert [act["before"]["speculation.max_depth"] for act in latest] == [2, 1, None]
        paged = http.get("/admin/audit?limit=1")
        following = http.get(paged.links["next"]["url"])
        assert paged.json() + following.json() == latest[:2]

    def test_of_the_audit_has_what_operators_did_for_agents(
        self, http: httpx.Client, operator: Client, actor: Actor, frozen_chain: None
    ) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
            client.deposit(actor.agent_id, 5)  # the agent's own: no operator did it
        operator.deposit(actor.agent_id, 7)
        operator.cancel(name)
        cancelled, deposited, before = http.get("/admin/audit?limit=3").json()
        assert (cancelled["by"], cancelled["action"]) == ("environment", "cancel")
        assert cancelled["after"] == {"operation_id": name, "rolled_back": 1}
        assert (deposited["action"], deposited["after"]["lamports"]) == ("deposit", 7)
        assert before["action"] == "config"

    def test_a_link_keeps_the_other_parameters(
        self, http: httpx.Client, actor: Actor, frozen_chain: None
    ) -> None:
        with actor.client as client:
            for _ in range(2):
                client.submit(actor.body())
        url = httpx.URL(http.get("/admin/blocked-operations?limit=1").links["next"]["url"])
        assert url.path == "/admin/blocked-operations"
        assert dict(url.params).keys() == {"limit", "cursor"}


class TestAudit:
    def test_every_write_of_an_operator_is_recorded(
        self, http: httpx.Client, operator: Client, system: RunningSystem, actor: Actor
    ) -> None:
        """The routes and their examples are the document's: one that is added is asked for here."""
        paths = system.app.openapi()["paths"]
        writes = [path for path, methods in paths.items() if path.startswith("/admin") and "post" in methods]
        assert len(writes) >= 9
        for path in writes:
            body = paths[path]["post"].get("requestBody", {}).get("content", {}).get("application/json", {})
            latest = http.get("/admin/audit?limit=1").json()[0]["seq"]
            example = {"duration_seconds": 1} if path.endswith("/profile/start") else body.get("example")
            response = post(http, path.format(agent_id=actor.agent_id), example)
            assert response.is_success, (path, response.text)
            self._until_recorded(http, path, latest)

    def _until_recorded(self, http: httpx.Client, path: str, before: int) -> None:
        """A rebuild is recorded when it is done, and refuses writes until then."""
        deadline_s = time.monotonic() + WAIT_S
        while http.get("/admin/audit?limit=1").json()[0]["seq"] <= before:
            assert time.monotonic() < deadline_s, f"{path}: not in the audit"
            time.sleep(0.05)
        (act,) = http.get("/admin/audit?limit=1").json()
        assert act["by"] == "environment"
        while http.get("/ready").status_code != 200:
            assert time.monotonic() < deadline_s, f"{path}: not ready again"
            time.sleep(0.05)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command printed, without the lines that the server in this process logs meanwhile."""
    return [line for line in capsys.readouterr().out.splitlines() if "component=" not in line]


class TestConfigCommand:
    """`agenc config` with a server that runs."""

    @pytest.fixture(autouse=True)
    def _aimed(self, system: RunningSystem, operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGENC_URL", system.url)
        monkeypatch.setenv("AGENC_ADMIN_TOKEN", OPERATOR_TOKEN)

    def test_a_change_and_its_withdrawal(self, capsys: pytest.CaptureFixture[str]) -> None:
        changes = ["speculation.max_depth=4", "speculation.features.rollout_percentage=12.5"]
        assert invoke(["config", "set", *changes]) == 0
        assert printed(capsys) == [
            "speculation.max_depth: 3 → 4",
            "speculation.features.rollout_percentage: 100 → 12.5",
        ]
        assert invoke(["config", "get", "speculation.max_depth"]) == 0
        assert printed(capsys) == ["4"]
        assert invoke(["config", "show", "speculation.max_depth"]) == 0
        assert "runtime" in capsys.readouterr().out
        assert invoke(["config", "set", "speculation.max_depth=null"]) == 0
        assert printed(capsys) == ["speculation.max_depth: 4 → 3"]

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ("speculation.max_depth=99", "expected a whole number from 1 to 20"),
            ("speculation.max_depth=deep", "expected a whole number from 1 to 20"),
            ("speculation.mode=bold", "one of conservative, balanced, aggressive, custom"),
            ("speculation.enabled=1", "true or false"),
            ("chain.confirmation_slots=3", "restart_required"),
            ("chain.slot_ms=100", "pinned_by_environment"),
        ],
    )
    def test_a_refusal_names_key_and_range(
        self, capsys: pytest.CaptureFixture[str], change: str, complaint: str
    ) -> None:
        assert invoke(["config", "set", change]) == 1
        told = capsys.readouterr().err
        assert complaint in told
        assert change.partition("=")[0] in told

    def test_without_a_token(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AGENC_ADMIN_TOKEN")
        assert invoke(["config", "set", "speculation.max_depth=4"]) == 1
        assert "unauthorized" in capsys.readouterr().err

    def test_a_server_that_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert invoke(["config", "get", "speculation.mode", "--url", "http://127.0.0.1:9"]) == 1
        assert capsys.readouterr().err.startswith("agenc: http://127.0.0.1:9: ")
