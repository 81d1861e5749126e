"""Constraints at a point of the extension, against the interpreter that defines them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.field import Ext, P, ext_add, ext_from_base, ext_mul, to_monty
from kernels.point import fold_constraints, lower
from kernels.program import EXTENSION, SymbolicProgram, evaluate
from tests.workers.fib_air import FibAir
from workers.airs.operation import OperationAir
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.air import Air, symbolic_program


def random_extensions(rng: np.random.Generator, count: int) -> list[Ext]:
    edges = [0, 1, P - 1]
    rows = rng.integers(0, P, size=(count, 4))
    rows[rng.random((count, 4)) < 0.05] = rng.choice(edges)
    return [(a, b, c, d) for a, b, c, d in rows.tolist()]


def defined(
    program: SymbolicProgram,
    *,
    local: list[Ext],
    following: list[Ext],
    public: list[int],
    selectors: list[Ext],
    alpha: Ext,
) -> Ext:
    values = evaluate(
        program,
        local=local,
        next=following,
        public=[ext_from_base(value) for value in public],
        first=selectors[0],
        last=selectors[1],
        transition=selectors[2],
        operations=EXTENSION,
    )
    folded: Ext = (0, 0, 0, 0)
    for value in values:
        folded = ext_add(ext_mul(folded, alpha), value)
    return folded


@pytest.mark.parametrize("air", [FibAir(), Poseidon2Air(), Poseidon2Air(per_row=2), OperationAir()])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_fold_is_the_interpreters(air: Air, seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = symbolic_program(air)
    local, following = (random_extensions(rng, program.width) for _ in range(2))
    public = rng.integers(0, P, size=program.num_public).tolist()
    *selectors, alpha = random_extensions(rng, 4)
    found = fold_constraints(
        lower(program),
        local=to_monty(np.array(local)),
        following=to_monty(np.array(following)) if program.reads_next else None,
        public_values=public,
        selectors=selectors,
        alpha=alpha,
    )
    assert found == defined(
        program, local=local, following=following, public=public, selectors=selectors, alpha=alpha
    )


def test_a_program_that_reads_the_next_row_must_be_given_it() -> None:
    program = symbolic_program(FibAir())
    with pytest.raises(AssertionError, match="next row"):
        fold_constraints(
            lower(program),
            local=np.zeros((8, 4), dtype=np.uint32),
            following=None,
            public_values=[0, 0, 0],
            selectors=[(0, 0, 0, 0)] * 3,
            alpha=(0, 0, 0, 0),
        )
