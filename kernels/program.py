"""A constraint program: the constraints of an AIR as a directed acyclic graph of field operations, as plain
data.

The graph is made by ``workers.stark.air`` from an AIR's one constraint function. Everything else reads it:
the prover's quotient kernel compiles it, the verifier interprets it at one point, and the degree that fixes
the number of quotient chunks is a property of it. Nodes are shared (equal expressions are one node) and
stand in topological order: an operand's index is smaller than its user's.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

from kernels import field

T = TypeVar("T")


class Op(enum.IntEnum):
    """What a node is: a leaf that reads an input, or an operation on two earlier nodes."""

    CONSTANT = 0
    LOCAL = 1
    NEXT = 2
    PUBLIC = 3
    FIRST = 4
    LAST = 5
    TRANSITION = 6
    ADD = 7
    SUB = 8
    MUL = 9


LEAVES = frozenset({Op.CONSTANT, Op.LOCAL, Op.NEXT, Op.PUBLIC, Op.FIRST, Op.LAST, Op.TRANSITION})

# proof.md section 5: the selectors of first and last row count 1, that of transitions 0 (as in Plonky3
# 0.6.2).
LEAF_DEGREES = {
    Op.CONSTANT: 0,
    Op.LOCAL: 1,
    Op.NEXT: 1,
    Op.PUBLIC: 0,
    Op.FIRST: 1,
    Op.LAST: 1,
    Op.TRANSITION: 0,
}


class Node(NamedTuple):
    """One node. ``a`` is the canonical constant, the column, or the public value's index for a leaf, and the
    first operand's node index otherwise; ``b`` is the second operand's index, 0 for a leaf."""

    op: Op
    a: int
    b: int


@dataclass(frozen=True, eq=False)
class SymbolicProgram:
    """The constraints of one AIR; ``roots`` are the node indices of the constraints in emission order.

    Programs are compared and hashed by identity: one AIR object's program is made once.
    """

    name: str
    width: int
    num_public: int
    nodes: tuple[Node, ...]
    roots: tuple[int, ...]

    @cached_property
    def degrees(self) -> tuple[int, ...]:
        """The degree of every node by the rules of proof.md section 5."""
        degrees: list[int] = []
        for op, a, b in self.nodes:
            if op in LEAVES:
                degrees.append(LEAF_DEGREES[op])
            elif op is Op.MUL:
                degrees.append(degrees[a] + degrees[b])
            else:
                degrees.append(max(degrees[a], degrees[b]))
        return tuple(degrees)

    @cached_property
    def degree(self) -> int:
        """The greatest degree of a constraint (0 if there are none)."""
        return max((self.degrees[root] for root in self.roots), default=0)

    @cached_property
    def reads_next(self) -> bool:
        """Whether any constraint reads a cell of the next row, so that the trace is opened at two points."""
        return any(node.op is Op.NEXT for node in self.nodes)

    @property
    def num_quotient_chunks(self) -> int:
        """Chunks of the quotient: degree minus one, at least one, rounded up to a power of two."""
        return 1 << (max(self.degree, 2) - 2).bit_length()


@dataclass(frozen=True)
class FieldOperations(Generic[T]):
    """The ring that a program is evaluated in."""

    constant: Callable[[int], T]
    add: Callable[[T, T], T]
    sub: Callable[[T, T], T]
    mul: Callable[[T, T], T]


BASE: FieldOperations[int] = FieldOperations(
    constant=lambda value: value % field.P, add=field.add, sub=field.sub, mul=field.mul
)
"""KoalaBear on canonical Python integers."""

EXTENSION: FieldOperations[field.Ext] = FieldOperations(
    constant=field.ext_from_base,
    add=field.ext_add,
    sub=field.ext_sub,
    mul=field.ext_mul,
)
"""The degree-4 extension on tuples of four canonical Python integers."""


def evaluate(
    program: SymbolicProgram,
    *,
    local: Sequence[T],
    next: Sequence[T],
    public: Sequence[T],
    first: T,
    last: T,
    transition: T,
    operations: FieldOperations[T],
) -> list[T]:
    """The constraints' values in emission order, selectors multiplied in.

    ``local`` and ``next`` are the ``width`` cells of two rows (``next`` may be empty if the program does
    not read it), ``public`` the ``num_public`` public values, all in the ring of ``operations``, as are the
    three selectors.
    """
    assert len(local) == program.width, (len(local), program.width)
    assert len(next) == program.width or (not next and not program.reads_next), (len(next), program.width)
    assert len(public) == program.num_public, (len(public), program.num_public)
    selectors = {Op.FIRST: first, Op.LAST: last, Op.TRANSITION: transition}
    cells = {Op.LOCAL: local, Op.NEXT: next, Op.PUBLIC: public}
    binary = {Op.ADD: operations.add, Op.SUB: operations.sub, Op.MUL: operations.mul}
    values: list[T] = []
    for op, a, b in program.nodes:
        if op in binary:
            values.append(binary[op](values[a], values[b]))
        elif op in cells:
            values.append(cells[op][a])
        elif op is Op.CONSTANT:
            values.append(operations.constant(a))
        else:
            values.append(selectors[op])
    return [values[root] for root in program.roots]
