"""An AIR (algebraic intermediate representation) is one Python function over symbolic columns.

    class Fibonacci:
        name, width, num_public = "fibonacci", 2, 3

        def constraints(self, builder: Builder) -> None:
            a, b = builder.local
            builder.when_first(a - builder.public[0])
            builder.when_transition(builder.next[0] - b)
            ...

``symbolic_program`` runs it once and records a :class:`~kernels.program.SymbolicProgram`. Three readers use
that record: the prover's quotient kernel, the verifier's interpreter (:func:`~kernels.program.evaluate`)
and the degree count. The order of assertions and the sign of each are part of the protocol: the constraints
are folded by Horner in emission order (proof.md section 5; Plonky3 p3-uni-stark 0.6.2,
``SymbolicAirBuilder``).
"""

from functools import lru_cache
from typing import Protocol, TypeAlias

from kernels.field import P
from kernels.program import (
    BASE,
    EXTENSION,
    LEAVES,
    FieldOperations,
    Node,
    Op,
    SymbolicProgram,
    evaluate,
)

__all__ = [
    "BASE",
    "EXTENSION",
    "Air",
    "Builder",
    "Expression",
    "FieldOperations",
    "Operand",
    "SymbolicProgram",
    "evaluate",
    "symbolic_program",
]


class Air(Protocol):
    """A statement about a trace of ``width`` columns and ``num_public`` public values."""

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int: ...

    @property
    def num_public(self) -> int: ...

    def __hash__(self) -> int: ...

    def constraints(self, builder: "Builder") -> None:
        """Assert every constraint on ``builder``, in the protocol's order."""


class _Graph:
    """Nodes made so far; equal nodes are one, so that common subexpressions are shared."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._index_of: dict[Node, int] = {}

    def intern(self, op: Op, a: int = 0, b: int = 0) -> int:
        node = Node(op, a, b)
        index = self._index_of.get(node)
        if index is None:
            index = len(self.nodes)
            self.nodes.append(node)
            self._index_of[node] = index
        return index

    def constant_at(self, index: int) -> int | None:
        node = self.nodes[index]
        return node.a if node.op is Op.CONSTANT else None

    def binary(self, op: Op, a: int, b: int) -> int:
        """A node for ``a op b``, with arithmetic on constants, zero and one done now."""
        left, right = self.constant_at(a), self.constant_at(b)
        if left is not None and right is not None:
            value = {Op.ADD: left + right, Op.SUB: left - right, Op.MUL: left * right}[op]
            return self.intern(Op.CONSTANT, value % P)
        if right == 0:
            return b if op is Op.MUL else a
        if op is Op.SUB:
            return self.intern(op, a, b)
        if left == 0:
            return a if op is Op.MUL else b
        if op is Op.MUL and (left == 1 or right == 1):
            return b if left == 1 else a
        # Addition and multiplication commute: one order, so that x + y and y + x are the same node.
        return self.intern(op, min(a, b), max(a, b))


class Expression:
    """A field expression over symbolic columns: ``+ - *`` with expressions and integers, and ``-e``."""

    __slots__ = ("_graph", "index")

    def __init__(self, graph: _Graph, index: int) -> None:
        self._graph = graph
        self.index = index

    def _lift(self, other: "Operand") -> int:
        if isinstance(other, int):
            return self._graph.intern(Op.CONSTANT, other % P)
        assert other._graph is self._graph, "an expression belongs to one builder"
        return other.index

    def _combine(self, op: Op, a: int, b: int) -> "Expression":
        return Expression(self._graph, self._graph.binary(op, a, b))

    def __add__(self, other: "Operand") -> "Expression":
        return self._combine(Op.ADD, self.index, self._lift(other))

    def __sub__(self, other: "Operand") -> "Expression":
        return self._combine(Op.SUB, self.index, self._lift(other))

    def __mul__(self, other: "Operand") -> "Expression":
        return self._combine(Op.MUL, self.index, self._lift(other))

    def __radd__(self, other: int) -> "Expression":
        return self._combine(Op.ADD, self._lift(other), self.index)

    def __rsub__(self, other: int) -> "Expression":
        return self._combine(Op.SUB, self._lift(other), self.index)

    def __rmul__(self, other: int) -> "Expression":
        return self._combine(Op.MUL, self._lift(other), self.index)

    def __neg__(self) -> "Expression":
        return self._combine(Op.SUB, self._lift(0), self.index)


Operand: TypeAlias = Expression | int


class Builder:
    """What a constraint function sees: two rows, the public values, the selectors, and the assertions.

    ``local`` and ``next`` are tuples of ``width`` expressions (``next`` wraps from the last row to row 0);
    ``public`` has ``num_public``. ``first``, ``last`` and ``transition`` are the unnormalised selectors.
    """

    def __init__(self, *, width: int, num_public: int) -> None:
        self._graph = _Graph()
        self._roots: list[int] = []
        self.local = tuple(self._leaf(Op.LOCAL, column) for column in range(width))
        self.next = tuple(self._leaf(Op.NEXT, column) for column in range(width))
        self.public = tuple(self._leaf(Op.PUBLIC, index) for index in range(num_public))
        self.first = self._leaf(Op.FIRST)
        self.last = self._leaf(Op.LAST)
        self.transition = self._leaf(Op.TRANSITION)

    def _leaf(self, op: Op, a: int = 0) -> Expression:
        return Expression(self._graph, self._graph.intern(op, a))

    def assert_zero(self, expression: Operand) -> None:
        """``expression`` is zero on every row."""
        self._roots.append(self.first._lift(expression))

    def when_first(self, expression: Operand) -> None:
        """``expression`` is zero on row 0."""
        self.assert_zero(self.first * expression)

    def when_last(self, expression: Operand) -> None:
        """``expression`` is zero on the last row."""
        self.assert_zero(self.last * expression)

    def when_transition(self, expression: Operand) -> None:
        """``expression`` is zero on every row but the last."""
        self.assert_zero(self.transition * expression)

    def program(self, name: str) -> SymbolicProgram:
        """The assertions so far, with nodes that no assertion needs left out."""
        nodes = self._graph.nodes
        needed = set(self._roots)
        for index in range(len(nodes) - 1, -1, -1):
            if index in needed and nodes[index].op not in LEAVES:
                needed.update((nodes[index].a, nodes[index].b))
        order = sorted(needed)
        position = {old: new for new, old in enumerate(order)}

        def moved(node: Node) -> Node:
            if node.op in LEAVES:
                return node
            return Node(node.op, position[node.a], position[node.b])

        return SymbolicProgram(
            name=name,
            width=len(self.local),
            num_public=len(self.public),
            nodes=tuple(moved(nodes[old]) for old in order),
            roots=tuple(position[root] for root in self._roots),
        )


@lru_cache(maxsize=64)
def symbolic_program(air: Air) -> SymbolicProgram:
    """Run the AIR's constraint function once; the result is kept per AIR object (equal objects share it)."""
    builder = Builder(width=air.width, num_public=air.num_public)
    air.constraints(builder)
    return builder.program(air.name)
