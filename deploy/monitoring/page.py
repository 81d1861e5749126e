"""Writes the tables of docs/MONITORING.md from what they are about:  python deploy/monitoring/page.py

The metrics come from the two tables that the code exposes, the alerts from `rules.yml`. What stands between the markers
is replaced; the words around it are kept by hand.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from coordinator.metrics_table import METRICS
from workers.metric import Metric, MetricKind
from workers.node_metrics import NODE_METRICS

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "MONITORING.md"


def with_tables(page: str) -> str:
    """The page with its generated parts made anew."""
    parts = {
        "coordinator": metrics_table(METRICS.values()),
        "workers": metrics_table(NODE_METRICS.values()),
        "alerts": alerts_table(),
    }
    for name, table in parts.items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        assert page.count(begin) == page.count(end) == 1, name
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def metrics_table(metrics: Iterable[Metric]) -> str:
    """A row a metric: name with labels and their bounds, type, unit, what it says, why it is there."""
    rows = ["| metric | type, unit | what it says | why |", "| --- | --- | --- | --- |"]
    for metric in metrics:
        labels = "".join(f" `{label.name}` ≤ {label.bound:,}" for label in metric.labels)
        named = f"`{metric.name}`" + (f"<br>labels:{labels}" if labels else "")
        told = metric.help
        if metric.kind is MetricKind.HISTOGRAM:
            told += " Buckets: " + " ".join(f"{bound:g}" for bound in metric.buckets) + "."
        rows.append(f"| {named} | {metric.kind}, {metric.unit} | {told} | {metric.why} |")
    return "\n".join(rows)


def alerts_table() -> str:
    """A row an alert: how bad, when, for how long, and where the runbook goes on."""
    rows = ["| alert | severity | fires when | for | runbook |", "| --- | --- | --- | --- | --- |"]
    for rule in _rules():
        condition = " ".join(rule["expr"].split()).replace("|", "\\|")
        _, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        section = anchor.replace("-", " ")
        cells = (
            rule["alert"],
            rule["labels"]["severity"],
            f"`{condition}`",
            re.sub(r"^0m$", "at once", rule["for"]),
            section,
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _rules() -> Iterator[Mapping[str, Any]]:
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
