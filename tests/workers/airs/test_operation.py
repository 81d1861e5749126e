"""The operation AIR against its known answers, and its proofs against those that Plonky3 made."""

import json
from pathlib import Path
from typing import Any

import pytest

from kernels.field import P
from kernels.program import BASE, evaluate
from tests.workers.airs.statement_vectors import load_statement_cases
from workers.airs.blinding import SeededBlinding, splitmix64
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import operation_trace
from workers.hashing import default_backend
from workers.stark.air import symbolic_program
from workers.stark.parameters import STANDARD
from workers.stark.prover import prove


@pytest.fixture(scope="module")
def known(vectors_dir: Path) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((vectors_dir / "operation_vectors.json").read_text())
    return vectors


def test_the_shape_is_the_specified_one() -> None:
    program = symbolic_program(OperationAir())
    assert (program.width, program.num_public, len(program.roots)) == (192, 9, 257)
    assert (program.degree, program.reads_next, program.num_quotient_chunks) == (3, True, 2)


@pytest.mark.vectors
def test_all_constraint_values_are_the_known_answer(known: dict[str, Any]) -> None:
    """The file says how: rows and public values from the splitmix64 stream of seed 7, selectors 2, 3 and
    5."""
    words = [int(word) % P for word in splitmix64(7, 393)]
    values = evaluate(
        symbolic_program(OperationAir()),
        local=words[:192],
        next=words[192:384],
        public=words[384:],
        first=2,
        last=3,
        transition=5,
        operations=BASE,
    )
    assert values == known["constraint_values_known_answer"]["values"]


@pytest.mark.vectors
@pytest.mark.parametrize("number", [0, 1])
def test_a_proof_is_plonky3s_byte_for_byte(vectors_dir: Path, known: dict[str, Any], number: int) -> None:
    entry = known["proofs"][number]
    case = load_statement_cases(vectors_dir)[entry["case"]]
    batch = operation_trace(case.domain, case.witnesses, blinding=SeededBlinding(entry["blind_seed"]))
    outcome = prove(OperationAir(), batch.trace, batch.public_values, STANDARD, default_backend())
    assert outcome.proof == (vectors_dir / entry["file"]).read_bytes()
