"""The runbook's recovery part: a rebuild, a damaged log, stuck stake, and the cheat sheet."""

import contextlib
import sqlite3

import psutil
import pytest

from coordinator.core.states import OperationState
from coordinator.store.log import LOG_FILE
from tests.docs.runbook.conftest import Blocks
from tests.docs.runbook.desk import WAIT_S, Desk
from tests.docs.runbook.shapes import config_of

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]


class TestRecovery:
    def test_a_state_rebuilt(self, speculating: Desk, blocks: Blocks) -> None:
        """Its third step watches for ever: whoever reads it ends it when the rebuild is done."""
        desk = speculating
        script = desk.start(blocks["State Rebuild 1"])
        desk.until("it watches", lambda: _watches(script.pid))
        desk.until("it is rebuilt", lambda: desk.value_of("/admin/recovery/status", "status") == "done")
        for watch in _watches(script.pid):
            watch.terminate()
        ran = desk.ended(script).succeed()
        assert {"speculation.enabled": True}.items() <= config_of(ran).items()
        (check,) = [answer for answer in ran.answers if isinstance(answer, dict) and "invariants" in answer]
        assert check["status"] == "ok"

    def test_the_whole_script_after_a_corruption(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        actor = desk.new_actor(deposit_lamports=50_000_000)
        confirmed = desk.submit(actor)
        assert desk.wait(confirmed) == OperationState.CONFIRMED
        damage_log(desk)
        assert desk.value_of("/admin/integrity-check", "status") == "corrupted"
        ran = desk.run(blocks["Full System Recovery 1"], timeout_s=3 * WAIT_S)
        assert ran.status == 0, ran
        assert "=== Recovery complete. Monitor dashboards before increasing rollout. ===" in ran.output
        assert "Corruption detected, rebuilding state..." in ran.output
        rebuilt = desk.value_of("/admin/recovery/status")
        assert (rebuilt["status"], rebuilt["source"]) == ("done", "chain")
        check = desk.value_of("/admin/integrity-check")
        assert (check["status"], check["stake_conserved"]) == ("ok", True)
        assert desk.value_of("/health", "rollout") == 10
        config = desk.value_of("/admin/config", "keys")
        assert config["speculation.max_depth"]["value"] == 2
        # What the chain holds has returned: the agent's balance, and its confirmed result.
        assert desk.value_of(f"/v1/agents/{actor.agent_id}", "balance_lamports") == 50_000_000
        with desk.operator() as client:
            client.set_config({"speculation.features.rollout_percentage": 100})
        assert desk.wait(desk.submit(actor)) == OperationState.CONFIRMED


def damage_log(desk: Desk) -> None:
    """An event's bytes on the disk are no longer those that were written."""
    with contextlib.closing(sqlite3.connect(desk.folder / "data" / LOG_FILE, timeout=30)) as connection:
        (middle,) = connection.execute("SELECT (MIN(seq) + MAX(seq)) / 2 FROM log").fetchone()
        with connection:
            connection.execute("UPDATE log SET body = zeroblob(length(body)) WHERE seq = ?", (middle,))


def _watches(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if child.name() == "watch"]


class TestStake:
    def test_stuck_stake_is_recovered(self, speculating: Desk, blocks: Blocks) -> None:
        """The names are the block's own: agent1's stake is stuck behind an outage, agent2 was never there."""
        desk = speculating
        actor = desk.new_actor(agent_id="agent1")
        with desk.outage():
            name = desk.submit(actor)
            desk.until("it is proved", lambda: desk.wait(name, OperationState.PROVED) == "PROVED")
            desk.clock.ahead_ms += 31_000  # the confirmation timeout stands still while the chain is out
            stuck, recovered, status = desk.run(blocks["Stake Recovery 1"]).succeed().answers
        (affected,) = [agent for agent in stuck["agents"] if agent["agent_id"] == "agent1"]
        assert affected["operation_ids"] == [name]
        assert affected["stuck_lamports"] > 0
        verdicts = {result["agent_id"]: result["verdict"] for result in recovered["results"]}
        assert verdicts == {"agent1": "recovered", "agent2": "unknown_agent"}
        assert recovered["returned_lamports"] == affected["stuck_lamports"]
        assert status["conserved"]
        assert desk.wait(name) == OperationState.ROLLED_BACK


class TestCheatSheet:
    def test_from_top_to_bottom(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        ran = desk.run(blocks["Emergency Commands Cheat Sheet 1"], timeout_s=2 * WAIT_S)
        assert len(ran.calls) == 15
        # What is typed while the rebuild goes on is refused as `read_only`, to be typed again.
        refused = {(path, status) for status, _, path in ran.calls if status >= 300}
        assert refused <= {("/admin/stake/recover-all", 503), ("/admin/circuit-breaker/reset", 503)}
        assert desk.kubectl_calls() == ["scale deployment proof-workers --replicas=24"]
        desk.until(
            "it is rebuilt", lambda: desk.value_of("/admin/recovery/status", "status") != "in_progress"
        )
        assert desk.value_of("/admin/recovery/status", "status") == "done"
