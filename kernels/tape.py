"""A constraint program lowered to a tape: instructions of a small vector machine that folds the constraints.

The machine (`kernels.quotient`) works on a block of rows at a time. A *slot* holds one value for each row of
the block; an instruction reads slots and writes one. So a kernel that is compiled once serves every AIR,
however wide: compiling 148 constraints as straight-line code takes half a minute and eight copies do not
finish, while an instruction here costs a few nanoseconds of dispatch for a whole block. Lowering

* keeps what depends on constants and public values alone out of the tape (`scalars`, computed once a proof),
* fuses the shapes that AIRs are made of: cubes of a sum with a constant, sums of three, multiply-and-add,
* loads cells by tiles of `LANES` columns just before their first use, and reuses a slot after its last,
* folds a constraint into the accumulators, two at a time, as soon as it is computed.
"""

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import field
from kernels.program import LEAVES, Node, Op, SymbolicProgram

I32 = npt.NDArray[np.int32]

FIELDS = 5
"""Numbers of an instruction: the code, then up to four operands."""


class Code(enum.IntEnum):
    """Instructions; d, a, b, c are slots, s, t indices of scalars, j, k indices of constraints."""

    LOAD_LOCAL = 0  # d, column: a tile of cells into d, d + 1, ...
    LOAD_NEXT = 1  # d, column
    LOAD_SELECTOR = 2  # d, number of the selector
    SPLAT = 3  # d, s
    ADD = 4  # d, a, b
    ADD3 = 5  # d, a, b, c: a + b + c
    ADD_SCALAR = 6  # d, a, s
    SUB = 7  # d, a, b
    SUB_SCALAR = 8  # d, a, s: a - s
    SCALAR_SUB = 9  # d, a, s: s - a
    MUL = 10  # d, a, b
    MUL_SCALAR = 11  # d, a, s
    MUL_SCALAR_ADD = 12  # d, a, s, b: a * s + b
    CUBE = 13  # d, a: a^3
    CUBE_SUM = 14  # d, a, s: (a + s)^3
    FOLD = 15  # a, j, b, k: add a * weight_j + b * weight_k to the accumulators


SELECTORS = (Op.FIRST, Op.LAST, Op.TRANSITION)


@dataclass(frozen=True)
class Tape:
    """``instructions`` is I32[n, FIELDS]; ``slots`` of them suffice; ``scalars`` are the program's node
    indices whose values the scalar table holds. Constraint j of FOLD counts from 0; `len(roots)` is a weight
    of zero."""

    program: SymbolicProgram
    instructions: I32
    slots: int
    scalars: tuple[int, ...]

    def scalar_values(self, public_values: Sequence[int]) -> list[int]:
        """The scalar table for canonical public values: canonical integers."""
        assert len(public_values) == self.program.num_public
        values: dict[int, int] = {}
        needed = _closure(self.program.nodes, self.scalars)
        for index in needed:
            op, a, b = self.program.nodes[index]
            if op is Op.CONSTANT:
                values[index] = a
            elif op is Op.PUBLIC:
                values[index] = public_values[a] % field.P
            else:
                operation = {Op.ADD: field.add, Op.SUB: field.sub, Op.MUL: field.mul}[op]
                values[index] = operation(values[a], values[b])
        return [values[index] for index in self.scalars]


def _operands(node: Node) -> tuple[int, ...]:
    return () if node.op in LEAVES else (node.a, node.b)


def _closure(nodes: Sequence[Node], roots: Sequence[int]) -> list[int]:
    """The roots and everything they depend on, in topological order."""
    needed = set(roots)
    pending = list(roots)
    while pending:
        for operand in _operands(nodes[pending.pop()]):
            if operand not in needed:
                needed.add(operand)
                pending.append(operand)
    return sorted(needed)


def _scalar_nodes(nodes: Sequence[Node]) -> set[int]:
    """Nodes that depend on constants and public values alone."""
    scalars: set[int] = set()
    for index, node in enumerate(nodes):
        if node.op in LEAVES:
            if node.op in (Op.CONSTANT, Op.PUBLIC):
                scalars.add(index)
        elif all(operand in scalars for operand in _operands(node)):
            scalars.add(index)
    return scalars


@dataclass(frozen=True)
class _Step:
    """An instruction before slots are given: operands are node indices, `scalar` a scalar node or None."""

    code: Code
    node: int
    inputs: tuple[int, ...]
    scalar: int | None = None


