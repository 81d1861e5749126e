"""The Poseidon2 permutation, written once over the field operations it is given.

`build_permutation` takes the operations of a target (scalars, CPU vectors, a GPU thread) and the
decorator that compiles a helper for it, and makes the layers of one width. The rounds are loops over a
tuple that LLVM keeps in registers; unrolled they would compile many times slower and run no faster.
All of it must equal `kernels.poseidon2`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.field import U32, to_monty
from kernels.poseidon2 import HALF_EXTERNAL_ROUNDS, constants_of

Op = Callable[..., Any]


@dataclass(frozen=True)
class FieldOps:
    """Field operations of a target, on Montgomery form."""

    add: Op
    sub: Op
    sbox: Op
    """(x, c) -> (x + c)^3 for a round constant c."""
    prepare: Callable[[U32], U32]
    """Round constants in Montgomery form as `sbox` wants them."""
    divider: Callable[[int], Op]
    """k -> (x -> x / 2^k)."""
    constant: Op
    """(table: U32[rows, columns], row, column) -> that constant as the second operand of `sbox`."""
    inline: Callable[[Op], Op]
    """The decorator that compiles a helper for the target."""


@dataclass(frozen=True)
class Permutation:
    """Compiled helpers of one width; a state is a tuple of `width` elements of the target."""

    width: int
    permute: Op
    """state -> state."""
    external_layer: Op
    """state -> state."""
    external_round: Op
    """(state, round 0..7) -> state."""
    internal_cube: Op
    """(element 0, round) -> its cube after the round's constant was added."""
    internal_layer: Op
    """(cube, state) -> state; element 0 of `state` is not read."""


def _montgomery(rows: Sequence[Sequence[int]]) -> U32:
    return to_monty(np.array(rows, dtype=np.int64))


def _build_m4(ops: FieldOps) -> Op:
    add = ops.add

    @ops.inline
    def m4(x0: Any, x1: Any, x2: Any, x3: Any) -> Any:
        t01 = add(x0, x1)
        t23 = add(x2, x3)
        total = add(t01, t23)
        with_x1 = add(total, x1)
        with_x3 = add(total, x3)
        return (
            add(with_x1, t01),
            add(with_x1, add(x2, x2)),
            add(with_x3, t23),
            add(with_x3, add(x0, x0)),
        )

    return m4


def _build_external_16(ops: FieldOps) -> Op:
    add, m4 = ops.add, _build_m4(ops)

    @ops.inline
    def external_16(s: Any) -> Any:
        a0, a1, a2, a3 = m4(s[0], s[1], s[2], s[3])
        b0, b1, b2, b3 = m4(s[4], s[5], s[6], s[7])
        c0, c1, c2, c3 = m4(s[8], s[9], s[10], s[11])
        d0, d1, d2, d3 = m4(s[12], s[13], s[14], s[15])
        t0 = add(add(a0, b0), add(c0, d0))
        t1 = add(add(a1, b1), add(c1, d1))
        t2 = add(add(a2, b2), add(c2, d2))
        t3 = add(add(a3, b3), add(c3, d3))
        # fmt: off
        return (
            add(a0, t0), add(a1, t1), add(a2, t2), add(a3, t3),
            add(b0, t0), add(b1, t1), add(b2, t2), add(b3, t3),
            add(c0, t0), add(c1, t1), add(c2, t2), add(c3, t3),
            add(d0, t0), add(d1, t1), add(d2, t2), add(d3, t3),
        )
        # fmt: on

    return external_16


