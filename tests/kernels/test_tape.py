"""Lowering: what is fused, what stays off the tape, and that no slot is read before it is written."""

import pytest
from hypothesis import given, settings

from kernels.field import P
from kernels.program import Op, SymbolicProgram
from kernels.tape import Code, Tape, lower
from tests.kernels.programs import Nodes, cube_program, programs

# For each instruction: which of its four operands are slots that it reads.
READS = {
    Code.LOAD_LOCAL: (),
    Code.LOAD_NEXT: (),
    Code.LOAD_SELECTOR: (),
    Code.SPLAT: (),
    Code.ADD: (1, 2),
    Code.ADD3: (1, 2, 3),
    Code.ADD_SCALAR: (1,),
    Code.SUB: (1, 2),
    Code.SUB_SCALAR: (1,),
    Code.SCALAR_SUB: (1,),
    Code.MUL: (1, 2),
    Code.MUL_SCALAR: (1,),
    Code.MUL_SCALAR_ADD: (1, 3),
    Code.CUBE: (1,),
    Code.CUBE_SUM: (1,),
    Code.FOLD: (0, 2),
}


def folded_constraints(tape: Tape) -> list[int]:
    folds = tape.instructions[tape.instructions[:, 0] == Code.FOLD]
    return sorted(int(j) for j in folds[:, [2, 4]].reshape(-1))


@pytest.mark.parametrize("tile", [4, 8, 16])
@given(program=programs())
@settings(max_examples=40, deadline=None)
def test_slots_are_written_before_they_are_read(tile: int, program: SymbolicProgram) -> None:
    tape = lower(program, tile=tile)
    written: set[int] = set()
    for number, *operands in tape.instructions.tolist():
        code = Code(number)
        assert all(operands[k] in written for k in READS[code])
        if code in (Code.LOAD_LOCAL, Code.LOAD_NEXT):
            assert operands[1] % tile == 0
            written.update(range(operands[0], operands[0] + tile))
        elif code is not Code.FOLD:
            written.add(operands[0])
    assert max(written) < tape.slots


@given(program=programs())
@settings(max_examples=40, deadline=None)
def test_every_constraint_is_folded_once(program: SymbolicProgram) -> None:
    count = len(program.roots)
    # An odd one is folded along with a weight of zero, which stands after all others.
    assert folded_constraints(lower(program, tile=8)) == list(range(count + count % 2))


def test_lowering_fuses_cubes_and_reuses_slots() -> None:
    tape = lower(cube_program(64), tile=8)
    codes = [Code(code) for code in tape.instructions[:, 0]]
    assert codes.count(Code.CUBE_SUM) == 64
    assert Code.MUL not in codes
    assert Code.ADD_SCALAR not in codes
    assert tape.slots < 64, "every column's values are needed for a few instructions only"


def test_lowering_keeps_scalar_work_out_of_the_tape() -> None:
    graph = Nodes()
    p0, p1 = graph.add(Op.PUBLIC, 0), graph.add(Op.PUBLIC, 1)
    scalar = graph.add(Op.MUL, graph.add(Op.ADD, p0, p1), graph.add(Op.CONSTANT, 3))
    root = graph.add(Op.SUB, graph.add(Op.LOCAL, 0), scalar)
    program = SymbolicProgram(name="scalar", width=1, num_public=2, nodes=tuple(graph.nodes), roots=(root,))
    tape = lower(program, tile=8)
    assert [Code(code) for code in tape.instructions[:, 0]] == [Code.LOAD_LOCAL, Code.SUB_SCALAR, Code.FOLD]
    assert tape.scalar_values([10, P - 3]) == [21]
