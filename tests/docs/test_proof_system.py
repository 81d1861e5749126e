"""What docs/proof-system.md says holds: its example AIR is one, and its table is the parameter table."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.backend import select
from kernels.field import P, to_monty
from workers.batch_proof import Wire
from workers.stark.errors import VerificationError
from workers.stark.parameters import BY_NAME, TESTING
from workers.stark.prover import prove
from workers.stark.verifier import verify

PAGE = (Path(__file__).parents[2] / "docs" / "proof-system.md").read_text()


def example_air() -> Any:
    block = re.search(r"\n\n(       @dataclass\(frozen=True\)\n.*?)\n\n   The order", PAGE, re.DOTALL)
    assert block is not None, "the page has no example AIR"
    namespace: dict[str, Any] = {"dataclass": dataclass, "__name__": __name__}
    exec(textwrap.dedent(block[1]), namespace)
    return namespace["Doubling"]()


def test_the_example_air_proves_what_it_says_and_nothing_else() -> None:
    air, backend = example_air(), select("cpu", 1)
    right = np.array([[5 * pow(2, row, P) % P] for row in range(16)])
    wrong = right.copy()
    wrong[9] += 1
    honest = prove(air, to_monty(right), [5], TESTING, backend).proof
    verify(air, honest, [5], parameters=TESTING)
    lying = prove(air, to_monty(wrong), [5], TESTING, backend).proof
    with pytest.raises(VerificationError, match="constraints"):
        verify(air, lying, [5], parameters=TESTING)


def test_the_table_of_parameter_sets_is_the_programs() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\d+) \| (\d+) bits? \| (\d+) bits \| (\d+) bits \|", PAGE, re.MULTILINE
    )
    expected = [
        (p.name, p.num_queries, p.query_pow_bits, p.conjectured_bits, p.proven_bits) for p in BY_NAME.values()
    ]
    assert [(name, *map(int, numbers)) for name, *numbers in rows] == expected


def test_the_encodings_are_named() -> None:
    for wire in Wire:
        assert f"`{wire.value}`" in PAGE
