"""The page's tables come from results, and from nothing else."""

import json
from dataclasses import asdict
from pathlib import Path

from bench.report import report
from coordinator.cli.main import invoke
from coordinator.cli.measure import describe_machine


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


def test_proofs_are_shown_by_the_clock_only_where_the_cores_were_free(tmp_path: Path) -> None:
    machine = asdict(describe_machine())
    prover = {
        "cpu_s": 2.0,
        "prove_s": 1.5,
        "peak_memory_bytes": 3 << 20,
        "proof_bytes": 1000,
        "phases_cpu_s": {"trace": 0.5},
    }
    case = {
        "ours": prover,
        "plonky3": prover | {"cpu_s": 3.0},
        "ratio_vs_plonky3_cpu": 1.5,
        "ratio_vs_plonky3": 1.25,
        "memory_vs_plonky3": 1.0,
    }
    shown = {}
    for load in (0.0, machine["cores"] + 1.0):
        results = {"machine": machine | {"load_at_start": load}, "cases": {"1x2^13-t1": case}}
        (tmp_path / "proofs.json").write_text(json.dumps(results))
        shown[load] = [line for line in report(tmp_path) if line.startswith("| 1x2^13-t1")]
    free, busy = shown.values()
    assert "**1.50** | 1.500 s | 1.500 s | 1.25 | 3 / 3 MiB | 1.00 | 1,000 |" in free[0]
    assert "**1.50** | 3 / 3 MiB | 1.00 | 1,000 |" in busy[0]
    assert free[1] == busy[1] == "| 1x2^13-t1 | 500 |"
