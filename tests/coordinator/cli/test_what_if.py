"""`agenc what-if` on a report and on a data folder; what cannot be asked is a line and an exit code."""

import json
from pathlib import Path

import msgspec
import pytest

from coordinator.cli.main import invoke
from tests.coordinator.core.test_recording import run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.json"
    recording = msgspec.to_builtins(run(workers=2))
    path.write_text(
        json.dumps({"runs": [{"recording": None}, {"recording": recording, "speculation": True}]})
    )
    return path


def test_the_table_has_what_was_measured_and_what_is_predicted(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["what-if", "--workers", "8", "--batch", "64", "--depth", "3", str(report)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line[:24].strip() for line in said[2:]] == ["measured", "simulated, as it was", "predicted"]


def test_more_workers_are_predicted_to_do_more(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["what-if", "--workers", "8", "--json", str(report)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["predicted"]["operations_per_s"] >= answer["as_it_was"]["operations_per_s"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file"), ("[1]", "no report"), ('{"runs": [{}]}', "no recording")],
)
def test_what_is_no_recording_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, complaint: str
) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    assert invoke(["what-if", str(path)]) == 2
    assert complaint in capsys.readouterr().err
    assert invoke(["what-if", str(tmp_path)]) == 2
    assert "holds no log" in capsys.readouterr().err
