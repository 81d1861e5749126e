"""Constraint programs for tests: random ones, and a builder that needs no AIR."""

from hypothesis import strategies as st

from kernels.field import P
from kernels.program import LEAVES, Node, Op, SymbolicProgram

MAX_DEGREE = 3


class Nodes:
    """Nodes in topological order, equal ones shared, with their degrees."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.degrees: list[int] = []

    def add(self, op: Op, a: int = 0, b: int = 0) -> int:
        node = Node(op, a, b)
        if node in self.nodes:
            return self.nodes.index(node)
        if op in LEAVES:
            degree = 0 if op in (Op.CONSTANT, Op.PUBLIC, Op.TRANSITION) else 1
        else:
            pair = self.degrees[a], self.degrees[b]
            degree = sum(pair) if op is Op.MUL else max(pair)
        self.nodes.append(node)
        self.degrees.append(degree)
        return len(self.nodes) - 1


@st.composite
def programs(draw: st.DrawFn, *, max_width: int = 20) -> SymbolicProgram:
    """Programs of degree at most 3 that use every kind of node, with shared and unshared operands."""
    width = draw(st.integers(1, max_width))
    num_public = draw(st.integers(0, 3))
    graph = Nodes()
    leaves = [(op, 0) for op in (Op.FIRST, Op.LAST, Op.TRANSITION)]
    leaves += [(Op.PUBLIC, index) for index in range(num_public)]
    leaves += [(op, column) for op in (Op.LOCAL, Op.NEXT) for column in range(width)]
    leaves += [(Op.CONSTANT, value) for value in (0, 1, 2, P - 1, draw(st.integers(0, P - 1)))]
    for op, a in draw(st.lists(st.sampled_from(leaves), min_size=1, max_size=12)):
        graph.add(op, a)
    for _ in range(draw(st.integers(0, 40))):
        near = st.integers(max(0, len(graph.nodes) - 6), len(graph.nodes) - 1)
        anywhere = st.integers(0, len(graph.nodes) - 1)
        op, a = draw(st.sampled_from((Op.ADD, Op.SUB, Op.MUL))), draw(near)
        b = draw(st.one_of(st.just(a), near, anywhere))
        if op is not Op.MUL or graph.degrees[a] + graph.degrees[b] <= MAX_DEGREE:
            graph.add(op, a, b)
    roots = draw(st.lists(st.integers(0, len(graph.nodes) - 1), min_size=1, max_size=8))
    return SymbolicProgram(
        name="random", width=width, num_public=num_public, nodes=tuple(graph.nodes), roots=tuple(roots)
    )


def cube_program(width: int) -> SymbolicProgram:
    """(x + 7)^3 - next x for each column: fused cubes, tiles beyond one, a last tile that is not full."""
    graph = Nodes()
    seven = graph.add(Op.CONSTANT, 7)
    roots = []
    for column in range(width):
        x = graph.add(Op.ADD, graph.add(Op.LOCAL, column), seven)
        cube = graph.add(Op.MUL, x, graph.add(Op.MUL, x, x))
        roots.append(graph.add(Op.SUB, cube, graph.add(Op.NEXT, column)))
    return SymbolicProgram(
        name="cubes", width=width, num_public=0, nodes=tuple(graph.nodes), roots=tuple(roots)
    )
