"""The dashboard: what the script writes, seven rows, metrics that exist, and the alerts' own colours."""

import json
import math
import re
import runpy
from typing import Any

import pytest

from coordinator.metrics_table import METRICS
from coordinator.thresholds import THRESHOLDS, Threshold
from tests.deploy.monitoring.conftest import MONITORING
from workers.metric import MetricKind
from workers.node_metrics import NODE_METRICS

ROWS = ["Health", "Throughput", "Latency", "Depth and branches", "Stake", "Proofs", "Resources"]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    made = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    assert isinstance(made, dict)
    return made


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_it_is_what_the_script_writes() -> None:
    written = runpy.run_path(str(MONITORING / "dashboard.py"))["text"]()
    assert (MONITORING / "dashboard.json").read_text(encoding="utf-8") == written, (
        "run: python deploy/monitoring/dashboard.py"
    )


def test_it_has_the_seven_rows_in_order(dashboard: dict[str, Any]) -> None:
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == ROWS


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_panels_ask_for_metrics_that_exist(dashboard: dict[str, Any]) -> None:
    tables = METRICS | NODE_METRICS
    series = {
        f"{name}{suffix}"
        for name, metric in tables.items()
        for suffix in (("_bucket", "_sum", "_count") if metric.kind is MetricKind.HISTOGRAM else ("",))
    }
    asked = {
        name
        for panel in panels(dashboard)
        for target in panel["targets"]
        for name in re.findall(r"\b(?:speculation|proof)_\w+", target["expr"])
    } - {"proof_type"}
    assert asked <= series
    shown = {name for name in tables if any(found.startswith(name) for found in asked)}
    assert tables.keys() - shown == {
        "speculation_operations_rate",
        "proof_worker_up",
        "proof_generation_seconds",
    }


def test_thresholds_have_the_alerts_colours(dashboard: dict[str, Any]) -> None:
    drawn = {}
    for panel in panels(dashboard):
        if panel["type"] != "timeseries":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        steps = {step["color"]: step["value"] for step in defaults["thresholds"]["steps"]}
        assert steps.pop("green") is None
        assert defaults["custom"]["thresholdsStyle"]["mode"] == ("line+area" if steps else "off")
        if steps:
            drawn[panel["targets"][-1]["expr"]] = Threshold(steps["orange"], steps.get("red", math.inf))
    assert len(drawn) == len(THRESHOLDS)
    for metric, threshold in THRESHOLDS.items():
        (found,) = [expression for expression in drawn if metric in expression]
        assert drawn[found] == threshold, metric
