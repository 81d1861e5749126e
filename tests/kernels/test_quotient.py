"""The quotient kernel computes, bit for bit, what the interpreter and the definition of the quotient say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import field
from kernels.field import EXT_ZERO, GENERATOR, U32, Ext, P
from kernels.program import BASE, Op, SymbolicProgram, evaluate
from kernels.quotient import quotient
from kernels.threads import Pool
from tests.kernels.programs import Nodes, cube_program, programs

POOL = Pool(2)
ALPHA: Ext = (11, 22, 33, 44)


def random_matrix(seed: int, rows: int, width: int) -> U32:
    return field.to_monty(np.random.default_rng(seed).integers(0, P, (rows, width)))


def quotient_by_definition(
    program: SymbolicProgram, trace_lde: U32, *, log_rows: int, public: list[int], alpha: Ext
) -> list[list[Ext]]:
    """Row i of the natural order of the quotient domain, one row at a time, on Python integers."""
    rows, chunks = 1 << log_rows, program.num_quotient_chunks
    size = rows * chunks
    log_size = size.bit_length() - 1
    cells = field.from_monty(trace_lde).tolist()

    def storage(i: int) -> list[int]:
        return cells[int(format(i % size, f"0{log_size}b")[::-1], 2)]

    last_point = field.inverse(field.two_adic_generator(log_rows))
    out: list[list[Ext]] = [[] for _ in range(chunks)]
    for i in range(size):
        x = GENERATOR * field.power(field.two_adic_generator(log_size), i) % P
        vanishing = field.sub(field.power(x, rows), 1)
        constraints = evaluate(
            program,
            local=storage(i),
            next=storage(i + chunks),
            public=public,
            first=vanishing * field.inverse(x - 1) % P,
            last=vanishing * field.inverse(x - last_point) % P,
            transition=(x - last_point) % P,
            operations=BASE,
        )
        folded = EXT_ZERO
        for constraint in constraints:
            folded = field.ext_add(field.ext_mul(folded, alpha), field.ext_from_base(constraint))
        out[i % chunks].append(field.ext_scale(field.inverse(vanishing), folded))
    return out


def as_lists(values: U32) -> list[list[Ext]]:
    return [[field.ext_of(value) for value in chunk] for chunk in field.from_monty(values).tolist()]


@given(program=programs(), log_rows=st.integers(4, 5), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=60, deadline=None)
def test_random_programs(program: SymbolicProgram, log_rows: int, seed: int, data: st.DataObject) -> None:
    elements = st.integers(0, P - 1)
    public = data.draw(st.lists(elements, min_size=program.num_public, max_size=program.num_public))
    alpha = data.draw(st.tuples(elements, elements, elements, elements))
    trace_lde = random_matrix(seed, 2 << log_rows, program.width)
    computed = quotient(POOL, program, trace_lde, log_rows=log_rows, public_values=public, alpha=alpha)
    expected = quotient_by_definition(program, trace_lde, log_rows=log_rows, public=public, alpha=alpha)
    assert as_lists(computed) == expected


@pytest.mark.parametrize("width", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("log_rows", [4, 7])
def test_cubes_of_every_width(width: int, log_rows: int) -> None:
    program, trace_lde = cube_program(width), random_matrix(width, 2 << log_rows, width)
    computed = quotient(POOL, program, trace_lde, log_rows=log_rows, public_values=[], alpha=ALPHA)
    expected = quotient_by_definition(program, trace_lde, log_rows=log_rows, public=[], alpha=ALPHA)
    assert as_lists(computed) == expected


def test_degree_two_has_one_chunk_on_the_first_rows_of_a_larger_extension() -> None:
    graph = Nodes()
    x, y = graph.add(Op.LOCAL, 0), graph.add(Op.NEXT, 1)
    root = graph.add(Op.SUB, graph.add(Op.MUL, x, y), graph.add(Op.LOCAL, 1))
    program = SymbolicProgram(name="product", width=2, num_public=0, nodes=tuple(graph.nodes), roots=(root,))
    trace_lde = random_matrix(1, 64, 2)
    computed = quotient(POOL, program, trace_lde, log_rows=4, public_values=[], alpha=ALPHA)
    assert computed.shape == (1, 16, 4)
    expected = quotient_by_definition(program, trace_lde[:16], log_rows=4, public=[], alpha=ALPHA)
    assert as_lists(computed) == expected


def test_degree_five_has_four_chunks() -> None:
    graph = Nodes()
    x = graph.add(Op.LOCAL, 0)
    square = graph.add(Op.MUL, x, x)
    root = graph.add(Op.MUL, graph.add(Op.MUL, square, square), graph.add(Op.FIRST))
    program = SymbolicProgram(name="fifth", width=1, num_public=0, nodes=tuple(graph.nodes), roots=(root,))
    trace_lde = random_matrix(2, 64, 1)
    computed = quotient(POOL, program, trace_lde, log_rows=4, public_values=[], alpha=ALPHA)
    expected = quotient_by_definition(program, trace_lde, log_rows=4, public=[], alpha=ALPHA)
    assert as_lists(computed) == expected


def test_many_constraints_of_the_largest_elements_do_not_overflow() -> None:
    """All accumulators at their limit: 300 constraints that are -1 in Montgomery form, weights likewise."""
    graph = Nodes()
    cell = graph.add(Op.LOCAL, 0)
    program = SymbolicProgram(
        name="tops", width=1, num_public=0, nodes=tuple(graph.nodes), roots=(cell,) * 300
    )
    trace_lde = np.full((32, 1), P - 1, dtype=np.uint32)
    computed = quotient(POOL, program, trace_lde, log_rows=4, public_values=[], alpha=ALPHA)
    expected = quotient_by_definition(program, trace_lde, log_rows=4, public=[], alpha=ALPHA)
    assert as_lists(computed) == expected


def test_the_result_does_not_depend_on_the_threads() -> None:
    program, trace_lde = cube_program(9), random_matrix(4, 1 << 12, 9)
    results = [
        quotient(Pool(threads), program, trace_lde, log_rows=11, public_values=[], alpha=ALPHA)
        for threads in (1, 2)
    ]
    assert (results[0] == results[1]).all()