class _Chooser:
    """Chooses an instruction for each node that needs one, fusing nodes that have a single user."""

    def __init__(self, program: SymbolicProgram) -> None:
        self._nodes = program.nodes
        self._roots = program.roots
        self.scalars = _scalar_nodes(program.nodes)
        self._uses = Counter(operand for node in program.nodes for operand in _operands(node))
        self._uses.update(program.roots)

    def steps(self) -> list[_Step]:
        """Instructions for all that the roots need, operands first; cells and selectors are loaded, not
        computed."""
        chosen: dict[int, _Step] = {}
        pending = list(self._roots)
        while pending:
            index = pending.pop()
            if index in chosen or (self._nodes[index].op in LEAVES and index not in self.scalars):
                continue
            chosen[index] = self._choose(index)
            pending.extend(chosen[index].inputs)
        return [chosen[index] for index in sorted(chosen)]

    def _choose(self, index: int) -> _Step:
        if index in self.scalars:
            return _Step(Code.SPLAT, index, (), index)
        op, a, b = self._nodes[index]
        if op is Op.MUL:
            return self._choose_product(index, a, b)
        if op is Op.ADD:
            return self._choose_sum(index, a, b)
        if op is Op.SUB:
            return self._choose_difference(index, a, b)
        raise AssertionError(f"{op.name} is no operation on cells")

    def _fusible(self, index: int, op: Op) -> bool:
        """Whether the node is such an operation on cells with this one user, to be computed along with it."""
        return self._nodes[index].op is op and self._uses[index] == 1 and index not in self.scalars

    def _split(self, a: int, b: int) -> tuple[int, int] | None:
        """(cell operand, scalar operand) if exactly one of two is a scalar."""
        if (a in self.scalars) == (b in self.scalars):
            return None
        return (b, a) if a in self.scalars else (a, b)

    def _choose_product(self, index: int, a: int, b: int) -> _Step:
        if split := self._split(a, b):
            cell, scalar = split
            if self._nodes[scalar] == Node(Op.CONSTANT, 2, 0):
                return _Step(Code.ADD, index, (cell, cell))
            return _Step(Code.MUL_SCALAR, index, (cell,), scalar)
        for square, x in ((a, b), (b, a)):
            node = self._nodes[square]
            if node.op is Op.MUL and node.a == node.b == x and self._uses[square] == 1:
                # x has three uses: two in the square, one here.
                if (
                    self._nodes[x].op is Op.ADD
                    and self._uses[x] == 3
                    and (split := self._split(self._nodes[x].a, self._nodes[x].b))
                ):
                    return _Step(Code.CUBE_SUM, index, (split[0],), split[1])
                return _Step(Code.CUBE, index, (x,))
        return _Step(Code.MUL, index, (a, b))

    def _choose_difference(self, index: int, a: int, b: int) -> _Step:
        if b in self.scalars:
            return _Step(Code.SUB_SCALAR, index, (a,), b)
        if a in self.scalars:
            return _Step(Code.SCALAR_SUB, index, (b,), a)
        return _Step(Code.SUB, index, (a, b))

    def _choose_sum(self, index: int, a: int, b: int) -> _Step:
        if split := self._split(a, b):
            return _Step(Code.ADD_SCALAR, index, (split[0],), split[1])
        for product, other in ((a, b), (b, a)):
            if self._fusible(product, Op.MUL) and (
                split := self._split(self._nodes[product].a, self._nodes[product].b)
            ):
                if self._nodes[split[1]] == Node(Op.CONSTANT, 2, 0):
                    return _Step(Code.ADD3, index, (split[0], split[0], other))
                return _Step(Code.MUL_SCALAR_ADD, index, (split[0], other), split[1])
        for inner, other in ((a, b), (b, a)):
            if self._fusible(inner, Op.ADD) and not self._split(self._nodes[inner].a, self._nodes[inner].b):
                return _Step(Code.ADD3, index, (self._nodes[inner].a, self._nodes[inner].b, other))
        return _Step(Code.ADD, index, (a, b))


_Fold = tuple[int, int]  # (constraint, node)


def _schedule(program: SymbolicProgram, steps: Sequence[_Step]) -> list[_Step | list[_Fold]]:
    """Steps and folds, a fold of two constraints as soon as their nodes are there."""
    waiting: dict[int, list[int]] = {}
    for constraint, root in enumerate(program.roots):
        waiting.setdefault(root, []).append(constraint)
    order: list[_Step | list[_Fold]] = []
    ready: list[_Fold] = []

    def fold_all(node: int) -> None:
        for constraint in waiting.pop(node, ()):
            ready.append((constraint, node))
            if len(ready) == 2:
                order.append(ready.copy())
                ready.clear()

    for step in steps:
        order.append(step)
        fold_all(step.node)
    for root in list(waiting):  # a cell or a selector by itself
        fold_all(root)
    if ready:
        order.append([*ready, (len(program.roots), ready[0][1])])
    return order


