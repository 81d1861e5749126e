"""All constraints of the operation AIR over all rows of a trace, with a name for each.

The names say what a constraint is for; a test that tells a lie says by name what must catch it. Numbers in
brackets are the element j, or the column for `permutation`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernels.field import P
from kernels.program import FieldOperations, evaluate
from workers.airs.operation import OperationAir
from workers.stark.air import symbolic_program

U64 = npt.NDArray[np.uint64]

PROGRAM = symbolic_program(OperationAir())

GROUPS: dict[int, list[str]] = {
    1: [f"permutation[{column}]" for column in range(16, 164)],
    2: [
        *(f"bit {flag}" for flag in "abdeksclr"),
        "bit pad",
        "first is S1",
        "b after a",
        "d after b",
        "e after d",
        "k after e",
        "s after k",
        "c or l after s or c",
        "r after e",
        "half",
        "padding stays",
        "last is padding",
    ],
    3: [f"start[{j}]" for j in range(8)],
    4: [f"capacity[{j}]" for j in range(8)],
    5: [f"rate[{j}]" for j in range(8)],
    6: [f"register[{j}]" for j in range(8)],
    7: [
        "left",
        *(f"size bit[{i}]" for i in range(8)),
        "one size",
        "size is left",
        *(f"zero padding[{j}]" for j in range(1, 8)),
        "tail bit",
        "tail range",
        "tail of one element",
    ],
    8: [
        "root tag",
        "root length",
        *(f"root zero[{j}]" for j in range(2, 8)),
        *(f"root absorbs[{j}]" for j in range(8)),
        *(f"root carried[{j}]" for j in range(8)),
    ],
    9: [*(f"root[{j}]" for j in range(8)), "count start", "count", "count end"],
}
NAMES = [name for group in GROUPS.values() for name in group]

_P = np.uint64(P)

ARRAYS: FieldOperations[U64] = FieldOperations(
    constant=lambda value: np.array(value, dtype=np.uint64),
    add=lambda x, y: (x + y) % _P,
    sub=lambda x, y: (x + (_P - y)) % _P,
    mul=lambda x, y: x * y % _P,
)


def constraint_values(
    local: U64, following: U64, public: Sequence[U64], *, first: U64, last: U64, transition: U64
) -> list[U64]:
    """The constraints' values where `local` and `following` are [..., 192] rows; selectors broadcast to
    [...]."""
    return evaluate(
        PROGRAM,
        local=list(np.moveaxis(local, -1, 0)),
        next=list(np.moveaxis(following, -1, 0)),
        public=public,
        first=first,
        last=last,
        transition=transition,
        operations=ARRAYS,
    )


def violated(traces: U64, public_values: npt.ArrayLike) -> list[set[str]]:
    """For each of `traces` [t, rows, 192] (canonical) with its public values [t, 9]: the names of the
    constraints that do not hold on some row. The row after the last is row 0."""
    rows = traces.shape[1]
    first, last = (np.zeros((1, rows), dtype=np.uint64) for _ in range(2))
    first[0, 0] = last[0, -1] = 1
    public = np.asarray(public_values, dtype=np.uint64)
    values = constraint_values(
        traces,
        np.roll(traces, -1, axis=1),
        [public[:, i, np.newaxis] for i in range(9)],
        first=first,
        last=last,
        transition=1 - last,
    )
    broken = [np.broadcast_to(value, traces.shape[:2]).any(axis=1) for value in values]
    return [{NAMES[i] for i in range(len(NAMES)) if broken[i][t]} for t in range(len(traces))]
