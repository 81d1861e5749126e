"""docs/MONITORING.md: its tables are made from the code."""

import re
import runpy

from coordinator.health import WORST_ROLLBACK_RATE
from coordinator.thresholds import THRESHOLDS
from tests.conftest import REPOSITORY
from tests.deploy.monitoring.conftest import MONITORING

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