class _Slots:
    """Numbers handed out, the last one returned first (it is still in the cache)."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self.count = 0

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self.count += 1
        return self.count - 1

    def give(self, slot: int) -> None:
        self._free.append(slot)


class _Allocator:
    """Gives values slots for as long as they are needed, and writes the instructions.

    A *value* is a node or, for a cell, the tile of the trace that holds it. Tiles stand before all other
    slots; until it is known how many there will be, other slots are written as negative numbers.
    """

    def __init__(self, program: SymbolicProgram, order: Sequence[_Step | list[_Fold]], tile: int) -> None:
        self._nodes = program.nodes
        self._tile = tile
        self._last_use = {
            self._value_of(node): position for position, item in enumerate(order) for node in _inputs_of(item)
        }
        self._slot_of: dict[_Value, int] = {}
        self._tiles, self._others = _Slots(), _Slots()
        self._instructions: list[list[int]] = []

    def finish(self) -> tuple[I32, int]:
        """The instructions and the number of slots."""
        tile_slots = self._tiles.count * self._tile
        for instruction in self._instructions:
            instruction[:] = [x if x >= 0 else tile_slots - 1 - x for x in instruction]
            instruction.extend([0] * (FIELDS - len(instruction)))
        instructions = np.array(self._instructions, dtype=np.int32).reshape(-1, FIELDS)
        return instructions, tile_slots + self._others.count

    def step(self, position: int, step: _Step, scalar_index: dict[int, int]) -> None:
        inputs = [self._input(node) for node in step.inputs]
        self._release(position, step.inputs)  # before the result takes a slot: instructions work lane by lane
        self._slot_of[step.node] = result = -1 - self._others.take()
        operands = [result, *inputs]
        if step.scalar is not None:
            operands.insert(min(2, len(operands)), scalar_index[step.scalar])
        self._instructions.append([step.code, *operands])
        if step.node not in self._last_use:
            self._others.give(-1 - result)

    def fold(self, position: int, folds: list[_Fold]) -> None:
        (first, a), (second, b) = folds
        self._instructions.append([Code.FOLD, self._input(a), first, self._input(b), second])
        self._release(position, (a, b))

    def _value_of(self, node: int) -> "_Value":
        op, column, _ = self._nodes[node]
        return (op, column // self._tile) if op in (Op.LOCAL, Op.NEXT) else node

    def _input(self, node: int) -> int:
        """The slot of a value, loaded now if it is a cell or a selector that has none yet."""
        op, column, _ = self._nodes[node]
        value = self._value_of(node)
        if op in (Op.LOCAL, Op.NEXT):
            if value not in self._slot_of:
                self._slot_of[value] = base = self._tile * self._tiles.take()
                code = Code.LOAD_LOCAL if op is Op.LOCAL else Code.LOAD_NEXT
                self._instructions.append([code, base, column - column % self._tile])
            return self._slot_of[value] + column % self._tile
        if op in SELECTORS and value not in self._slot_of:
            self._slot_of[value] = slot = -1 - self._others.take()
            self._instructions.append([Code.LOAD_SELECTOR, slot, SELECTORS.index(op)])
        return self._slot_of[value]

    def _release(self, position: int, nodes: Sequence[int]) -> None:
        for value in {self._value_of(node) for node in nodes}:
            if self._last_use[value] == position:
                slot = self._slot_of.pop(value)
                if slot >= 0:
                    self._tiles.give(slot // self._tile)
                else:
                    self._others.give(-1 - slot)


_Value = int | tuple[Op, int]


def _inputs_of(item: _Step | list[_Fold]) -> Sequence[int]:
    return item.inputs if isinstance(item, _Step) else [node for _, node in item]


def lower(program: SymbolicProgram, *, tile: int) -> Tape:
    """The tape of a program for a machine that loads cells by tiles of ``tile`` columns."""
    chooser = _Chooser(program)
    order = _schedule(program, chooser.steps())
    steps = [item for item in order if isinstance(item, _Step)]
    scalars = tuple(sorted({step.scalar for step in steps if step.scalar is not None}))
    scalar_index = {node: index for index, node in enumerate(scalars)}
    allocator = _Allocator(program, order, tile)
    for position, item in enumerate(order):
        if isinstance(item, _Step):
            allocator.step(position, item, scalar_index)
        else:
            allocator.fold(position, item)
    instructions, slots = allocator.finish()
    return Tape(program=program, instructions=instructions, slots=slots, scalars=scalars)
