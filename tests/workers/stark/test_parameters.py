"""Parameter sets: folding schedules, names, and which heights may call themselves proven-100."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.airs.operation import OperationAir
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.air import symbolic_program
from workers.stark.parameters import (
    BY_NAME,
    PRODUCTION_NAMES,
    PROVEN_100,
    STANDARD,
    TESTING,
    UnknownParametersError,
    by_name,
)
from workers.stark.soundness import admits, unique_decoding_bits


@pytest.mark.parametrize(
    ("log_rows", "arities"), [(6, (3, 3)), (9, (3, 3, 3)), (10, (3, 3, 3, 1)), (1, (1,)), (2, (2,))]
)
def test_the_folding_schedule_is_the_one_plonky3_uses(log_rows: int, arities: tuple[int, ...]) -> None:
    assert STANDARD.log_arities(log_rows) == arities


@settings(deadline=None)
@given(log_rows=st.integers(0, 22), name=st.sampled_from(sorted(BY_NAME)))
def test_folding_ends_at_the_final_height(log_rows: int, name: str) -> None:
    parameters = by_name(name)
    arities = parameters.log_arities(log_rows)
    assert log_rows + parameters.log_blowup - sum(arities) == parameters.log_final_height
    assert all(1 <= arity <= parameters.max_log_arity for arity in arities)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownParametersError, match="standard"):
        by_name("fastest")


def test_testing_is_no_production_set() -> None:
    assert TESTING.name not in PRODUCTION_NAMES
    assert {STANDARD.name, PROVEN_100.name} == PRODUCTION_NAMES


def test_the_query_term_alone_is_what_unique_decoding_allows() -> None:
    """(3/4)^210 · 2^-16: the sum of all terms can only be worse, and at a small height hardly is."""
    alone = 210 * -math.log2(3 / 4) + 16
    bits = unique_decoding_bits(PROVEN_100, program=symbolic_program(Poseidon2Air()), log_rows=3)
    assert alone - 0.1 < bits < alone


def test_proven_100_admits_operation_batches_up_to_2_to_the_14_rows() -> None:
    program = symbolic_program(OperationAir())
    assert [h for h in range(1, 23) if admits(PROVEN_100, program=program, log_rows=h)] == list(range(1, 15))


def test_more_columns_lower_the_height_that_proven_100_admits() -> None:
    wide = symbolic_program(Poseidon2Air(per_row=8))
    assert admits(PROVEN_100, program=wide, log_rows=12)
    assert not admits(PROVEN_100, program=wide, log_rows=13)


def test_taller_traces_never_have_more_proven_bits() -> None:
    program = symbolic_program(OperationAir())
    bits = [unique_decoding_bits(PROVEN_100, program=program, log_rows=h) for h in range(1, 23)]
    assert bits == sorted(bits, reverse=True)


def test_standard_admits_every_height_the_field_can_hold() -> None:
    program = symbolic_program(OperationAir())
    assert [h for h in range(30) if admits(STANDARD, program=program, log_rows=h)] == list(range(1, 24))
