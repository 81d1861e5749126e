"""The runbook's incidents, each brought about: rollbacks, locked stake, a backlog, memory pressure."""

import contextlib
import json
import re
from collections.abc import Iterator

import pytest

from coordinator.core.states import RollbackReason
from tests.docs.runbook.conftest import Blocks
from tests.docs.runbook.desk import Desk, resident_mb
from tests.docs.runbook.shapes import config_of, contains, same_shape
from tests.docs.runbook.trouble import hanging_workers, roll_back_for_every_reason

#: What no command of the system brings about.
NEVER = {RollbackReason.STAKE_INSUFFICIENT}

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]


class TestHighRollbackRate:
    def test_diagnosis(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        roll_back_for_every_reason(desk)
        (stats,) = desk.run(blocks["High Rollback Rate 1"]).succeed().answers
        example = blocks["High Rollback Rate 2"]
        assert same_shape(stats, json.loads(example.text))
        assert stats["total_rollbacks_1h"] == sum(stats["by_reason"].values())
        seen = {reason for reason, count in stats["by_reason"].items() if count}
        assert seen == {str(reason) for reason in RollbackReason if reason not in NEVER}
        lines = desk.run(blocks["High Rollback Rate 3"]).succeed().output.splitlines()
        assert 0 < len(lines) <= 10
        assert all(
            line.startswith('speculation_operations_total{status="rolled_back",agent_id="') for line in lines
        )
        (chain,) = desk.run(blocks["High Rollback Rate 4"]).succeed().answers
        assert chain["connection_status"] in ("connected", "degraded")
        assert chain["reorgs"] > 0

    def test_immediate_actions(self, speculating: Desk, blocks: Blocks) -> None:
        assert config_of(speculating.run(blocks["High Rollback Rate 5"]).succeed()) == {
            "speculation.max_depth": 1,
            "speculation.mode": "conservative",
            "speculation.features.rollout_percentage": 25,
            "speculation.enabled": False,
        }


class TestStakeAccumulation:
    def test_while_the_chain_is_out(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        with desk.outage():
            pending = "/admin/status", "speculation", "pending_operations"
            desk.until("stake is locked", lambda: desk.value_of(*pending) > 10)
            (status,) = desk.run(blocks["Stake Accumulation Spike 1"]).succeed().answers
            assert status["pending_confirmations"] > 10
            assert status["oldest_pending_age"] > 0
            assert status["avg_confirmation_time"] > 0
            queue = desk.run(blocks["Stake Accumulation Spike 2"]).succeed().output
            assert re.search(r"^proof_queue_size \d", queue, re.MULTILINE)
            assert desk.run(blocks["Stake Accumulation Spike 3"]).succeed().output.strip() == '"disconnected"'
            ran = desk.run(blocks["Stake Accumulation Spike 4"]).succeed()
            change, blocked, drain = ran.answers
            assert change["after"] == {"speculation.features.rollout_percentage": 0}
            assert 0 < len(blocked) <= 10
            assert all(one["blocked_by"]["detail"] for one in blocked)
            assert drain["latch"] == "draining"
            assert desk.kubectl_calls() == ["scale deployment proof-workers --replicas=24"]
        desk.until("stake is free again", lambda: desk.value_of(*pending) == 0)


class TestProofBacklog:
    def test_while_workers_hang(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        actor = desk.new_actor()
        with hanging_workers(desk):
            with actor.client as client:
                client.submit_batch([actor.body() for _ in range(850)])
            desk.until("the queue fills", lambda: desk.value_of("/admin/status", "queued_operations") > 800)
            # The workers' endpoint shows what it was last told.
            block = blocks["Proof Generation Backlog 1"]
            desk.until("9091 heard of it", lambda: _queue_size(desk.run(block).succeed().output) > 800)
            assert "proof_worker_up{" in desk.run(block).output
            (health,) = desk.run(blocks["Proof Generation Backlog 2"]).succeed().answers
            assert all(contains(worker, {"up": True}) and "busy" in worker for worker in health["workers"])
            failures = desk.run(blocks["Proof Generation Backlog 3"]).succeed().output
            assert re.search(r'^proof_failures_total\{error_type="\w+"\} ', failures, re.MULTILINE)
            slowest = desk.value_of("/admin/pipeline/bottlenecks", "bottleneck")
        ran = desk.run(blocks["Proof Generation Backlog 4"]).succeed()
        assert config_of(ran) == {
            "speculation.proof.batch_size": 50,
            "speculation.features.rollout_percentage": 50,
        }
        assert desk.kubectl_calls() == [
            "scale deployment proof-workers --replicas=24",
            "logs -l app=proof-workers --tail=100",
            "delete pod -l app=proof-workers --field-selector=status.phase=Failed",
        ]
        desk.until("the queue is empty", lambda: desk.value_of("/admin/status", "queued_operations") < 100)
        assert slowest in ("queue", "prove", "confirm", "wait_for_parents")


def _queue_size(metrics: str) -> float:
    (size,) = re.findall(r"^proof_queue_size (\S+)$", metrics, re.MULTILINE)
    return float(size)


@contextlib.contextmanager
def memory_pressure(desk: Desk) -> Iterator[None]:
    """The process really holds more than its limit."""
    limit_mb = desk.value_of("/admin/memory-stats", "limit_mb")
    ballast = bytearray(0)
    while resident_mb() <= limit_mb:
        ballast += bytes(64 << 20)  # touched: it is resident
    yield
    ballast.clear()
    desk.until(
        "the memory is free again", lambda: desk.value_of("/admin/memory-stats", "total_mb") < limit_mb
    )


class TestMemoryPressure:
    def test_above_the_limit(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        with memory_pressure(desk):
            (stats,) = desk.run(blocks["Memory Pressure 1"]).succeed().answers
            assert same_shape(stats, json.loads(blocks["Memory Pressure 2"].text))
            parts = ("state_snapshots_mb", "pending_operations_mb", "proof_cache_mb", "other_mb")
            assert sum(stats[part] for part in parts) == pytest.approx(stats["total_mb"], abs=0.01)
            assert stats["total_mb"] > 0.95 * stats["limit_mb"]
            desk.watch(blocks["Memory Pressure 3"], r"\b\d{3,}(\.\d+)?\b")
            desk.until("speculation is denied", lambda: _denied_for_memory(desk) > 0)
            ran = desk.run(blocks["Memory Pressure 4"]).succeed()
            assert config_of(ran) == {
                "speculation.limits.max_state_snapshots": 50,
                "speculation.limits.max_pending_operations": 5000,
                "speculation.max_depth": 2,
            }
            assert desk.value_of("/admin/status", "latch") == "draining"

    def test_after_a_crash(self, speculating: Desk, blocks: Blocks) -> None:
        desk = speculating
        check, rebuild = desk.run(blocks["Memory Pressure 5"]).succeed().answers
        assert check["status"] == "ok"
        assert rebuild["status"] in ("in_progress", "done")
        desk.until("it is rebuilt", lambda: desk.value_of("/admin/recovery/status", "status") == "done")
        assert desk.value_of("/admin/recovery/status", "source") == "log"


def _denied_for_memory(desk: Desk) -> float:
    metrics = desk.text_of("/metrics")
    (line,) = [one for one in metrics.splitlines() if 'denials_total{reason="memory_limit"}' in one]
    return float(line.rpartition(" ")[2])
