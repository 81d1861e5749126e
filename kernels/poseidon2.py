"""Poseidon2 over KoalaBear (x^3, widths 16 and 24) on canonical Python integers: the definition.

Every fast permutation in this package must equal these functions. Sources: Poseidon2
(eprint 2023/323), with the parameters of Plonky3 `p3-koala-bear` 0.6.2.

- `permute`: the permutation, width by the length of the state;
- `sponge24`: overwrite-mode sponge of the Merkle leaves (width 24, rate 16, no length);
- `compress`: 2-to-1 compression of Merkle nodes (width 16, truncated);
- `hash_tagged`: H_t, the domain-separated sponge of statements (width 16, rate 8, with length);
- `trace_row`: the 164 columns of the Poseidon2 AIR for one permutation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernels import poseidon2_constants as constants
from kernels.field import P, inverse

DIGEST_LEN = 8
RATE_24 = 16
RATE_16 = 8
HALF_EXTERNAL_ROUNDS = 4
TRACE_WIDTH = 164

Digest = tuple[int, ...]

_M4 = ((2, 3, 1, 1), (1, 2, 3, 1), (1, 1, 2, 3), (3, 1, 1, 2))


def _inverse_power_of_two(exponent: int) -> int:
    return inverse(pow(2, exponent, P))


_HALF = _inverse_power_of_two(1)
# fmt: off
DIAGONAL_16 = tuple(v % P for v in (
    -2, 1, 2, _HALF, 3, 4, -_HALF, -3, -4,
    *(_inverse_power_of_two(k) for k in (8, 3, 24)),
    *(-_inverse_power_of_two(k) for k in (8, 3, 4, 24)),
))
DIAGONAL_24 = tuple(v % P for v in (
    -2, 1, 2, _HALF, 3, 4, -_HALF, -3, -4,
    *(_inverse_power_of_two(k) for k in (8, 2, 3, 4, 5, 6, 24)),
    *(-_inverse_power_of_two(k) for k in (8, 3, 4, 5, 6, 7, 9, 24)),
))
# fmt: on


@dataclass(frozen=True)
class RoundConstants:
    """Constants of one width: rows of `width` for the external rounds, one each for the internal."""

    external_initial: tuple[tuple[int, ...], ...]
    internal: tuple[int, ...]
    external_final: tuple[tuple[int, ...], ...]


def _rows(flat: Sequence[int], width: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(flat[i : i + width]) for i in range(0, len(flat), width))


ROUND_CONSTANTS_16 = RoundConstants(
    _rows(constants.EXTERNAL_INITIAL_16, 16), constants.INTERNAL_16, _rows(constants.EXTERNAL_FINAL_16, 16)
)
ROUND_CONSTANTS_24 = RoundConstants(
    _rows(constants.EXTERNAL_INITIAL_24, 24), constants.INTERNAL_24, _rows(constants.EXTERNAL_FINAL_24, 24)
)


def constants_of(width: int) -> tuple[RoundConstants, tuple[int, ...]]:
    """Round constants and internal diagonal of width 16 or 24."""
    if width == 16:
        return ROUND_CONSTANTS_16, DIAGONAL_16
    if width == 24:
        return ROUND_CONSTANTS_24, DIAGONAL_24
    raise ValueError(f"Poseidon2 is defined here for widths 16 and 24, not {width}")


def external_layer(state: Sequence[int]) -> list[int]:
    """M4 on each chunk of four, then to every element the sum of its residue class mod 4."""
    mixed = [
        sum(m * x for m, x in zip(row, state[c : c + 4], strict=True)) % P
        for c in range(0, len(state), 4)
        for row in _M4
    ]
    sums = [sum(mixed[i::4]) for i in range(4)]
    return [(x + sums[i % 4]) % P for i, x in enumerate(mixed)]


def internal_layer(state: Sequence[int], diagonal: Sequence[int]) -> list[int]:
    """y_i = sum(x) + V_i x_i."""
    total = sum(state)
    return [(total + v * x) % P for v, x in zip(diagonal, state, strict=True)]


def _external_round(state: Sequence[int], row: Sequence[int]) -> list[int]:
    return external_layer([pow(x + c, 3, P) for x, c in zip(state, row, strict=True)])


def permute(state: Sequence[int]) -> list[int]:
    """The permutation of 16 or 24 canonical integers."""
    rounds, diagonal = constants_of(len(state))
    current = external_layer(state)
    for row in rounds.external_initial:
        current = _external_round(current, row)
    for constant in rounds.internal:
        current[0] = pow(current[0] + constant, 3, P)
        current = internal_layer(current, diagonal)
    for row in rounds.external_final:
        current = _external_round(current, row)
    return current


def sponge24(row: Sequence[int]) -> Digest:
    """Digest of a Merkle leaf row of any length.

    A short last block overwrites only its own slots, so a row and the row with the previous output
    appended differ in length alone: lengths are fixed by the caller, never by this hash.
    """
    state = [0] * 24
    for start in range(0, len(row), RATE_24):
        block = row[start : start + RATE_24]
        state[: len(block)] = block
        state = permute(state)
    return tuple(state[:DIGEST_LEN])


def compress(left: Sequence[int], right: Sequence[int]) -> Digest:
    """Merkle node of two digests of eight."""
    return tuple(permute([*left, *right])[:DIGEST_LEN])


def hash_tagged(tag: int, elements: Sequence[int]) -> Digest:
    """H_tag(elements): rate 8, the capacity starts as (tag, length, 0 ...), the last block zero-padded.

    Even the empty input is permuted once: its digest would be the public start state otherwise.
    """
    state = [0] * RATE_16 + [tag % P, len(elements)] + [0] * 6
    for start in range(0, max(len(elements), 1), RATE_16):
        block = list(elements[start : start + RATE_16])
        state[:RATE_16] = block + [0] * (RATE_16 - len(block))
        state = permute(state)
    return tuple(state[:DIGEST_LEN])


def trace_row(inputs: Sequence[int]) -> list[int]:
    """The 164 columns of the Poseidon2 AIR (`p3-poseidon2-air`): inputs, then what each round leaves.

    16 inputs; after each of the first 4 external rounds the whole state; for each internal round the
    cube of element 0, before the internal layer; after each of the last 4 external rounds the state.
    """
    rounds, diagonal = constants_of(16)
    columns = list(inputs)
    state = external_layer(inputs)
    for row in rounds.external_initial:
        state = _external_round(state, row)
        columns += state
    for constant in rounds.internal:
        state[0] = pow(state[0] + constant, 3, P)
        columns.append(state[0])
        state = internal_layer(state, diagonal)
    for row in rounds.external_final:
        state = _external_round(state, row)
        columns += state
    return columns
