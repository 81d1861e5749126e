"""The alerts: their own unit tests pass and have teeth, thresholds are the runbook's, links lead somewhere."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordinator.metrics_table import METRICS
from coordinator.thresholds import THRESHOLDS, Threshold
from tests.conftest import REPOSITORY
from tests.deploy.monitoring.conftest import MONITORING, promtool
from workers.node_metrics import NODE_METRICS

#: (warning, critical) by the metric that they compare.
ALERTS = {
    "speculation_rollback_rate": ("SpeculationRollbackRateWarning", "SpeculationHighRollbackRate"),
    "speculation_memory_bytes": ("SpeculationMemoryWarning", "SpeculationMemoryCritical"),
    "speculation_proof_queue_size": ("SpeculationProofBacklogWarning", "SpeculationProofBacklogCritical"),
    "speculation_confirmation_latency_p99": (
        "SpeculationConfirmationLatencyWarning",
        "SpeculationConfirmationLatencyCritical",
    ),
    "speculation_stake_utilization": (
        "SpeculationStakeUtilizationWarning",
        "SpeculationStakeUtilizationCritical",
    ),
    "speculation_proof_worker_utilization": ("SpeculationProofWorkersBusy", None),
    "speculation_current_depth": ("SpeculationDepthNearLimit", None),
    "speculation_oldest_state_age_seconds": ("SpeculationOperationStuck", None),
}
#: The durations that the specification gives.
FOR = {
    "SpeculationDisabledUnexpectedly": "1m",
    "SpeculationHighRollbackRate": "5m",
    "SpeculationStakeAccumulationSpike": "3m",
    "SpeculationProofBacklogCritical": "5m",
    "SpeculationMemoryCritical": "2m",
    "SpeculationCircuitBreakerOpen": "0m",
    "SpeculationRollbackRateWarning": "10m",
    "SpeculationConfirmationLatencyWarning": "10m",
    "SpeculationProofWorkersBusy": "10m",
    "SpeculationDepthNearLimit": "5m",
    "SpeculationStakeUtilizationWarning": "10m",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "rules.test.yml"),
    ],
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    checked = promtool(*arguments)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("broken", ["vector(1) == 0", "vector(1)"], ids=["never fires", "always fires"])
def test_the_unit_tests_notice_every_broken_alert(
    tmp_path: Path, rules: dict[str, dict[str, Any]], broken: str
) -> None:
    shutil.copy(MONITORING / "rules.test.yml", tmp_path)
    changed = [rule | {"expr": broken, "for": "0m"} for rule in rules.values()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "broken", "rules": changed}]}))
    checked = promtool("test", "rules", "rules.test.yml", folder=tmp_path)
    assert checked.returncode == 1
    noticed = set(re.findall(r'alertname=\\?"(\w+)\\?"', checked.stdout + checked.stderr))
    assert noticed == rules.keys()


def test_thresholds_are_those_of_the_table(rules: dict[str, dict[str, Any]]) -> None:
    assert ALERTS.keys() == THRESHOLDS.keys()
    for metric, (warning, critical) in ALERTS.items():
        assert metric in rules[warning]["expr"]
        assert bound_of(rules[warning]) == THRESHOLDS[metric].warning, warning
        found = math.inf if critical is None else bound_of(rules[critical])
        assert found == THRESHOLDS[metric].critical, critical


def bound_of(rule: dict[str, Any]) -> float:
    return float(rule["expr"].rpartition(">")[2])


def test_thresholds_are_those_of_the_runbook(shared_dir: Path) -> None:
    text = (shared_dir / "runbook.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z][\w ]+?) \| >(\d+)(%|s) \| >(\d+)(?:%|s) \|", text, re.MULTILINE)
    promised = {
        name: Threshold(*(float(value) / (100 if unit == "%" else 1) for value in (warning, critical)))
        for name, warning, unit, critical in rows
    }
    assert promised == {
        "Rollback Rate": THRESHOLDS["speculation_rollback_rate"],
        "Memory": THRESHOLDS["speculation_memory_bytes"],
        "Proof Queue": THRESHOLDS["speculation_proof_queue_size"],
        "Confirmation Latency P99": THRESHOLDS["speculation_confirmation_latency_p99"],
        "Stake Utilization": THRESHOLDS["speculation_stake_utilization"],
    }


def test_each_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(
    rules: dict[str, dict[str, Any]],
) -> None:
    for name, rule in rules.items():
        assert name.startswith("Speculation")
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys(), name
    assert {name: rules[name]["for"] for name in FOR} == FOR


def test_alerts_ask_for_metrics_that_exist(rules: dict[str, dict[str, Any]]) -> None:
    known = METRICS.keys() | NODE_METRICS.keys()
    for name, rule in rules.items():
        asked = set(re.findall(r"\b(?:speculation|proof)_\w+", rule["expr"]))
        assert asked <= known, name


def test_links_lead_to_sections_of_the_runbook(rules: dict[str, dict[str, Any]]) -> None:
    text = (REPOSITORY / "docs" / "RUNBOOK.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for name, rule in rules.items():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert path == "docs/RUNBOOK.md", name
        assert anchor in anchors, name


def test_the_shipped_configuration_scrapes_both_ports() -> None:
    document = yaml.safe_load((REPOSITORY / "deploy/monitoring/prometheus.yml").read_text(encoding="utf-8"))
    targets = [
        target
        for job in document["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert targets == ["localhost:9090", "localhost:9091"]
    assert document["rule_files"] == ["rules.yml"]
