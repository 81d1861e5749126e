"""The batches of `vectors/statements.json` as witnesses."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workers.statement import OperationWitness


@dataclass(frozen=True)
class StatementCase:
    domain: bytes
    witnesses: tuple[OperationWitness, ...]
    expected: tuple[dict[str, bytes], ...]
    root: bytes


def digest(elements: list[int]) -> bytes:
    return np.array(elements, dtype="<u4").tobytes()


def load_statement_cases(folder: Path) -> list[StatementCase]:
    return [_case(case) for case in json.loads((folder / "statements.json").read_text())]


def _case(case: dict[str, Any]) -> StatementCase:
    inputs = [operation["input"] for operation in case["operations"]]
    return StatementCase(
        domain=bytes.fromhex(inputs[0]["domain"]),
        witnesses=tuple(
            OperationWitness(
                task_id=bytes.fromhex(given["task"]),
                agent_id=bytes.fromhex(given["agent"]),
                output=bytes.fromhex(given["output"]),
                salt=bytes.fromhex(given["salt"]),
                secret=bytes.fromhex(given["secret"]),
                parents=tuple(map(digest, given["parents"])),
            )
            for given in inputs
        ),
        expected=tuple(
            {name: digest(value) for name, value in operation.items() if name != "input"}
            for operation in case["operations"]
        ),
        root=digest(case["root"]),
    )
