"""Plain 32-bit words, for hashes that mix them bit by bit: what SHA-256 and BLAKE3 are written over.

`kernels.word_lanes` has the same operations on vectors of words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core.types import uint32 as u32

Op = Callable[..., Any]


@dataclass(frozen=True)
class WordOps:
    """Operations of a target on words, or on vectors of them."""

    add: Op
    """(x, y) -> x + y mod 2^32."""
    xor: Op
    both: Op
    """(x, y) -> x & y."""
    rotate: Callable[[int], Op]
    """k -> (x -> x rotated right by k), 1 <= k <= 31."""
    shift: Callable[[int], Op]
    """k -> (x -> x >> k), 1 <= k <= 31."""
    constant: Op
    """(table: U32[rows, columns], row, column) -> that word."""
    inline: Callable[[Op], Op]
    """The decorator that compiles a helper for the target."""


def scalar_words(inline: Callable[[Op], Op]) -> WordOps:
    """The operations on one `uint32`, compiled by a target's `inline`."""

    @inline
    def add(x: Any, y: Any) -> Any:
        return u32(x + y)

    @inline
    def xor(x: Any, y: Any) -> Any:
        return u32(x ^ y)

    @inline
    def both(x: Any, y: Any) -> Any:
        return u32(x & y)

    @inline
    def constant(table: Any, row: Any, column: Any) -> Any:
        return table[row, column]

    def rotate(k: int) -> Op:
        right, left = np.uint32(k), np.uint32(32 - k)

        @inline
        def rotated(x: Any) -> Any:
            return u32(u32(x >> right) | u32(x << left))

        return rotated

    def shift(k: int) -> Op:
        right = np.uint32(k)

        @inline
        def shifted(x: Any) -> Any:
            return u32(x >> right)

        return shifted

    return WordOps(add, xor, both, rotate, shift, constant, inline)
