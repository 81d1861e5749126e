import json
from pathlib import Path

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


@pytest.mark.parametrize(
    ("command", "kernels"),
    [("hash", {"poseidon2-16", "poseidon2-24"}), ("lde", {"lde"}), ("merkle", {"merkle"})],
)
def test_a_sweep_prints_its_figures_and_keeps_them_with_plots(
    command: str, kernels: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--from", "4", "--to", "5", "--repeat", "1", "--threads", "1", "--backend", "cpu"]
    assert invoke(["bench", command, *options, "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / f"{command}.json").read_text())
    assert {point["kernel"] for point in printed["points"]} == kernels
    assert {point["size"] for point in printed["points"]} == {16, 32}
    for point in printed["points"]:
        assert point["units_per_s"] == pytest.approx(point["units"] / point["best_s"])
    assert (printed["backend"], printed["threads"]) == ("cpu", 1)
    assert printed["machine"]["processor"]
    for plot in (f"{command}.png", f"{command}-roofline.png"):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--backend", "abacus"], "abacus"), (["--from", "9", "--to", "8"], "--from is greater")],
)
def test_a_sweep_that_cannot_be_made_is_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(["bench", "hash", *options, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
