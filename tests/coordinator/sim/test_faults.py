"""The faults of a run come from a name, a list of names or a file, and from nothing else."""

from pathlib import Path

import pytest

from coordinator.cli.main import invoke
from coordinator.sim.faults import ALL, KINDS, NONE, Fault, FaultsError, read
from coordinator.sim.nemesis import ACTS
from coordinator.sim.workload import LIES


def test_names() -> None:
    assert read("none") is NONE
    assert read("all") is ALL
    assert read("crash,torn_write").kinds == (Fault.CRASH, Fault.TORN_WRITE)
    assert read(read("crash,torn_write").name()) == read("crash,torn_write")
    assert (ALL.name(), NONE.name()) == ("all", "none")


@pytest.mark.parametrize(
    ("name", "text"),
    [("f.toml", "crash = 0.25\nslow_proof = 1\n"), ("f.json", '{"crash": 0.25, "slow_proof": 1}')],
)
def test_files(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    faults = read(str(path))
    assert faults.kinds == (Fault.SLOW_PROOF, Fault.CRASH)
    assert (faults.probability(Fault.CRASH), faults.probability(Fault.BURST)) == (0.25, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "flood = 0.1",
        "crash = 2",
        "crash = -0.1",
        "crash = true",
        'crash = "often"',
        "crash = nan",
        "crash",
        "[crash]",
    ],
)
def test_a_file_that_is_none_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(FaultsError):
        read(str(path))
    assert invoke(["simulate", "--seed", "1", "--faults", str(path)]) == 2
    assert capsys.readouterr().err.startswith("agenc: --faults ")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(FaultsError, match="say none, all"):
        read("no-such-file.toml")


def test_every_kind_is_described_and_somebody_does_it() -> None:
    assert set(KINDS) == set(Fault)
    of_steps = {fault for fault, kind in KINDS.items() if kind.per == "step"}
    assert of_steps == set(ACTS) | set(LIES) | {Fault.LOST_ANSWER}


def test_the_docs_tell_every_kind() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "simulator.md").read_text()
    for fault, kind in KINDS.items():
        assert f"| `{fault}` | {kind.per} | {kind.likely:g} | {kind.words} |" in page
