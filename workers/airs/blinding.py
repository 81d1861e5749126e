"""What fills the cells of a trace that nothing constrains.

Every column is opened at about a hundred points, and most of its rows can be computed by anyone. Were the
rest constant as well, linear algebra would give the private cells. So padding rows are filled with field
elements that nobody knows (specification "The proof", section 1, "Privacy"): as many unknowns a column as
there are padding rows. This is a mitigation, not zero-knowledge.
"""

import os
from typing import Protocol

import numpy as np

from kernels.field import U32, P, to_monty

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class BlindingSource(Protocol):
    """Gives field elements that nothing else depends on."""

    def elements(self, count: int) -> U32:
        """`count` elements in Montgomery form."""


class SystemBlinding:
    """The operating system's randomness: uniform 31-bit words, those from p on drawn again (one in 128)."""

    def elements(self, count: int) -> U32:
        # A uniform element is uniform in Montgomery form as well, so nothing is converted.
        drawn: list[U32] = []
        missing = count
        while missing:
            words = np.frombuffer(os.urandom(4 * (missing + missing // 64 + 16)), dtype=np.uint32)
            fresh = words & np.uint32(0x7FFFFFFF)
            drawn.append(fresh[fresh < P][:missing])
            missing -= drawn[-1].size
        return np.concatenate(drawn) if drawn else np.zeros(0, dtype=np.uint32)


class SeededBlinding:
    """The splitmix64 stream of a seed, each word mod p, from its start at every call: for vectors and tests
    only."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def elements(self, count: int) -> U32:
        return to_monty(splitmix64(self._seed, count) % np.uint64(P))


def splitmix64(seed: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """The first `count` words of the splitmix64 stream (Steele, Lea, Flood, OOPSLA 2014)."""
    state = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA + np.uint64(seed)
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))