def _build_external_24(ops: FieldOps) -> Op:
    add, m4 = ops.add, _build_m4(ops)

    @ops.inline
    def external_24(s: Any) -> Any:
        a0, a1, a2, a3 = m4(s[0], s[1], s[2], s[3])
        b0, b1, b2, b3 = m4(s[4], s[5], s[6], s[7])
        c0, c1, c2, c3 = m4(s[8], s[9], s[10], s[11])
        d0, d1, d2, d3 = m4(s[12], s[13], s[14], s[15])
        e0, e1, e2, e3 = m4(s[16], s[17], s[18], s[19])
        f0, f1, f2, f3 = m4(s[20], s[21], s[22], s[23])
        t0 = add(add(add(a0, b0), add(c0, d0)), add(e0, f0))
        t1 = add(add(add(a1, b1), add(c1, d1)), add(e1, f1))
        t2 = add(add(add(a2, b2), add(c2, d2)), add(e2, f2))
        t3 = add(add(add(a3, b3), add(c3, d3)), add(e3, f3))
        # fmt: off
        return (
            add(a0, t0), add(a1, t1), add(a2, t2), add(a3, t3),
            add(b0, t0), add(b1, t1), add(b2, t2), add(b3, t3),
            add(c0, t0), add(c1, t1), add(c2, t2), add(c3, t3),
            add(d0, t0), add(d1, t1), add(d2, t2), add(d3, t3),
            add(e0, t0), add(e1, t1), add(e2, t2), add(e3, t3),
            add(f0, t0), add(f1, t1), add(f2, t2), add(f3, t3),
        )
        # fmt: on

    return external_24


def _build_internal_16(ops: FieldOps) -> Op:
    add, sub = ops.add, ops.sub
    div_2, div_8, div_16 = ops.divider(1), ops.divider(3), ops.divider(4)
    div_256, div_2_24 = ops.divider(8), ops.divider(24)

    @ops.inline
    def internal_16(x0: Any, s: Any) -> Any:
        # Elements 1 to 15 are summed apart, so that the sum does not wait for the cube.
        low = add(add(add(s[1], s[2]), add(s[3], s[4])), add(add(s[5], s[6]), add(s[7], s[8])))
        high = add(add(add(s[9], s[10]), add(s[11], s[12])), add(add(s[13], s[14]), s[15]))
        rest = add(low, high)
        total = add(rest, x0)
        four_5 = add(s[5], s[5])
        four_8 = add(s[8], s[8])
        return (
            sub(rest, x0),
            add(total, s[1]),
            add(total, add(s[2], s[2])),
            add(total, div_2(s[3])),
            add(total, add(add(s[4], s[4]), s[4])),
            add(total, add(four_5, four_5)),
            sub(total, div_2(s[6])),
            sub(total, add(add(s[7], s[7]), s[7])),
            sub(total, add(four_8, four_8)),
            add(total, div_256(s[9])),
            add(total, div_8(s[10])),
            add(total, div_2_24(s[11])),
            sub(total, div_256(s[12])),
            sub(total, div_8(s[13])),
            sub(total, div_16(s[14])),
            sub(total, div_2_24(s[15])),
        )

    return internal_16


def _build_internal_24(ops: FieldOps) -> Op:
    add, sub = ops.add, ops.sub
    div_2, div_4, div_8, div_16 = ops.divider(1), ops.divider(2), ops.divider(3), ops.divider(4)
    div_32, div_64, div_128, div_256 = ops.divider(5), ops.divider(6), ops.divider(7), ops.divider(8)
    div_512, div_2_24 = ops.divider(9), ops.divider(24)

    @ops.inline
    def internal_24(x0: Any, s: Any) -> Any:
        low = add(add(add(s[1], s[2]), add(s[3], s[4])), add(add(s[5], s[6]), add(s[7], s[8])))
        middle = add(add(add(s[9], s[10]), add(s[11], s[12])), add(add(s[13], s[14]), add(s[15], s[16])))
        high = add(add(add(s[17], s[18]), add(s[19], s[20])), add(add(s[21], s[22]), s[23]))
        rest = add(add(low, middle), high)
        total = add(rest, x0)
        four_5 = add(s[5], s[5])
        four_8 = add(s[8], s[8])
        return (
            sub(rest, x0),
            add(total, s[1]),
            add(total, add(s[2], s[2])),
            add(total, div_2(s[3])),
            add(total, add(add(s[4], s[4]), s[4])),
            add(total, add(four_5, four_5)),
            sub(total, div_2(s[6])),
            sub(total, add(add(s[7], s[7]), s[7])),
            sub(total, add(four_8, four_8)),
            add(total, div_256(s[9])),
            add(total, div_4(s[10])),
            add(total, div_8(s[11])),
            add(total, div_16(s[12])),
            add(total, div_32(s[13])),
            add(total, div_64(s[14])),
            add(total, div_2_24(s[15])),
            sub(total, div_256(s[16])),
            sub(total, div_8(s[17])),
            sub(total, div_16(s[18])),
            sub(total, div_32(s[19])),
            sub(total, div_64(s[20])),
            sub(total, div_128(s[21])),
            sub(total, div_512(s[22])),
            sub(total, div_2_24(s[23])),
        )

    return internal_24


