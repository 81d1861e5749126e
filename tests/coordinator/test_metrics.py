"""The metrics: what is exposed is what the table says and what happened, in the order that the runbook greps."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from coordinator.core.states import ConnectionStatus, Denial, RollbackReason, TransactionStatus
from coordinator.metrics import Histogram, Metrics
from coordinator.metrics_samples import READERS, Reading
from coordinator.metrics_table import METRICS, NAMED_AGENTS, OPEN_STATES, OTHER, TOP_AGENTS
from tests.coordinator.core.world import World
from workers.metric import MetricKind
from workers.node_metrics import NODE_METRICS

KEPT = {
    "speculation_operations_total",
    "speculation_operations_rate",
    "speculation_confirmation_latency_p99",
    "speculation_errors_total",
}


class Scene:
    """A world whose durable events the metrics hear."""

    def __init__(self) -> None:
        self.world = World(check=False)
        self.metrics = Metrics(self.world.engine, proof_type="stark")
        self.heard = 0

    def hear(self) -> None:
        events = self.world.events[self.heard :]
        self.heard = len(self.world.events)
        self.metrics.observe(self.heard, events)

    def reading(self, **changes: object) -> Reading:
        values: dict[str, object] = {
            "engine": self.world.engine,
            "now_ms": self.world.now_ms,
            "memory_bytes": 100 * 2**20,
            "writable": True,
            "workers_running": 1,
            "workers_target": 1,
            "utilizations": {"worker-0": 0.5},
            "loop_failures": {},
        }
        return Reading(**(values | changes))  # type: ignore[arg-type]  # the fields by name

    def text(self, **changes: object) -> str:
        self.hear()
        return self.metrics.render(self.reading(**changes)).decode()

    def families(self, **changes: object) -> dict[str, Family]:
        return {family.name: family for family in text_string_to_metric_families(self.text(**changes))}

    def value(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        raise AssertionError(f"{name}{labels} is not exposed")


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def busy(scene: Scene) -> Scene:
    """Two agents: one with a confirmed operation and two in flight, one with a rolled-back operation."""
    world = scene.world
    world.agent("alice")
    world.agent("bob")
    world.submit("a1")
    world.now_ms += 4_000
    world.settle("a1")
    world.submit("a2")
    world.submit("a3", "a2")
    world.submit("b1", agent="bob")
    world.do("cancel", "b1")
    return scene


@pytest.fixture(scope="module")
def crowded() -> Scene:
    """10,000 agents who submit an operation each, every seventh of another type, and many errors."""
    scene = Scene()
    scene.world.configure(queue_size=1_000_000)
    for at in range(10_000):
        scene.world.agent(f"agent-{at}")
        scene.world.submit(f"op-{at}", agent=f"agent-{at}", operation_type=f"type-{at % 7 or at}")
    for at in range(1_000):
        scene.metrics.count_error(f"error-{at}", "warning")
    return scene


class TestTable:
    def test_everything_in_the_table_is_exposed_and_nothing_else(self, busy: Scene) -> None:
        busy.metrics.count_error("internal", "critical")
        exposed = {line.split()[2] for line in busy.text().splitlines() if line.startswith("# TYPE")}
        assert exposed == set(METRICS)
        families = busy.families()
        for name, metric in METRICS.items():
            found = families[name.removesuffix("_total") if metric.kind is MetricKind.COUNTER else name]
            assert found.type == metric.kind, name
            assert found.documentation == metric.help, name

    def test_every_metric_is_read_or_kept(self) -> None:
        histograms = {name for name, metric in METRICS.items() if metric.kind is MetricKind.HISTOGRAM}
        assert READERS.keys() | KEPT | histograms == METRICS.keys()
        assert not READERS.keys() & (KEPT | histograms)

    def test_labels_are_the_tables_in_its_order(self, busy: Scene) -> None:
        busy.metrics.count_error("internal", "critical")
        for line in busy.text().splitlines():
            if line.startswith("#") or "{" not in line:
                continue
            name, _, labels = line.partition("{")
            metric = METRICS.get(name) or METRICS[re.sub(r"_(bucket|sum|count)$", "", name)]
            names = re.findall(r'(\w+)="', labels)
            assert names == [label.name for label in metric.labels] + ["le"] * name.endswith("_bucket"), line

    def test_units_and_explanations(self) -> None:
        for name, metric in METRICS.items():
            assert metric.help.endswith("."), name
            assert metric.why.endswith("."), name
            assert metric.unit, name
            assert list(metric.buckets) == sorted(set(metric.buckets)), name
            assert all(label.bound > 0 for label in metric.labels), name

    def test_every_name_of_the_specification_is_there(self, shared_dir: Path) -> None:
        text = (shared_dir / "spec" / "system.md").read_text()
        section = text[text.index("## 6. Metrics") : text.index("Alerts, as Prometheus rules")]
        named = {name.partition("{")[0] for name in re.findall(r"`((?:speculation|proof)_[^`]*)`", section)}
        assert named <= METRICS.keys() | NODE_METRICS.keys()
        assert len(named) >= 40

    def test_buckets_are_the_specifications(self) -> None:
        latency = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300)
        assert METRICS["speculation_confirmation_latency_seconds"].buckets == latency
        assert METRICS["speculation_depth_histogram"].buckets == (1, 2, 3, 5, 8, 10, 15, 20)


class TestOperations:
    def test_the_runbooks_grep_finds_them(self, busy: Scene) -> None:
        rolled_back = [
            line
            for line in busy.text().splitlines()
            if 'speculation_operations_total{status="rolled_back"' in line
        ]
        assert (
            'speculation_operations_total{status="rolled_back",agent_id="bob",operation_type="work"} 1'
            in rolled_back
        )
        assert len(rolled_back) == 2

    def test_each_status_is_counted_for_good(self, busy: Scene) -> None:
        labels = {"agent_id": "alice", "operation_type": "work"}
        for status, count in (("pending", 3), ("confirmed", 1), ("rolled_back", 0), ("failed", 0)):
            assert busy.value("speculation_operations_total", status=status, **labels) == count
        busy.world.run_until_quiet()
        assert busy.value("speculation_operations_total", status="pending", **labels) == 3
        assert busy.value("speculation_operations_total", status="confirmed", **labels) == 3

    def test_later_agents_are_counted_together(self, scene: Scene) -> None:
        for at in range(NAMED_AGENTS + 3):
            scene.world.agent(f"agent-{at}")
        for at in (0, NAMED_AGENTS - 1, NAMED_AGENTS, NAMED_AGENTS + 2):
            scene.world.submit(f"op-{at}", agent=f"agent-{at}")
        labels = {"status": "pending", "operation_type": "work"}
        assert (
            scene.value("speculation_operations_total", agent_id=f"agent-{NAMED_AGENTS - 1}", **labels) == 1
        )
        assert scene.value("speculation_operations_total", agent_id=OTHER, **labels) == 2
        agents = {sample.labels["agent_id"] for sample in scene.families()["speculation_operations"].samples}
        assert agents == {"agent-0", f"agent-{NAMED_AGENTS - 1}", OTHER}

    def test_rollbacks_and_denials_show_every_reason(self, busy: Scene) -> None:
        families = busy.families()
        rollbacks = {s.labels["reason"]: s.value for s in families["speculation_rollbacks"].samples}
        denials = {s.labels["reason"]: s.value for s in families["speculation_denials"].samples}
        assert rollbacks == dict.fromkeys(RollbackReason, 0) | {RollbackReason.CANCELLED: 1}
        assert denials == dict.fromkeys(Denial, 0)

    def test_a_denial_is_counted_under_its_reason(self, busy: Scene) -> None:
        busy.world.configure(max_depth=1)
        busy.world.submit("a4", "a3")
        assert busy.value("speculation_denials_total", reason="depth_limit") == 1

    def test_gauges_of_what_is_in_flight(self, busy: Scene) -> None:
        assert busy.value("speculation_pending_operations_count") == 2
        assert busy.value("speculation_open_operations_count") == 2
        assert busy.value("speculation_current_depth") == 1
        assert busy.value("speculation_active_branches") == 1
        assert busy.value("speculation_state_snapshots_count") == 1
        assert busy.value("speculation_stake_locked_total") == 1_000_000 + 1_100_000
        assert busy.value("speculation_stake_locked_per_agent", agent_id="alice") == 2_100_000
        assert busy.value("speculation_stake_utilization") == pytest.approx(2_100_000 / 2_000_000_000)

    def test_an_operators_rollback_leaves_the_rate_alone(self, busy: Scene) -> None:
        assert busy.value("speculation_rollback_rate") == 0
        busy.world.do("timeout_stale", 0, by="test")
        assert busy.value("speculation_rollback_rate") == 0

    def test_the_oldest_of_each_state_shows_its_time_in_that_state(self, busy: Scene) -> None:
        name = "speculation_oldest_state_age_seconds"
        busy.world.now_ms += 7_000
        busy.world.submit("b2", agent="bob")
        ages = {sample.labels["state"]: sample.value for sample in busy.families()[name].samples}
        assert ages == dict.fromkeys(OPEN_STATES, 0) | {"QUEUED": 7}
        busy.world.to_submitting("b2")
        busy.world.now_ms += 2_000
        assert busy.value(name, state="SUBMITTING") == 2
        assert busy.value(name, state="QUEUED") == 9

    def test_collections_are_timed(self, busy: Scene) -> None:
        busy.metrics.observe_gc(0.02)
        assert busy.value("speculation_gc_duration_seconds_bucket", le="0.05") == 1
        assert busy.value("speculation_gc_duration_seconds_sum") == 0.02

    def test_only_the_agents_with_the_most_stake_are_named(self, scene: Scene) -> None:
        for at in range(TOP_AGENTS + 5):
            scene.world.agent(f"agent-{at}")
            for number in range(1 + at % 3):
                scene.world.submit(f"op-{at}-{number}", agent=f"agent-{at}")
        samples = scene.families()["speculation_stake_locked_per_agent"].samples
        assert len(samples) == TOP_AGENTS
        assert min(sample.value for sample in samples) == 2_000_000


class TestBounds:
    """Labels stay within the table's bounds, whoever comes."""

    def test_the_labels_of_ten_thousand_agents_are_bounded(self, crowded: Scene) -> None:
        series = 0
        for family in text_string_to_metric_families(crowded.text()):
            metric = METRICS.get(family.name) or METRICS[f"{family.name}_total"]
            for label in metric.labels:
                values = {sample.labels[label.name] for sample in family.samples}
                assert len(values) <= label.bound, (metric.name, label.name)
            assert len(family.samples) <= metric.most_series, metric.name
            series += len(family.samples)
        assert series < 5_000

    def test_those_who_came_later_are_counted_together_and_completely(self, crowded: Scene) -> None:
        samples = crowded.families()["speculation_operations"].samples
        admitted = [sample for sample in samples if sample.labels["status"] == "pending"]
        assert sum(sample.value for sample in admitted) == 10_000
        named = [sample for sample in admitted if sample.labels["agent_id"] != OTHER]
        assert len(named) == NAMED_AGENTS


