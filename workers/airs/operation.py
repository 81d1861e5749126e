"""The operation AIR: a batch of operations, one Poseidon2-16 permutation a row (specification "The operation
AIR").

Public values: root[0..8] and n. 192 columns, 257 constraints of degree 3, in the order of the functions
below; each reads as its paragraph of the specification. An operation is these rows (trace builder:
`operation_trace`):

    S1 N1 N2 S2 K S3 C… S4 O1 O2 S5 R

Flags name what a row does: `a` absorbs P or C into the statement S (S1, S4), `b` and `d` are the two blocks
of N or O, `e` absorbs that result into S (S2, S5), `k` hashes the secret, `s` absorbs K into S, `c` absorbs a
block of the output and `l` the last one, `r` absorbs S into the root. `h` is 1 in the second half, from S4 to
S5. A row without a flag is padding. Registers: Y carries what the next rows need again, Z the running root's
capacity, LEFT the elements of the output still to come, CNT the operations so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from workers.airs import poseidon2
from workers.encoding import Tag
from workers.stark.air import Builder, Expression, Operand

RATE = 8
OUT = 148
Y = 164
Z = 172
FLAGS = 180
H = 189
LEFT = 190
CNT = 191
WIDTH = 192
PUBLIC_VALUES = 9
MIN_PADDING_ROWS = 256
"""Padding rows that every proof must have, so that its openings do not determine the witness (see
`Blinding`)."""


class Flag(IntEnum):
    """The nine flags, by their place after `FLAGS`."""

    A = 0
    B = 1
    D = 2
    E = 3
    K = 4
    S = 5
    C = 6
    L = 7
    R = 8


STATEMENT_ELEMENTS = 40
PAIR_ELEMENTS = 16
DIGEST_ELEMENTS = 8


class Row:
    """Names for the cells of one symbolic row."""

    def __init__(self, cells: Sequence[Expression]) -> None:
        self.cells = cells
        self.rate = cells[0:RATE]
        self.capacity = cells[RATE : 2 * RATE]
        self.out_rate = cells[OUT : OUT + RATE]
        self.out_capacity = cells[OUT + RATE : OUT + 2 * RATE]
        self.y = cells[Y : Y + RATE]
        self.z = cells[Z : Z + RATE]
        self.flags = cells[FLAGS : FLAGS + len(Flag)]
        self.a, self.b, self.d, self.e, self.k, self.s, self.c, self.l, self.r = self.flags
        self.h = cells[H]
        self.left = cells[LEFT]
        self.count = cells[CNT]
        self.pad = 1 - _total(self.flags)


@dataclass(frozen=True)
class OperationAir:
    """The AIR of batch proofs. Its public values are the batch's root (8 elements) and its number of
    operations."""

    name: str = "operation"
    width: int = WIDTH
    num_public: int = PUBLIC_VALUES

    def constraints(self, builder: Builder) -> None:
        row, following = Row(builder.local), Row(builder.next)
        root, number = builder.public[:8], builder.public[8]
        poseidon2.permutation_constraints(builder, row.cells[: poseidon2.COLUMNS])
        _order_of_rows(builder, row, following)
        _starts(builder, row, following)
        _carried_capacities(builder, row, following)
        _rates(builder, row, following)
        _registers(builder, row, following)
        _output_blocks(builder, row, following)
        _running_root(builder, row, following, number)
        _end(builder, row, following, root, number)


def _total(expressions: Sequence[Expression]) -> Expression:
    total = expressions[0]
    for expression in expressions[1:]:
        total = total + expression
    return total


def _order_of_rows(builder: Builder, row: Row, following: Row) -> None:
    """2. Flags are bits, and which row follows which. No selector stands where the wrap reads 0 = 0: the last
    row is padding, row 0 is S1."""
    for flag in row.flags:
        builder.assert_zero(flag * (flag - 1))
    builder.assert_zero(row.pad * (row.pad - 1))
    builder.when_first(row.a - 1)
    builder.assert_zero(following.b - row.a)
    builder.assert_zero(following.d - row.b)
    builder.assert_zero(following.e - row.d)
    builder.assert_zero(following.k - row.e * (1 - row.h))
    builder.assert_zero(following.s - row.k)
    builder.assert_zero(following.c + following.l - row.s - row.c)
    builder.assert_zero(following.r - row.e * row.h)
    builder.assert_zero(following.h - row.l - (row.a + row.b + row.d) * row.h)
    builder.when_transition(following.pad - row.pad - row.r * (1 - following.a))
    builder.when_last(row.pad - 1)


def _starts(builder: Builder, row: Row, following: Row) -> None:
    """3. The capacity of every digest's first row: tag, length, zeros. S4 (`a` with h = 1) continues a
    digest."""
    tag, length = row.capacity[0], row.capacity[1]
    starts_statement = row.a * (1 - row.h)
    builder.assert_zero(
        starts_statement * (tag - int(Tag.STATEMENT))
        + row.b * (tag - int(Tag.NULLIFIER) + row.h * (Tag.NULLIFIER - Tag.OUTPUT))
        + row.k * (tag - int(Tag.KEY))
        + row.s * (following.capacity[0] - int(Tag.CONSTRAINT))
    )
    builder.assert_zero(
        starts_statement * (length - STATEMENT_ELEMENTS)
        + row.b * (length - PAIR_ELEMENTS)
        + row.k * (length - DIGEST_ELEMENTS)
        + row.s * (following.capacity[1] - following.left)
    )
    for j in range(2, RATE):
        builder.assert_zero(
            (starts_statement + row.b + row.k) * row.capacity[j] + row.s * following.capacity[j]
        )


def _carried_capacities(builder: Builder, row: Row, following: Row) -> None:
    """4. The capacity of a block that is not a digest's first: the block above's, or one kept in Y
    meanwhile."""
    for j in range(RATE):
        builder.assert_zero(
            (row.b + row.c) * (following.capacity[j] - row.out_capacity[j])
            + (row.d + row.k + row.l) * (following.capacity[j] - row.y[j])
        )


def _rates(builder: Builder, row: Row, following: Row) -> None:
    """5. What is absorbed is what was computed: P and C twice, N, K, C and O into S, the secret into N and K,
    S into the root."""
    for j in range(RATE):
        builder.assert_zero(
            row.a * (following.rate[j] - row.rate[j])
            + (row.d + row.k + row.l) * (following.rate[j] - row.out_rate[j])
            + row.e * (following.rate[j] - row.y[j] - row.h * (row.out_rate[j] - row.y[j]))
        )


def _registers(builder: Builder, row: Row, following: Row) -> None:
    """6. Y keeps the capacity of S while another digest is computed, and the secret from N to K."""
    for j in range(RATE):
        builder.assert_zero(
            (row.a + row.s) * (following.y[j] - row.out_capacity[j])
            + (row.b + row.c) * (following.y[j] - row.y[j])
            + (1 - row.h)
            * (row.d * (following.y[j] - row.rate[j]) + row.e * (following.y[j] - row.out_capacity[j]))
        )


def _output_blocks(builder: Builder, row: Row, following: Row) -> None:
    """7. The output's blocks: LEFT counts down, the row after `l` holds in Y one-hot how many elements the
    last block has, the rest of it is zero, and the length in bytes fits the number of elements."""
    size = following.y
    builder.assert_zero(row.c * (following.left - row.left + RATE))
    for i in range(RATE):
        builder.assert_zero(row.l * (size[i] * (size[i] - 1)))
    builder.assert_zero(row.l * (_total(size) - 1))
    weighted: Operand = 0
    for i in range(RATE):
        weighted = weighted + (i + 1) * size[i]
    builder.assert_zero(row.l * (weighted - row.left))
    for j in range(1, RATE):
        builder.assert_zero(row.l * (_total(size[:j]) * row.rate[j]))
    # The bytes that the last element lacks, t = 3(len - 1) - byte length, are 0, 1 or 2; and 0 if len = 1.
    elements = following.capacity[1] - 1
    lacking = 3 * elements - following.rate[0]
    some, ratio = row.y[0], row.y[1]
    builder.assert_zero(row.s * (some * (some - 1)))
    builder.assert_zero(row.s * ((lacking - some) * (lacking - some - 1)))
    builder.assert_zero(row.s * (lacking - elements * ratio))


def _running_root(builder: Builder, row: Row, following: Row, number: Expression) -> None:
    """8. Z is the root's capacity: it starts with tag and length and takes in every R row, and nothing
    else."""
    builder.when_first(row.z[0] - int(Tag.ROOT))
    builder.when_first(row.z[1] - RATE * number)
    for j in range(2, RATE):
        builder.when_first(row.z[j])
    for j in range(RATE):
        builder.assert_zero(row.r * (row.capacity[j] - row.z[j]))
    for j in range(RATE):
        builder.when_transition(following.z[j] - row.z[j] - row.r * (row.out_capacity[j] - row.z[j]))


def _end(builder: Builder, row: Row, following: Row, root: Sequence[Expression], number: Expression) -> None:
    """9. The R row before padding gives the root, and there were n of them."""
    for j in range(RATE):
        builder.assert_zero(row.r * following.pad * (row.out_rate[j] - root[j]))
    builder.when_first(row.count)
    builder.when_transition(following.count - row.count - row.r)
    builder.when_last(row.count - number)