def _build_cubes_16(ops: FieldOps) -> Op:
    sbox, constant = ops.sbox, ops.constant

    @ops.inline
    def cubes_16(s: Any, c: Any, r: Any) -> Any:
        # fmt: off
        return (
            sbox(s[0], constant(c, r, 0)), sbox(s[1], constant(c, r, 1)),
            sbox(s[2], constant(c, r, 2)), sbox(s[3], constant(c, r, 3)),
            sbox(s[4], constant(c, r, 4)), sbox(s[5], constant(c, r, 5)),
            sbox(s[6], constant(c, r, 6)), sbox(s[7], constant(c, r, 7)),
            sbox(s[8], constant(c, r, 8)), sbox(s[9], constant(c, r, 9)),
            sbox(s[10], constant(c, r, 10)), sbox(s[11], constant(c, r, 11)),
            sbox(s[12], constant(c, r, 12)), sbox(s[13], constant(c, r, 13)),
            sbox(s[14], constant(c, r, 14)), sbox(s[15], constant(c, r, 15)),
        )
        # fmt: on

    return cubes_16


def _build_cubes_24(ops: FieldOps) -> Op:
    sbox, constant = ops.sbox, ops.constant

    @ops.inline
    def cubes_24(s: Any, c: Any, r: Any) -> Any:
        # fmt: off
        return (
            sbox(s[0], constant(c, r, 0)), sbox(s[1], constant(c, r, 1)),
            sbox(s[2], constant(c, r, 2)), sbox(s[3], constant(c, r, 3)),
            sbox(s[4], constant(c, r, 4)), sbox(s[5], constant(c, r, 5)),
            sbox(s[6], constant(c, r, 6)), sbox(s[7], constant(c, r, 7)),
            sbox(s[8], constant(c, r, 8)), sbox(s[9], constant(c, r, 9)),
            sbox(s[10], constant(c, r, 10)), sbox(s[11], constant(c, r, 11)),
            sbox(s[12], constant(c, r, 12)), sbox(s[13], constant(c, r, 13)),
            sbox(s[14], constant(c, r, 14)), sbox(s[15], constant(c, r, 15)),
            sbox(s[16], constant(c, r, 16)), sbox(s[17], constant(c, r, 17)),
            sbox(s[18], constant(c, r, 18)), sbox(s[19], constant(c, r, 19)),
            sbox(s[20], constant(c, r, 20)), sbox(s[21], constant(c, r, 21)),
            sbox(s[22], constant(c, r, 22)), sbox(s[23], constant(c, r, 23)),
        )
        # fmt: on

    return cubes_24


def build_permutation(width: int, ops: FieldOps) -> Permutation:
    """The layers and the permutation of width 16 or 24 for one target."""
    rounds, _ = constants_of(width)
    builders = {
        16: (_build_external_16, _build_internal_16, _build_cubes_16),
        24: (_build_external_24, _build_internal_24, _build_cubes_24),
    }[width]
    external_layer, internal_layer, cubes = (build(ops) for build in builders)
    sbox, constant = ops.sbox, ops.constant
    external = ops.prepare(_montgomery([*rounds.external_initial, *rounds.external_final]))
    internal = ops.prepare(_montgomery([rounds.internal]))
    num_internal = len(rounds.internal)

    @ops.inline
    def external_round(s: Any, r: Any) -> Any:
        return external_layer(cubes(s, external, r))

    @ops.inline
    def internal_cube(x0: Any, r: Any) -> Any:
        return sbox(x0, constant(internal, 0, r))

    @ops.inline
    def permute(state: Any) -> Any:
        s = external_layer(state)
        # One external round in the code, not two: the second half runs no internal rounds.
        for half in range(2):
            for r in range(HALF_EXTERNAL_ROUNDS):
                s = external_round(s, half * HALF_EXTERNAL_ROUNDS + r)
            for r in range(num_internal * (1 - half)):
                s = internal_layer(internal_cube(s[0], r), s)
        return s

    return Permutation(width, permute, external_layer, external_round, internal_cube, internal_layer)