class TestHistograms:
    def test_latency_is_from_admission_to_confirmation(self, busy: Scene) -> None:
        name = "speculation_confirmation_latency_seconds"
        assert busy.value(f"{name}_count") == 1
        assert busy.value(f"{name}_sum") == 4
        assert busy.value(f"{name}_bucket", le="1") == 0
        assert busy.value(f"{name}_bucket", le="5") == 1
        assert busy.value(f"{name}_bucket", le="+Inf") == 1

    def test_p99_forgets_after_five_minutes(self, busy: Scene) -> None:
        assert busy.value("speculation_confirmation_latency_p99") == 4
        busy.world.now_ms += 301_000
        assert busy.value("speculation_confirmation_latency_p99") == 0

    def test_proofs_depths_and_sizes(self, busy: Scene) -> None:
        assert busy.value("speculation_proof_generation_seconds_sum", proof_type="stark") == 0.5
        assert busy.value("speculation_proof_batch_size_sum") == 1
        assert busy.value("speculation_depth_histogram_bucket", le="1") == 4
        assert busy.value("speculation_depth_histogram_count") == 4

    def test_a_rollback_that_waits_for_its_transaction_takes_that_long(self, scene: Scene) -> None:
        world = scene.world
        world.agent("alice")
        world.submit("a1")
        transaction = world.to_submitting("a1")
        world.do("timeout_stale", 0, by="test")
        world.now_ms += 2_000
        world.see(transaction, TransactionStatus.EXPIRED)
        assert world.where("a1") == ["ROLLED_BACK"]
        assert scene.value("speculation_rollback_latency_seconds_sum") == 2

    def test_the_load_is_of_the_last_minute(self, busy: Scene) -> None:
        assert busy.value("speculation_operations_rate") == pytest.approx(4 / 60)
        busy.world.now_ms += 61_000
        assert busy.value("speculation_operations_rate") == 0

    @given(st.lists(st.floats(0, 1e6), max_size=50))
    def test_buckets_are_cumulative_and_end_with_the_count(self, values: list[float]) -> None:
        histogram = Histogram((1, 2, 5))
        for value in values:
            histogram.observe(value)
        assert histogram.counts[0] == sum(value <= 1 for value in values)
        assert histogram.counts[3] == sum(value > 5 for value in values)
        assert sum(histogram.counts) == len(values)
        assert math.isclose(histogram.total, sum(values))


