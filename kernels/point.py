"""The constraints of a program at one point of the extension, folded: what a verifier needs of them.

`kernels.program.evaluate` is the definition; for a wide AIR its Python arithmetic would take most of a
verifier's time. This walks the same graph with compiled extension arithmetic, and shares nothing with the
prover's quotient kernel but the field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import jit
from kernels.extension import ext_add, ext_mul, ext_sub
from kernels.field import EXT_DEGREE, U32, Ext, from_monty, monty, to_monty
from kernels.program import LEAVES, Op, SymbolicProgram

I64 = npt.NDArray[np.int64]

_COPY, _ADD, _SUB, _MUL = range(4)
_ARITHMETIC = {Op.ADD: _ADD, Op.SUB: _SUB, Op.MUL: _MUL}


@dataclass(frozen=True, eq=False)
class PointProgram:
    """A program as arrays: `steps` is I64[n, 3] (code, operand, operand), where a leaf copies an entry of the
    input table: constants, then local cells, next cells, public values, and the three selectors."""

    program: SymbolicProgram
    constants: U32
    steps: I64
    roots: I64


def lower(program: SymbolicProgram) -> PointProgram:
    """Done once an AIR."""
    constants = [node.a for node in program.nodes if node.op is Op.CONSTANT]
    local = len(constants)
    following = local + program.width
    public = following + program.width
    selectors = public + program.num_public
    start = {
        Op.LOCAL: local,
        Op.NEXT: following,
        Op.PUBLIC: public,
        Op.FIRST: selectors,
        Op.LAST: selectors + 1,
        Op.TRANSITION: selectors + 2,
    }
    steps = np.zeros((len(program.nodes), 3), dtype=np.int64)
    seen = 0
    for place, (op, a, b) in enumerate(program.nodes):
        if op is Op.CONSTANT:
            steps[place] = _COPY, seen, 0
            seen += 1
        elif op in LEAVES:
            steps[place] = _COPY, start[op] + a, 0
        else:
            steps[place] = _ARITHMETIC[op], a, b
    table = np.zeros((local, EXT_DEGREE), dtype=np.uint32)
    table[:, 0] = [monty(constant) for constant in constants]
    return PointProgram(program, table, steps, np.array(program.roots, dtype=np.int64))


@jit.inline
def _element(table: U32, row: int) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    return (table[row, 0], table[row, 1], table[row, 2], table[row, 3])


@jit.kernel(
    jit.reads(2, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.reads(2),
    jit.reads(2),
    jit.writes(2),
    jit.writes(1),
)
def _folded(steps: I64, roots: I64, inputs: U32, alpha: U32, values: U32, folded: U32) -> None:
    for place in range(steps.shape[0]):
        code, a, b = steps[place, 0], steps[place, 1], steps[place, 2]
        if code == _COPY:
            result = _element(inputs, a)
        elif code == _ADD:
            result = ext_add(_element(values, a), _element(values, b))
        elif code == _SUB:
            result = ext_sub(_element(values, a), _element(values, b))
        else:
            result = ext_mul(_element(values, a), _element(values, b))
        for k in range(EXT_DEGREE):
            values[place, k] = result[k]
    total = (np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0))
    for root in roots:
        total = ext_add(ext_mul(total, _element(alpha, 0)), _element(values, root))
    for k in range(EXT_DEGREE):
        folded[k] = total[k]


def fold_constraints(
    lowered: PointProgram,
    *,
    local: U32,
    following: U32 | None,
    public_values: Sequence[int],
    selectors: Sequence[Ext],
    alpha: Ext,
) -> Ext:
    """Horner's fold of all constraints with `alpha`, acc = acc · alpha + c_j in emission order.

    `local` and `following` are U32[width, 4] in Montgomery form (`following` None where no next cell is
    read); `public_values`, `selectors` (first, last, transition), `alpha` and the result are canonical.
    """
    program = lowered.program
    assert local.shape == (program.width, EXT_DEGREE), local.shape
    assert following is not None or not program.reads_next, "the program reads the next row"
    assert len(public_values) == program.num_public, (len(public_values), program.num_public)
    public = np.zeros((program.num_public, EXT_DEGREE), dtype=np.uint32)
    public[:, 0] = [monty(value) for value in public_values]
    inputs = np.concatenate(
        (
            lowered.constants,
            local,
            following if following is not None else np.zeros_like(local),
            public,
            to_monty(np.array(selectors, dtype=np.int64)),
        )
    )
    values = np.empty((len(lowered.steps), EXT_DEGREE), dtype=np.uint32)
    folded = np.empty(EXT_DEGREE, dtype=np.uint32)
    alpha_row = to_monty(np.array([alpha], dtype=np.int64))
    _folded(lowered.steps, lowered.roots, inputs, alpha_row, values, folded)
    c0, c1, c2, c3 = from_monty(folded).tolist()
    return (c0, c1, c2, c3)
