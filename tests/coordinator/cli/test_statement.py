import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli.main import invoke


def cases(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_digest_and_root_is_computed_from_the_inputs_alone(
    vectors_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = cases(vectors_dir / "statements.json")
    bare = [
        {"operations": [{"input": operation["input"]} for operation in case["operations"]]} for case in known
    ]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(bare))
    assert invoke(["statement", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == known


INPUT = {
    "domain": "61",
    "task": "62",
    "agent": "63",
    "output": "",
    "salt": "00" * 24,
    "secret": "11" * 24,
    "parents": [],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"domain": ""}, "domain"),
        ({"task": ""}, "task_id"),
        ({"agent": "6"}, "agent: not hexadecimal"),
        ({"output": "zz"}, "output: not hexadecimal"),
        ({"output": "00" * 65_537}, "65537 bytes"),
        ({"salt": "00"}, "salt: 1 bytes"),
        ({"secret": "00" * 25}, "secret: 25 bytes"),
        ({"parents": [[1, 2]]}, "parents"),
        ({"parents": [[0x7F00_0001] * 8]}, "canonical"),
        ({"parents": [[-1] * 8]}, "canonical"),
        ({"more": 1}, "more"),
    ],
)
def test_a_bad_input_is_named_with_its_place(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([{"operations": [{"input": INPUT | change}]}]))
    assert invoke(["statement", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err


@pytest.mark.parametrize("text", ["", "{}", "[{}]", '[{"operations": []}]', "[" * 50_000])
def test_a_file_that_holds_no_cases_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.json"
    path.write_text(text)
    assert invoke(["statement", str(path)]) == 2
    assert "not a file of statement cases" in capsys.readouterr().err
