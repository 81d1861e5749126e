import json

import pytest

from coordinator.cli.main import invoke

SMALL = ["bench", "proofs", "--log-rows", "5", "--per-row", "1", "--repeat", "1", "--threads", "1"]


def test_the_figure_comes_with_what_it_depends_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*SMALL, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["permutations"] == 32
    assert figures["permutations_per_s"] == pytest.approx(32 / figures["prove_s"])
    assert (figures["parameters"], figures["conjectured_bits"], figures["proven_bits"]) == (
        "standard",
        107,
        65,
    )
    assert figures["threads"] == 1
    assert figures["machine"]
    assert {"lde", "merkle", "fri"} <= figures["phases_s"].keys()
    assert sum(figures["phases_s"].values()) <= figures["prove_s"]


def test_a_person_reads_the_figure_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("permutations proved per second")
    assert any("65 proven" in line for line in lines)
