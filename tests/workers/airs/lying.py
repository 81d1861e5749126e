"""A second, row-by-row telling of a batch, in which one thing can be told otherwise.

Each row follows from the row above it by the specification's table, so whatever is changed, everything after
it agrees with the change, and the public values are read off the finished trace. That is how a cheating
prover would work: only the constraint that forbids the lie can notice it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels import poseidon2
from kernels.field import U32, P, from_monty, to_monty
from tests.workers.airs.constraint_check import U64
from workers.airs.operation import CNT, FLAGS, LEFT, WIDTH, H, Y, Z
from workers.hashing import default_backend

LOG_ROWS = 6
ROWS = 1 << LOG_ROWS
FLAG_OF = {
    "S1": "a", "N1": "b", "N2": "d", "S2": "e", "K": "k", "S3": "s", "C": "c", "L": "l",
    "S4": "a", "O1": "b", "O2": "d", "S5": "e", "R": "r", "PAD": "",
}  # fmt: skip
SECOND_HALF = {"S4", "O1", "O2", "S5"}
FLAG_ORDER = "abdeksclr"


@dataclass(frozen=True)
class Operation:
    """What is private or free: `elements` is enc(output), `public` is P."""

    public: list[int]
    secret: list[int]
    salt: list[int]
    elements: list[int]

    @property
    def blocks(self) -> list[list[int]]:
        return [self.elements[i : i + 8] for i in range(0, len(self.elements), 8)]


@dataclass(frozen=True)
class Lie:
    """At `point` of the telling, `change` what would be said (and `more` of the same kind).

    `caught_by` are exactly the constraints that must notice, or some of them if `with_others`. `count` is the
    n that is claimed, if not the number of operations: the root's capacity starts with it in any case.
    """

    name: str
    point: str
    change: Callable[[Any], Any]
    caught_by: frozenset[str]
    more: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    count: int | None = None
    with_others: bool = False


@dataclass
class _Row:
    kind: str
    rate: list[int]
    capacity: list[int]
    y: list[int]
    z: list[int]
    flags: dict[str, int]
    h: int
    left: int
    count: int
    permutation: list[int]

    @property
    def out(self) -> list[int]:
        return self.permutation[-16:]


@dataclass
class _Telling:
    operations: Sequence[Operation]
    changes: dict[str, Callable[[Any], Any]]
    count: int
    rows: list[_Row] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def say(self, point: str, value: Any) -> Any:
        """`value`, unless this is where the lie is told."""
        if point not in self.changes:
            return value
        self.used.add(point)
        return self.changes[point](value)

    def tell(self) -> None:
        self.padding = np.random.default_rng(5).integers(0, P, size=(ROWS, 25)).tolist()
        self.z = self.say("Z start", [7, 8 * self.count % P, 0, 0, 0, 0, 0, 0])
        self.counted = self.say("CNT start", 0)
        for number, operation in enumerate(self.operations):
            blocks = operation.blocks
            script = ["S1", "N1", "N2", "S2", "K", "S3"]
            script += [f"C{i}" for i in range(len(blocks) - 1)] + ["L", "S4", "O1", "O2", "S5", "R"]
            for step in self.say(f"{number} script", script):
                self.write(f"{number} {step}", step, operation, blocks)
        for step in self.say("padding", ["PAD"] * (ROWS - len(self.rows))):
            self.write(step, step, self.operations[-1], self.operations[-1].blocks)
        assert len(self.rows) == ROWS, "the telling does not fit"

    def write(self, name: str, step: str, operation: Operation, blocks: list[list[int]]) -> None:
        """Writes the row that `step` names: a kind of row, "C" with the block's number; "*" tells repetitions
        apart."""
        kind = "C" if step[0] == "C" else step.rstrip("*")
        above = self.rows[-1] if self.rows else None
        rate, capacity, y, left = self.contents(kind, step, operation, blocks, above)
        flags = {flag: int(flag == FLAG_OF[kind]) for flag in FLAG_ORDER}
        inputs = self.say(f"{name} rate", rate) + self.say(f"{name} capacity", capacity)
        row = _Row(
            kind=kind,
            rate=inputs[:8],
            capacity=inputs[8:],
            y=self.say(f"{name} y", y),
            z=self.say(f"{name} z", self.z),
            flags=self.say(f"{name} flags", flags),
            h=self.say(f"{name} h", int(kind in SECOND_HALF)),
            left=self.say(f"{name} left", left),
            count=self.say(f"{name} count", self.counted),
            permutation=self.say(f"{name} permutation", permuted)(inputs),
        )
        self.z = self.say(f"{name} z after", row.out[8:]) if kind == "R" else row.z
        self.counted = row.count + (self.say(f"{name} counts", 1) if kind == "R" else 0)
        self.rows.append(row)

    def contents(
        self, kind: str, step: str, operation: Operation, blocks: list[list[int]], above: _Row | None
    ) -> tuple[list[int], list[int], list[int], int]:
        """(rate, capacity, Y, LEFT) as the table of the specification gives them."""
        zeros = [0] * 8
        if kind == "PAD":
            random = self.padding[len(self.rows)]
            return random[:8], random[8:16], random[16:24], random[24]
        if above is None:
            above = _Row("", zeros, zeros, zeros, zeros, {}, 0, 0, 0, [0] * 164)
        out, capacity_out = above.out[:8], above.out[8:]
        if kind == "S1":
            # After a row that binds the next row's rate or Y, a story that agrees with it takes them over.
            rate = {"S2": above.y, "S5": out}.get(above.kind, operation.public)
            return rate, [6, 40, *zeros[2:]], capacity_out if above.kind in ("S1", "S2") else zeros, 0
        if kind in ("C", "L"):
            index = int(step[1:].rstrip("*")) if kind == "C" else len(blocks) - 1
            block = (blocks[index] + zeros)[:8]
            length = len(operation.elements)
            if index == 0:
                return block, [1, length, *zeros[2:]], capacity_out, length
            return block, capacity_out, above.y, length - 8 * index
        if kind == "S4":
            return out, above.y, [int(i + 1 == above.left) for i in range(8)], 0
        tail = zeros
        if kind == "S3":
            last = len(operation.elements) - 1
            lacking = 3 * last - operation.elements[0]
            tail = [int(lacking >= 1), lacking * pow(last, -1, P) % P if last else 0, *zeros[2:]]
        return {
            "N1": (above.rate, [3, 16, *zeros[2:]], capacity_out, 0),
            "N2": (operation.secret, capacity_out, above.y, 0),
            "S2": (out, above.y, above.rate, 0),
            "K": (above.y, [4, 8, *zeros[2:]], capacity_out, 0),
            "S3": (out, above.y, tail, 0),
            "O1": (above.rate, [2, 16, *zeros[2:]], capacity_out, 0),
            "O2": (operation.salt, capacity_out, above.y, 0),
            "S5": (out, above.y, zeros, 0),
            "R": (out, self.z, zeros, 0),
        }[kind]


def tell(operations: Sequence[Operation], lie: Lie | None = None) -> tuple[U64, list[int]]:
    """The trace [64, 192] (canonical) of a batch told with `lie`, and the public values that it shows."""
    changes = {lie.point: lie.change, **dict(lie.more)} if lie else {}
    count = len(operations) if lie is None or lie.count is None else lie.count
    telling = _Telling(operations, changes, count)
    telling.tell()
    roots = [row.out[:8] for row in telling.rows if row.kind == "R"]
    root = telling.say("root", roots[-1] if roots else [0] * 8)
    unused = set(changes) - telling.used
    assert not unused, f"nothing was said at {unused}"
    trace = np.zeros((ROWS, WIDTH), dtype=np.uint64)
    for place, row in enumerate(telling.rows):
        trace[place, :164] = row.permutation
        trace[place, Y : Y + 8] = row.y
        trace[place, Z : Z + 8] = row.z
        trace[place, FLAGS : FLAGS + 9] = [row.flags[flag] % P for flag in FLAG_ORDER]
        trace[place, H], trace[place, LEFT], trace[place, CNT] = row.h, row.left, row.count
    return trace, [*root, count]


def permuted(inputs: list[int]) -> list[int]:
    """The 164 columns of the permutation of 16 canonical inputs."""
    states: U32 = to_monty(np.array([inputs], dtype=np.int64))
    out = np.zeros((1, 164), dtype=np.uint32)
    default_backend().permutation_trace(states, out=out)
    columns: list[int] = from_monty(out)[0].tolist()
    return columns


def permuted_wrongly(inputs: list[int], column: int) -> list[int]:
    """As `permuted`, but one more in `column` than the round gives, and every later round goes on from
    there."""
    constants, diagonal = poseidon2.constants_of(16)
    columns = list(inputs)

    def write(values: Sequence[int]) -> list[int]:
        written = [(value + int(len(columns) + i == column)) % P for i, value in enumerate(values)]
        columns.extend(written)
        return written

    state = poseidon2.external_layer(inputs)
    for row in constants.external_initial:
        cubes = [pow(x + c, 3, P) for x, c in zip(state, row, strict=True)]
        state = write(poseidon2.external_layer(cubes))
    for constant in constants.internal:
        cube = write([pow(state[0] + constant, 3, P)])
        state = poseidon2.internal_layer(cube + list(state[1:]), diagonal)
    for row in constants.external_final:
        cubes = [pow(x + c, 3, P) for x, c in zip(state, row, strict=True)]
        state = write(poseidon2.external_layer(cubes))
    return columns
