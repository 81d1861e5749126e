import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from coordinator.replay.report import RunReport, RunResult, conclusion, print_report


def result(*, speculation: bool, **changes: Any) -> RunResult:
    facts: dict[str, Any] = {
        "speculation": speculation,
        "profile": {},
        "confirmed": 25,
        "rolled_back": 0,
        "failed": 0,
        "skipped": 0,
        "makespan_s": 6.0 if speculation else 30.0,
        "critical_path_s": 3.59,
        "operations": 25,
        "batches": 4,
        "permutations": 2048,
        "rollbacks": {},
        "denials": {},
        "slashed_lamports": 0,
        "invariants": {"proof_ordering": True},
        "stake_conserved": True,
        "verify_ms": 12.3,
        "verified_receipt": "op-1",
        "receipts": Path("runs/now/receipts"),
        "tasks": {"a": {"outcome": "confirmed"}},
    }
    return RunResult(**facts | changes)


def report(*runs: RunResult) -> RunReport:
    return RunReport(
        workflow="document-intake",
        tasks=25,
        depth=11,
        time_scale=1.0,
        profile={"mode": "custom", "depth": 20},
        faults=[],
        runs=runs,
    )


BOTH = report(result(speculation=False), result(speculation=True))


def test_the_file_has_every_field_that_the_specification_fixes(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    BOTH.write(path)
    written = json.loads(path.read_text())
    assert {"workflow", "tasks", "profile", "speedup", "runs"} <= written.keys()
    assert written["speedup"] == 5.0
    assert written["runs"][1].keys() >= {
        "speculation",
        "confirmed",
        "rolled_back",
        "failed",
        "skipped",
        "makespan_s",
        "critical_path_s",
        "batches",
        "permutations",
        "invariants",
        "stake_conserved",
        "receipts",
    }
    assert list(tmp_path.iterdir()) == [path]


def test_one_run_has_no_speedup() -> None:
    assert report(result(speculation=False)).speedup is None


def test_the_conclusion_says_what_the_figures_mean() -> None:
    assert conclusion(BOTH) == (
        "All 25 operations were proved and confirmed; speculation made the 11-deep workflow "
        "5.0 times as fast (30.0 s → 6.0 s); every invariant holds and no lamport was lost."
    )


def test_a_run_that_went_wrong_is_not_called_a_success() -> None:
    wrong = report(result(speculation=False), result(speculation=True, complaints=["b should have failed"]))
    assert not wrong.ok
    text = io.StringIO()
    print_report(wrong, Console(file=text, width=200))
    assert "NOT AS IT SHOULD BE (with speculation): b should have failed" in text.getvalue()
    assert "did not come out as it should" in text.getvalue()


@pytest.mark.parametrize(
    "words",
    ["2,048", "30.00 s", "3.59 s", "5.0", "12 ms", "1 of 1 hold", "runs/now/receipts", "mode custom"],
)
def test_the_table_shows_the_figures(words: str) -> None:
    text = io.StringIO()
    print_report(BOTH, Console(file=text, width=160))
    assert words in text.getvalue()
