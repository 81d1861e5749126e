"""The runbook's first part: speculation is enabled, disabled, and its limits moved."""

import re
from pathlib import Path

import pytest

from coordinator.cli.main import invoke
from tests.docs.runbook.conftest import Blocks
from tests.docs.runbook.desk import Desk
from tests.docs.runbook.shapes import config_of, contains

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]


class TestEnableSpeculation:
    def test_healthy_and_disabled(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        desk.configure(enabled=False)
        block = blocks["Enable Speculation 1"]
        (answer,) = desk.run(block).succeed().answers
        assert block.expected is not None
        assert contains(answer, block.expected)

    def test_enabled_for_a_tenth(self, desk: Desk, blocks: Blocks) -> None:
        ran = desk.run(blocks["Enable Speculation 2"]).succeed()
        assert config_of(ran) == {
            "speculation.enabled": True,
            "speculation.mode": "conservative",
            "speculation.features.rollout_percentage": 10,
        }
        assert desk.value_of("/health", "rollout") == 10

    def test_rolled_out_step_by_step(self, desk: Desk, blocks: Blocks) -> None:
        ran = desk.run(blocks["Enable Speculation 3"]).succeed()
        steps = [answer["after"]["speculation.features.rollout_percentage"] for answer in ran.answers]
        assert steps == [25, 50, 100]

    def test_enabled_for_all(self, desk: Desk, blocks: Blocks) -> None:
        block = blocks["Enable Speculation 4"]
        (answer,) = desk.run(block).succeed().answers
        assert block.expected is not None
        assert contains(answer, block.expected)
        assert '"rollout":100' in desk.run(block).output


class TestDisableSpeculation:
    def test_gracefully(self, speculating: Desk, blocks: Blocks) -> None:
        desk, pending = speculating, ("/admin/status", "speculation", "pending_operations")
        desk.until("something pends", lambda: desk.value_of(*pending))
        desk.run(blocks["Graceful Shutdown (Preferred) 1"]).succeed()
        watching = blocks["Graceful Shutdown (Preferred) 2"]
        desk.watch(watching, r"speculation_pending_operations_count \d")
        desk.until("nothing pends", lambda: desk.value_of(*pending) == 0)
        desk.watch(watching, r"speculation_pending_operations_count 0\b")
        desk.run(blocks["Graceful Shutdown (Preferred) 3"]).succeed()
        block = blocks["Graceful Shutdown (Preferred) 4"]
        assert desk.run(block).succeed().answers == [block.expected]

    def test_at_once(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        with desk.outage():
            pending = "/admin/status", "speculation", "pending_operations"
            desk.until("something pends", lambda: desk.value_of(*pending) > 5)
            (answer,) = desk.run(blocks["Emergency Shutdown 1"]).succeed().answers
            assert answer["rolled_back"]
            assert answer["latch"] == "disabled"
        desk.until("all are rolled back", lambda: desk.value_of(*pending) == 0)
        assert desk.value_of("/health", "speculation") == "disabled"
        stake = desk.value_of("/admin/stake/status")
        assert (stake["locked_lamports"], stake["conserved"]) == (0, True)


class TestAdjustLimits:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("Reduce Speculation Depth 1", "speculation.max_depth"),
            ("Reduce Parallel Branches 1", "speculation.max_parallel_branches"),
        ],
    )
    def test_reduced(self, speculating: Desk, blocks: Blocks, name: str, key: str) -> None:
        assert config_of(speculating.run(blocks[name]).succeed()) == {key: 2}
        shown = speculating.value_of("/admin/config", "keys", key)
        assert (shown["value"], shown["source"]) == (2, "runtime")

    def test_more_workers(self, speculating: Desk, blocks: Blocks) -> None:
        ran = speculating.run(blocks["Increase Proof Workers 1"]).succeed()
        assert speculating.kubectl_calls() == ["scale deployment proof-workers --replicas=16"]
        assert config_of(ran) == {"speculation.proof.worker_threads": 16}
        workers = speculating.value_of("/admin/workers")
        assert workers["desired"] == 16
        assert workers["limited_by"] in ("slots", "memory", None)
        assert (workers["limited_by"] is None) == (workers["target"] == 16)

    def test_more_memory_takes_a_restart(self, speculating: Desk, blocks: Blocks, tmp_path: Path) -> None:
        speculating.run(blocks["Increase Memory Limit 1"]).succeed()
        assert speculating.kubectl_calls() == ["rollout restart deployment agenc"]
        (edit,) = re.findall(
            r"^# (speculation\.limits\.\S+ = \d+)$", blocks["Increase Memory Limit 1"].text, re.M
        )
        (tmp_path / "prod.toml").write_text(edit + "\n")
        assert invoke(["config", "validate", str(tmp_path / "prod.toml"), "--env", "prod"]) == 0
