"""The runbook's debugging techniques and common issues."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from coordinator.core.states import OperationState
from coordinator.shell.tracing import trace_id_of
from tests.coordinator.conftest import unique
from tests.docs.runbook.conftest import Blocks
from tests.docs.runbook.desk import Desk
from tests.docs.runbook.trouble import guilty_parent

if TYPE_CHECKING:
    from tests.coordinator.otlp import Collector

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]


class TestDebugging:
    def test_an_operation(self, speculating: Desk, blocks: Blocks) -> None:
        actor = speculating.new_actor()
        name = speculating.submit(actor, speculating.submit(actor))
        detail, timeline = (
            speculating.run(blocks["Trace a Specific Operation 1"], OP_ID_HERE=name).succeed().answers
        )
        assert detail["operation"]["operation_id"] == name
        assert detail["decision"]["rule"]
        assert timeline["timeline"][0]["state"] == "SUBMITTED"

    def test_an_operations_trace(self, speculating: Desk, collector: "Collector | None") -> None:
        if collector is None:
            pytest.skip("the extra `tracing` is not installed")
        name = speculating.submit(speculating.new_actor())
        assert speculating.wait(name) == OperationState.CONFIRMED
        wanted = trace_id_of(name).to_bytes(16, "big")
        speculating.until(
            "the trace arrived", lambda: _span_names(collector, wanted) >= {"operation", "confirm"}
        )
        assert {"queue", "prove", "submit"} <= _span_names(collector, wanted)

    def test_slow_confirmations(self, speculating: Desk, blocks: Blocks) -> None:
        speculating.wait(speculating.submit(speculating.new_actor()))
        analysis, found = speculating.run(blocks["Find Why Confirmations Are Slow 1"]).succeed().answers
        assert [stage["stage"] for stage in analysis["stages"]] == [
            "admit", "wait_for_parents", "queue", "prove", "submit", "confirm",
        ]  # fmt: skip
        assert analysis["confirmed"] > 0
        assert all(stage["action"] for stage in found["stages"])
        assert found["bottleneck"] == analysis["bottleneck"]

    def test_an_agent(self, speculating: Desk, blocks: Blocks) -> None:
        actor = speculating.new_actor()
        with speculating.outage():
            parent = speculating.submit(actor)
            with actor.client as client:
                client.cancel(parent)
        block = blocks["Check Agent-Specific Issues 1"]
        speculation, rollbacks = speculating.run(block, AGENT_ID=actor.agent_id).succeed().answers
        assert speculation["agent_id"] == actor.agent_id
        assert [one["operation_id"] for one in rollbacks] == [parent]
        assert rollbacks[0]["reason"] == "cancelled"

    def test_the_log_tells_of_an_operation_and_its_rollback_chain(
        self, speculating: Desk, blocks: Blocks
    ) -> None:
        actor = speculating.new_actor()
        with speculating.outage(), actor.client as client:
            parent = speculating.submit(actor)
            child = speculating.submit(actor, parent)
            client.cancel(parent)
        ran = speculating.run(blocks["Log Correlation 1"], OP_ID_HERE=child).succeed()
        events = re.findall(r'"event":"(\w+)"[^\n]*' + child, ran.output)
        assert {"operation_admitted", "rollback"} <= set(events)
        assert re.search(r'"event":"rollback"[^\n]*' + parent, ran.output)
        assert re.search(rf'"event":"rollback"[^\n]*{child}[^\n]*"reason":"parent_rolled_back"', ran.output)


def _span_names(collector: "Collector", trace_id: bytes) -> set[str]:
    return {span.name for span in list(collector.spans) if span.trace_id == trace_id}


class TestCommonIssues:
    def test_stuck_in_pending(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        with desk.outage():
            stuck = desk.submit(desk.new_actor())
            desk.clock.ahead_ms += 301_000
            (answer,) = desk.run(blocks["Operations Stuck in Pending 1"]).succeed().answers
            assert stuck in answer["rolled_back"] + answer["pending"]
        assert desk.wait(stuck) == OperationState.ROLLED_BACK

    def test_the_breaker_tripped(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        rivals = [(desk.new_actor(), desk.new_actor()) for _ in range(4)]
        with desk.outage():
            for first, second in rivals:
                tasks = [unique("task") for _ in range(10)]
                for actor in (first, second):
                    with actor.client as client:
                        client.submit_batch([actor.body(None, task_id=task) for task in tasks])
        # An outcome that comes after the reset would open it again.
        desk.until(
            "all have ended", lambda: not sum(_open_operations(desk, one.agent_id) for _, one in rivals)
        )
        assert desk.value_of("/admin/circuit-breaker", "state") == "open"
        assert desk.value_of("/health", "speculation") == "disabled"
        before, after = desk.run(blocks["Speculation Immediately Disabled After Enable 1"]).succeed().answers
        assert before["state"] == "open"
        assert "rollbacks" in before["reason"]
        assert (after["state"], after["finished"]) == ("closed", 0)
        assert desk.value_of("/health", "speculation") == "enabled"

    def test_a_slashed_agent(self, speculating: Desk, blocks: Blocks) -> None:
        agent_id = guilty_parent(speculating)
        name = speculating.value_of("/admin/slashes")[0]["slash_id"]
        block = blocks["Agents Getting Slashed Unexpectedly 1"]
        history, slash = speculating.run(block, SLASH_ID=name).succeed().answers
        assert slash == history[0]
        assert (slash["agent_id"], slash["reason"]) == (agent_id, "constraint_mismatch")
        assert slash["slashed_lamports"] > 0

    def test_no_data_in_grafana(self, speculating: Desk, blocks: Blocks) -> None:
        ran = speculating.run(blocks["Grafana Dashboard Shows No Data 1"]).succeed()
        assert 'speculation_operations_total{status="confirmed",' in ran.output
        assert speculating.kubectl_calls() == ["port-forward svc/prometheus 9090:9090"]


def _open_operations(desk: Desk, agent_id: str) -> int:
    return int(desk.value_of(f"/admin/agent/{agent_id}/speculation", "open_operations"))


@pytest.mark.long
def test_a_profile_that_pprof_shows(desk: Desk, blocks: Blocks) -> None:
    """It takes 30 seconds, and the block ends in pprof's own web page, which serves until it is stopped."""
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", 8080)) == 0:
            pytest.skip("another program has port 8080, which the block's pprof is to serve on")
    aside = Desk(desk.system, desk.clock, desk.folder / "profiling", desk.workers_port)
    shutil.copytree(desk.folder / "bin", aside.folder / "bin")
    shutil.copy(desk.folder / ".curlrc", aside.folder)
    profiling = aside.start(blocks["Performance Profiling 1"])
    try:
        if shutil.which("go") is not None:
            assert "pprof" in _page(profiling, "http://localhost:8080/ui/top")
        else:
            profiling.wait(120)
    finally:
        if profiling.poll() is None:
            os.killpg(profiling.pid, signal.SIGKILL)
        profiling.communicate()
    assert (aside.folder / "profile.pb.gz").read_bytes()[:2] == b"\x1f\x8b"
    if shutil.which("go") is None:
        pytest.skip("go is not installed: the profile was taken, and not opened")


def _page(serving: "subprocess.Popen[str]", url: str) -> str:
    """A page of a server that the block starts sooner or later."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s and serving.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"nothing at {url}: the block ended with {serving.poll()}")