class TestHealth:
    def test_enabled_follows_stop_and_breaker(self, scene: Scene) -> None:
        assert scene.value("speculation_enabled") == 1
        scene.world.do("emergency", "drain_speculation", by="test")
        assert scene.value("speculation_enabled") == 0
        scene.world.do("set_config", {"speculation.enabled": True}, by="test")
        assert scene.value("speculation_enabled") == 1
        scene.world.configure(enabled=False)
        assert scene.value("speculation_enabled") == 0

    def test_the_score_is_the_worst_part(self, scene: Scene) -> None:
        def score(**changes: object) -> float:
            (sample,) = scene.families(**changes)["speculation_health_score"].samples
            return float(sample.value)

        assert score() == 1
        assert score(writable=False) == 0
        assert score(workers_running=1, workers_target=4) == 0.25
        limit = scene.world.config.max_memory_mb * 2**20
        assert score(memory_bytes=int(limit * 0.9)) == pytest.approx(0.5)
        assert score(memory_bytes=2 * limit) == 0
        scene.world.do("chain_connection", ConnectionStatus.DEGRADED)
        assert score() == 0.5

    def test_errors_are_counted_by_type_within_a_bound(self, scene: Scene) -> None:
        for at in range(100):
            scene.metrics.count_error(f"error-{at}", "warning")
        scene.metrics.count_error("error-0", "warning")
        samples = scene.families(loop_failures={"proving": 2})["speculation_errors"].samples
        counts = {sample.labels["error_type"]: sample.value for sample in samples}
        assert counts["error-0"] == 2
        assert counts[OTHER] == 100 - 64
        assert counts["loop_proving"] == 2

    def test_a_label_value_of_any_text_stays_one_value(self, scene: Scene) -> None:
        scene.metrics.count_error('a"b\\c\nd', "warning")
        (sample,) = scene.families()["speculation_errors"].samples
        assert sample.labels["error_type"] == 'a"b\\c\nd'
