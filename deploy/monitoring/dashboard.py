"""Writes `dashboard.json`, Grafana's dashboard in seven rows:  python deploy/monitoring/dashboard.py

A panel is its question and its queries; where a figure has thresholds they come from the table that the alerts follow
too, so that a line turns orange when the warning's clock starts and red when the critical alert's does.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from coordinator import thresholds
from coordinator.thresholds import Threshold

DASHBOARD = Path(__file__).parent / "dashboard.json"
GREEN, ORANGE, RED = "green", "orange", "red"
COLUMNS = 24
PANEL_HEIGHT = 7

_PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
_QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Panel:
    """One panel: `queries` maps a legend to an expression. `steps` are (value, colour) above green."""

    title: str
    queries: Mapping[str, str]
    _: KW_ONLY
    words: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 6
    steps: tuple[tuple[float, str], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def above(threshold: Threshold) -> tuple[tuple[float, str], ...]:
    """Orange above the warning, red above the critical value."""
    steps = ((threshold.warning, ORANGE), (threshold.critical, RED))
    return tuple((value, colour) for value, colour in steps if math.isfinite(value))


def quantiles(metric: str) -> dict[str, str]:
    """The median, 90th and 99th percentile of a histogram."""
    rate = f"sum by (le) (rate({metric}_bucket[$__rate_interval]))"
    return {f"p{100 * share:g}": f"histogram_quantile({share}, {rate})" for share in _QUANTILES}


def per_second(metric: str, label: str) -> dict[str, str]:
    """A counter's rate, by one of its labels."""
    return {f"{{{{{label}}}}}": f"sum by ({label}) (rate({metric}[$__rate_interval]))"}


ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Health": (
        Panel(
            "Health score",
            {"score": "speculation_health_score"},
            words="The worst of log, chain, breaker, rollback rate, queue, memory and workers.",
            unit="percentunit",
            kind="stat",
            width=4,
            steps=((0.5, ORANGE), (0.9, GREEN)),
        ),
        Panel(
            "Speculation",
            {"enabled": "speculation_enabled"},
            words="Whether new speculation is possible at all.",
            kind="stat",
            width=4,
            steps=((1, GREEN),),
            names={"0": "off", "1": "on"},
        ),
        Panel(
            "Circuit breaker",
            {"state": "speculation_circuit_breaker_state"},
            words="Open: rollbacks or errors passed its limits; GET /admin/circuit-breaker says which.",
            kind="stat",
            width=4,
            steps=((1, ORANGE), (2, RED)),
            names={"0": "closed", "1": "half-open", "2": "open"},
        ),
        Panel(
            "Alerts firing",
            {"alerts": 'count(ALERTS{alertname=~"Speculation.+",alertstate="firing"}) or vector(0)'},
            words="Of deploy/monitoring/rules.yml.",
            kind="stat",
            width=4,
            steps=((1, RED),),
        ),
        Panel(
            "Errors",
            per_second("speculation_errors_total", "error_type"),
            words="Answered or met, by code: internal is a defect, unauthorized in numbers is someone guessing.",
            unit="ops",
            width=8,
        ),
    ),
    "Throughput": (
        Panel(
            "Operations",
            per_second("speculation_operations_total", "status"),
            words="Admitted (pending), confirmed, rolled back, failed.",
            unit="ops",
        ),
        Panel(
            "Rollback rate",
            {"rate": "speculation_rollback_rate"},
            words="Rolled back ÷ finished over 5 minutes.",
            unit="percentunit",
            steps=above(thresholds.ROLLBACK_RATE),
        ),
        Panel(
            "Rollbacks by reason",
            per_second("speculation_rollbacks_total", "reason"),
            words="The reason says what to do: the runbook has the table.",
            unit="ops",
        ),
        Panel(
            "Agents rolled back most",
            {
                "{{agent_id}}": "topk(10, sum by (agent_id) "
                '(increase(speculation_operations_total{status="rolled_back"}[1h])))'
            },
            words="Within an hour. One agent alone: its own fault, or its parents'.",
            kind="bargauge",
        ),
    ),
    "Latency": (
        Panel(
            "Confirmation p99",
            {"p99": "speculation_confirmation_latency_p99"},
            words="Admission to CONFIRMED, over the last 5 minutes.",
            unit="s",
            steps=above(thresholds.CONFIRMATION_P99_S),
        ),
        Panel(
            "Confirmation",
            quantiles("speculation_confirmation_latency_seconds"),
            words="What agents wait for.",
            unit="s",
        ),
        Panel(
            "Rollback",
            quantiles("speculation_rollback_latency_seconds"),
            words="From the decision to its end: a transaction on its way has to die first.",
            unit="s",
        ),
        Panel(
            "Oldest by state",
            {"{{state}}": "speculation_oldest_state_age_seconds"},
            words="Something is stuck where the line only rises.",
            unit="s",
            steps=above(thresholds.STUCK_S),
        ),
    ),
    "Depth and branches": (
        Panel(
            "Depth, of its limit",
            {"share": "speculation_current_depth / speculation_max_depth"},
            words="Near 1, agents wait although they need not.",
            unit="percentunit",
            steps=above(thresholds.DEPTH),
        ),
        Panel(
            "Operations by depth",
            {"≤ {{le}}": "sum by (le) (increase(speculation_depth_histogram_bucket[1h]))"},
            words="Admitted within an hour, at this depth or less.",
            kind="bargauge",
        ),
        Panel(
            "In flight",
            {
                "branches": "speculation_active_branches",
                "commitments": "speculation_pending_operations_count",
                "open": "speculation_open_operations_count",
            },
            words="Speculative leaves, live commitments, and everything unconfirmed.",
        ),
        Panel(
            "Denials by reason",
            per_second("speculation_denials_total", "reason"),
            words="Which limit is in the way.",
            unit="ops",
        ),
    ),
    "Stake": (
        Panel(
            "Stake utilization",
            {"share": "speculation_stake_utilization"},
            words="Bonded ÷ all of the agents' lamports.",
            unit="percentunit",
            steps=above(thresholds.STAKE_UTILIZATION),
        ),
        Panel(
            "Locked",
            {"lamports": "speculation_stake_locked_total"},
            words="A jump means that operations do not end.",
        ),
        Panel(
            "Locked by agent",
            {"{{agent_id}}": "speculation_stake_locked_per_agent"},
            words="The ten with the most.",
        ),
        Panel(
            "Slashed",
            {"{{reason}}": "sum by (reason) (increase(speculation_stake_slashed_total[1h]))"},
            words="Lamports within an hour, by the fault. Each is worth a look.",
            kind="bargauge",
        ),
    ),
    "Proofs": (
        Panel(
            "Queue, of its limit",
            {"share": "speculation_proof_queue_size / speculation_proof_queue_size_max"},
            words="Full, it refuses submissions.",
            unit="percentunit",
            steps=above(thresholds.PROOF_QUEUE),
        ),
        Panel(
            "Workers' utilization",
            {"{{worker}}": "proof_worker_utilization", "mean": "avg(speculation_proof_worker_utilization)"},
            words="All near 1: more workers help. One at 0: it is never given work.",
            unit="percentunit",
            steps=above(thresholds.WORKER_UTILIZATION),
        ),
        Panel(
            "Proof generation",
            quantiles("speculation_proof_generation_seconds"),
            words="A worker's time for a batch.",
            unit="s",
        ),
        Panel(
            "Operations in a batch",
            {
                "mean": "rate(speculation_proof_batch_size_sum[$__rate_interval])"
                " / rate(speculation_proof_batch_size_count[$__rate_interval])"
            },
            words="Small batches under load waste provers.",
        ),
        Panel(
            "Workers up",
            {"{{device}}": "proof_worker_device", "waiting operations": "proof_queue_size"},
            words="By device, beside the queue as the workers' port tells it.",
        ),
        Panel(
            "Work done",
            {
                "permutations": "rate(proof_permutations_total[$__rate_interval])",
                "batches": "sum(rate(proof_worker_batches_total[$__rate_interval]))",
            },
            words="Poseidon2 permutations and batches a second.",
            unit="ops",
        ),
        Panel(
            "Failures",
            {
                "{{error_type}}": "sum by (error_type) (increase(proof_failures_total[1h]))",
                "returned: {{error_type}}": "sum by (error_type) "
                "(increase(speculation_proof_failures_total[1h]))",
            },
            words="Batches without a proof within an hour, by the workers' account and by the coordinator's.",
            kind="bargauge",
        ),
    ),
    "Resources": (
        Panel(
            "Memory, of its limit",
            {"share": "speculation_memory_bytes / speculation_memory_limit_bytes"},
            words="At the limit new speculation is denied.",
            unit="percentunit",
            steps=above(thresholds.MEMORY),
        ),
        Panel(
            "Memory",
            {"resident": "speculation_memory_bytes", "limit": "speculation_memory_limit_bytes"},
            words="Of the coordinator's process.",
            unit="bytes",
        ),
        Panel(
            "Snapshots",
            {"snapshots": "speculation_state_snapshots_count"},
            words="States to return to; bounded by limits.max_state_snapshots.",
        ),
        Panel(
            "Collections",
            quantiles("speculation_gc_duration_seconds"),
            words="How long it takes for what has ended to leave memory.",
            unit="s",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Grafana's model of the dashboard (schema 39)."""
    datasource = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "agenc-speculation",
        "title": "AgenC speculation",
        "tags": ["agenc"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [datasource]},
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "gridPos": place,
            "collapsed": False,
            "panels": [],
        }
        top, left = top + 1, 0
        for panel in panels:
            number += 1
            if left + panel.width > COLUMNS:
                top, left = top + PANEL_HEIGHT, 0
            place = {"x": left, "y": top, "w": panel.width, "h": PANEL_HEIGHT}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left += panel.width
        top += PANEL_HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    base = RED if panel.steps and panel.steps[-1][1] == GREEN else GREEN
    steps: list[dict[str, Any]] = [{"color": base, "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {"thresholdsStyle": {"mode": "line+area" if panel.steps else "off"}}
    if panel.names:
        names = {value: {"text": text} for value, text in panel.names.items()}
        defaults["mappings"] = [{"type": "value", "options": names}]
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": _PROMETHEUS,
            "expr": expression,
            "legendFormat": legend,
            "instant": panel.kind != "timeseries",
        }
        for at, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": _PROMETHEUS,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text(), encoding="utf-8")
