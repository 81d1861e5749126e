"""One constraint function, recorded once: nodes, degrees, emission order, the interpreter's values."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import field as koala
from kernels.field import P
from kernels.program import Op
from tests.workers.fib_air import FibAir, fib_trace
from workers.stark.air import (
    BASE,
    EXTENSION,
    Builder,
    Expression,
    SymbolicProgram,
    evaluate,
    symbolic_program,
)

elements = st.integers(0, P - 1)


@dataclass(frozen=True, eq=False)
class WrittenAir:
    """An AIR from a function."""

    body: Callable[[Builder], None]
    width: int = 4
    num_public: int = 2
    name: str = field(default="written", init=False)

    def constraints(self, builder: Builder) -> None:
        self.body(builder)


def program_of(body: Callable[[Builder], None]) -> SymbolicProgram:
    return symbolic_program(WrittenAir(body))


def values_of(
    program: SymbolicProgram, *, local: list[int], following: list[int], public: list[int]
) -> list[int]:
    return evaluate(
        program, local=local, next=following, public=public, first=2, last=3, transition=5, operations=BASE
    )


DEGREES: list[tuple[Callable[[Builder], Expression | int], int, int]] = [
    (lambda b: 7, 0, 1),
    (lambda b: b.public[0] * b.public[1], 0, 1),
    (lambda b: b.transition * b.public[0], 0, 1),
    (lambda b: b.local[0], 1, 1),
    (lambda b: b.next[0], 1, 1),
    (lambda b: b.first + b.last, 1, 1),
    (lambda b: b.local[0] * b.next[1] - b.local[2], 2, 1),
    (lambda b: b.transition * b.local[0] * b.local[1], 2, 1),
    (lambda b: b.first * b.local[0] * b.local[1], 3, 2),
    (lambda b: -(b.local[0] * b.local[0] * b.local[0]) + 1, 3, 2),
    (lambda b: (b.local[0] * b.local[1]) * (b.local[2] * b.local[3]), 4, 4),
    (lambda b: b.last * b.local[0] * b.local[1] * b.local[2] * b.local[3], 5, 4),
    (lambda b: (b.local[0] * b.local[1] * b.local[2]) * (b.next[0] * b.next[1] * b.next[2]), 6, 8),
]


@pytest.mark.parametrize(("expression", "degree", "chunks"), DEGREES)
def test_degree_and_quotient_chunks_follow_the_protocols_rules(
    expression: Callable[[Builder], Expression | int], degree: int, chunks: int
) -> None:
    program = program_of(lambda b: b.assert_zero(expression(b)))
    assert program.degree == degree
    assert program.num_quotient_chunks == chunks


def test_the_degree_is_that_of_the_highest_constraint() -> None:
    def body(b: Builder) -> None:
        b.assert_zero(b.local[0] * b.local[1] * b.local[2])
        b.assert_zero(b.local[0])

    assert program_of(body).degree == 3


def test_the_next_row_counts_as_read_only_if_a_constraint_reads_it() -> None:
    def unread(b: Builder) -> None:
        _ = b.next[0] + b.local[1]
        b.assert_zero(b.local[0])

    assert not program_of(unread).reads_next
    assert program_of(lambda b: b.when_last(b.next[0])).reads_next


def test_constraints_keep_their_order_sign_and_repetition() -> None:
    def body(b: Builder) -> None:
        b.assert_zero(b.local[1] - b.local[0])
        b.assert_zero(b.local[0] - b.local[1])
        b.assert_zero(b.local[1] - b.local[0])
        b.assert_zero(9)

    values = values_of(program_of(body), local=[1, 4, 0, 0], following=[], public=[0, 0])
    assert values == [3, P - 3, 3, 9]


def test_assertions_under_a_selector_are_multiplied_by_it() -> None:
    def body(b: Builder) -> None:
        b.when_first(b.local[0])
        b.when_last(b.local[0])
        b.when_transition(b.local[0])

    values = values_of(program_of(body), local=[11, 0, 0, 0], following=[], public=[0, 0])
    assert values == [22, 33, 55]


def test_equal_expressions_are_one_node_and_what_nobody_needs_is_left_out() -> None:
    def body(b: Builder) -> None:
        _ = b.local[2] * b.local[3]
        b.assert_zero((b.local[0] + b.local[1]) * (b.local[1] + b.local[0]))

    program = program_of(body)
    assert [node.op for node in program.nodes] == [Op.LOCAL, Op.LOCAL, Op.ADD, Op.MUL]


def test_operands_stand_before_their_users() -> None:
    program = symbolic_program(FibAir())
    for index, node in enumerate(program.nodes):
        if node.op in (Op.ADD, Op.SUB, Op.MUL):
            assert max(node.a, node.b) < index


def test_equal_airs_share_a_program() -> None:
    assert symbolic_program(FibAir()) is symbolic_program(FibAir())


def test_expressions_of_two_builders_do_not_mix() -> None:
    one, other = Builder(width=1, num_public=0), Builder(width=1, num_public=0)
    with pytest.raises(AssertionError, match="one builder"):
        _ = one.local[0] + other.local[0]


@given(x=elements, y=elements, k=st.integers(-(2**40), 2**40))
def test_expressions_compute_what_the_field_computes(x: int, y: int, k: int) -> None:
    def body(b: Builder) -> None:
        u, v = b.local[0], b.public[0]
        for expression in (u + v, u - v, u * v, -u, k + u, u + k, k - u, u - k, k * u, u * k):
            b.assert_zero(expression)
        b.assert_zero((u - k) * (k - v) * u)

    expected = [x + y, x - y, x * y, -x, k + x, x + k, k - x, x - k, k * x, x * k, (x - k) * (k - y) * x]
    values = values_of(program_of(body), local=[x, 0, 0, 0], following=[], public=[y, 0])
    assert values == [value % P for value in expected]


def test_the_interpreter_knows_the_fibonacci_rows() -> None:
    trace, public = fib_trace(3, 2_000_000_000, log_rows=4)
    program = symbolic_program(FibAir())
    assert (len(program.roots), program.degree, program.num_quotient_chunks) == (16, 3, 2)
    rows = trace.tolist()
    for i in range(16):
        selectors = {"first": int(i == 0), "last": int(i == 15), "transition": int(i != 15)}
        following = rows[(i + 1) % 16]
        assert not any(
            evaluate(program, local=rows[i], next=following, public=public, operations=BASE, **selectors)
        )
        following = [value + 1 for value in following]
        broken = evaluate(program, local=rows[i], next=following, public=public, operations=BASE, **selectors)
        assert any(broken) == (i != 15)


@given(local=st.lists(elements, min_size=8, max_size=8), following=st.lists(elements, min_size=8, max_size=8))
def test_the_extension_agrees_with_the_base_field_inside_it(local: list[int], following: list[int]) -> None:
    program, public, embed = symbolic_program(FibAir()), [5, 6, 7], koala.ext_from_base
    base = values_of(program, local=local, following=following, public=public)
    extension = evaluate(
        program,
        local=[embed(x) for x in local],
        next=[embed(x) for x in following],
        public=[embed(x) for x in public],
        first=embed(2),
        last=embed(3),
        transition=embed(5),
        operations=EXTENSION,
    )
    assert extension == [embed(value) for value in base]
