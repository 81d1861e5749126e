"""docs/MONITORING.md: its tables are made from the code, and its commands work."""

import re
import runpy
import subprocess

from coordinator.health import WORST_ROLLBACK_RATE
from coordinator.thresholds import THRESHOLDS
from tests.conftest import REPOSITORY
from tests.deploy.monitoring.conftest import MONITORING, tool

PAGE = REPOSITORY / "docs" / "MONITORING.md"


def test_its_tables_are_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = runpy.run_path(str(MONITORING / "page.py"))["with_tables"](page)
    assert page == made, "run: python deploy/monitoring/page.py"


def test_its_thresholds_are_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index("## Thresholds") : page.index("## Alerts")]
    rows = re.findall(r"^\| [a-z][^|]*\| > (\d+) (%|s) \|(?: > (\d+) (?:%|s))? \|$", section, re.MULTILINE)
    told = [
        tuple(
            float(value) / (100 if unit == "%" else 1) if value else float("inf")
            for value in (warning, critical)
        )
        for warning, unit, critical in rows
    ]
    assert sorted(told) == sorted(THRESHOLDS.values())
    assert f"to 0 at {WORST_ROLLBACK_RATE:.0%}".replace("%", " %") in page


def test_its_prometheus_commands_work() -> None:
    tool("promtool")
    commands = re.findall(r"^promtool .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command.split(), cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
