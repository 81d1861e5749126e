"""The Poseidon2 AIR holds on true permutations, binds every column, has the benchmark's shape."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.field import P
from kernels.poseidon2 import permute, trace_row
from workers.airs.blinding import splitmix64
from workers.airs.poseidon2 import COLUMNS, CONSTRAINTS, Poseidon2Air
from workers.stark.air import BASE, evaluate, symbolic_program

states = st.lists(st.integers(0, P - 1), min_size=16, max_size=16)


def constraint_values(row: list[int], per_row: int = 1) -> list[int]:
    program = symbolic_program(Poseidon2Air(per_row))
    return evaluate(program, local=row, next=[], public=[], first=0, last=0, transition=0, operations=BASE)


@pytest.mark.parametrize("per_row", [1, 2, 8])
def test_width_constraints_degree_and_chunks(per_row: int) -> None:
    air = Poseidon2Air(per_row)
    program = symbolic_program(air)
    assert (COLUMNS, CONSTRAINTS) == (164, 148)
    assert air.width == program.width == 164 * per_row
    assert len(program.roots) == 148 * per_row
    assert (program.degree, program.num_quotient_chunks, program.reads_next) == (3, 2, False)


@given(inputs=states)
@settings(max_examples=10, deadline=None)
def test_the_row_of_a_permutation_satisfies_every_constraint(inputs: list[int]) -> None:
    row = trace_row(inputs)
    assert row[-16:] == permute(inputs)
    assert not any(constraint_values(row))


@pytest.mark.parametrize("column", range(COLUMNS))
def test_no_column_can_change_alone(column: int) -> None:
    row = trace_row(list(range(16)))
    row[column] = (row[column] + 1) % P
    values = constraint_values(row)
    assert any(values)
    if column >= 16:
        assert values[column - 16] == P - 1, "constraint t - column of the changed column itself"


def test_copies_side_by_side_are_the_single_row_one_after_the_other() -> None:
    rows = [trace_row([17 * k + i for i in range(16)]) for k in range(3)]
    rows[1][40] += 5
    rows[2][163] += 7
    together = constraint_values([cell for row in rows for cell in row], per_row=3)
    assert together == [value for row in rows for value in constraint_values(row)]


@pytest.mark.vectors
def test_the_vectors_first_row(vectors_dir: Path) -> None:
    known = json.loads((vectors_dir / "poseidon2_air_w24_h10.json").read_text())
    inputs = [int(word) % P for word in splitmix64(1, 16)]
    assert inputs == known["inputs_seed1_first2"][0]
    row = known["trace_row0"]
    assert row[:16] == inputs
    assert not any(constraint_values(row + trace_row(inputs)[len(row) :]))
