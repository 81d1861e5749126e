"""The comparison with Plonky3: what its figures are made of, and that a small one runs to its end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import children, plonky3
from bench.proofs import Case, compare

ROOT = Path(__file__).parents[2]


def test_a_child_gives_its_lines_its_processor_time_and_its_own_peak() -> None:
    code = "import json, time\nblock = bytearray(200 << 20)\nprint(json.dumps({'size': len(block)}))\ntime.sleep(0.2)"
    outcome = children.run([sys.executable, "-c", code], environment={})
    assert outcome.lines == [{"size": 200 << 20}]
    assert 0 < outcome.cpu_s < 30
    assert 200 << 20 <= outcome.peak_bytes < 400 << 20


def test_a_child_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        children.run([sys.executable, "-c", "raise SystemExit('no such thing')"], environment={})


def test_figures_compare_proofs_of_the_same_statement() -> None:
    try:
        plonky3.binary()
    except plonky3.PeerUnavailable as reason:
        pytest.skip(str(reason))
    figures = compare(Case(1, 5, 1), parameters="standard", rounds=1, proofs=2)
    ours, peer = figures["ours"], figures["plonky3"]
    assert figures["proofs_counted"] == 2
    assert ours["proof_bytes"] == peer["proof_bytes"]
    assert ours["permutations_per_s"] == pytest.approx(32 / ours["prove_s"])
    assert figures["ratio_vs_plonky3"] == pytest.approx(peer["prove_s"] / ours["prove_s"])
    assert {"trace", "lde", "merkle", "quotient", "open", "fri", "grind", "encode"} == set(
        ours["phases_cpu_s"]
    )


def test_a_case_beyond_the_memory_is_skipped_and_said(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bench.proofs",
        "--log-rows",
        "13",
        "--max-gib",
        "0",
        "--out",
        str(tmp_path),
    ]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.count("skipped") == 4
    assert "107 bits by a conjecture in doubt, 65 proven" in shown
    assert not list(tmp_path.glob("*.json"))


def test_the_results_name_the_ratio_of_each_case(tmp_path: Path) -> None:
    try:
        plonky3.binary()
    except plonky3.PeerUnavailable as reason:
        pytest.skip(str(reason))
    words = ["--log-rows", "5", "--per-row", "1", "--threads", "1", "--rounds", "1", "--proofs", "1"]
    command = [sys.executable, "-m", "bench.proofs", *words, "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    results = json.loads((tmp_path / "proofs.json").read_text())
    assert list(results["ratio_vs_plonky3"]) == ["1x2^5-t1"]
    assert results["parameters"]["name"] == "standard"
    assert results["machine"]["date"]
    assert (tmp_path / "proofs.png").read_bytes().startswith(b"\x89PNG")
