"""The Poseidon2 AIR: a row proves whole width-16 permutations over KoalaBear (proof.md section 6).

Columns of one permutation (164): inputs[16]; 4 x post[16], the state after each beginning full round; 20 x
post_sbox, s0 after the cube and before the internal layer of each partial round; 4 x post[16] of the ending
full rounds. Constraints (148), in column order: t - column = 0, t the value that the round gives. The next
round continues from the column, not from t, which keeps the degree at 3. It is Plonky3's
``p3-poseidon2-air`` 0.6.2 with S-box registers 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kernels.poseidon2 import DIAGONAL_16, ROUND_CONSTANTS_16
from workers.stark.air import Builder, Expression

STATE_WIDTH = 16
FULL_ROUNDS_HALF = 4
PARTIAL_ROUNDS = 20
COLUMNS = STATE_WIDTH * (1 + 2 * FULL_ROUNDS_HALF) + PARTIAL_ROUNDS
CONSTRAINTS = COLUMNS - STATE_WIDTH


def _external_layer(state: list[Expression]) -> list[Expression]:
    """M4 on each chunk of four, then to each element the sum of those in its place of the four chunks."""
    mixed: list[Expression] = []
    for x0, x1, x2, x3 in (state[i : i + 4] for i in range(0, STATE_WIDTH, 4)):
        total = x0 + x1 + x2 + x3
        mixed += [
            total + x0 + 2 * x1,
            total + x1 + 2 * x2,
            total + x2 + 2 * x3,
            total + x3 + 2 * x0,
        ]
    sums = [mixed[i] + mixed[i + 4] + mixed[i + 8] + mixed[i + 12] for i in range(4)]
    return [x + sums[i % 4] for i, x in enumerate(mixed)]


def _internal_layer(state: list[Expression]) -> list[Expression]:
    """y_i = sum(x) + V_i x_i."""
    total = state[0]
    for x in state[1:]:
        total = total + x
    return [total + v * x for v, x in zip(DIAGONAL_16, state, strict=True)]


def _cube(x: Expression) -> Expression:
    return x * x * x


def permutation_constraints(builder: Builder, columns: Sequence[Expression]) -> None:
    """Assert that the 164 ``columns`` of a row are one permutation's trace: 148 constraints."""
    assert len(columns) == COLUMNS
    constants = ROUND_CONSTANTS_16
    state = _external_layer(list(columns[:STATE_WIDTH]))
    cursor = STATE_WIDTH

    def full_round(state: list[Expression], row: Sequence[int]) -> list[Expression]:
        nonlocal cursor
        mixed = _external_layer([_cube(x + c) for x, c in zip(state, row, strict=True)])
        after = list(columns[cursor : cursor + STATE_WIDTH])
        cursor += STATE_WIDTH
        for value, column in zip(mixed, after, strict=True):
            builder.assert_zero(value - column)
        return after

    for row in constants.external_initial:
        state = full_round(state, row)
    for constant in constants.internal:
        builder.assert_zero(_cube(state[0] + constant) - columns[cursor])
        state = _internal_layer([columns[cursor], *state[1:]])
        cursor += 1
    for row in constants.external_final:
        state = full_round(state, row)
    assert cursor == COLUMNS


@dataclass(frozen=True)
class Poseidon2Air:
    """``per_row`` permutations side by side: row r holds permutations per_row * r, per_row * r + 1, ..."""

    per_row: int = 1
    num_public: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        assert self.per_row >= 1

    @property
    def name(self) -> str:
        return f"poseidon2_{self.per_row}"

    @property
    def width(self) -> int:
        return COLUMNS * self.per_row

    def constraints(self, builder: Builder) -> None:
        for start in range(0, self.width, COLUMNS):
            permutation_constraints(builder, builder.local[start : start + COLUMNS])
