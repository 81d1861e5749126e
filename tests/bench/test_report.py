"""The page's tables come from results, and from nothing else."""

import json
from pathlib import Path

from bench.report import report
from coordinator.cli.main import invoke


def test_without_results_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert list(report(tmp_path)) == []


def test_a_sweep_is_shown_by_its_largest_size_with_its_machine(tmp_path: Path) -> None:
    words = ["--from", "4", "--to", "6", "--repeat", "1", "--threads", "1", "--backend", "cpu"]
    assert invoke(["bench", "hash", *words, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "hash.json").read_text())
    lines = list(report(tmp_path))
    assert lines[0] == "## Poseidon2"
    assert results["machine"]["date"] in lines[2]
    rows = [line for line in lines if line.startswith("| poseidon2-")]
    assert [row.split(" | ")[1] for row in rows] == ["64", "64"]
    assert f"{results['points'][-1]['best_s'] * 1e3:.1f} ms" in rows[-1]
