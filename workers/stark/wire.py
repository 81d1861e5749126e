"""Varints of the wire format (postcard: 7 bits a byte, low bits first, the high bit says that more follow).

A whole proof is one sequence of varints, for a byte below 128 (an option's tag, an arity) is its own varint.
That lets a proof be read with a handful of array operations instead of one Python step an element.
"""

import numpy as np
import numpy.typing as npt

from kernels.field import U32
from workers.stark.errors import Refusal, VerificationError

U64 = npt.NDArray[np.uint64]

MAX_VARINT_BYTES = 5
"""No element and no length here needs more: 5 × 7 bits hold any 32-bit number."""

_WINDOW_BYTES = 8
_OF_SIZE = np.array([(1 << (8 * size)) - 1 for size in range(MAX_VARINT_BYTES + 1)], dtype=np.uint64)


def encode_varints(values: U32) -> bytes:
    """The minimal varints of `values` [n] one after the other."""
    sizes = np.ones(values.size, dtype=np.int64)
    for size in range(1, MAX_VARINT_BYTES):
        sizes += values >= np.uint32(1 << (7 * size))
    ends = np.cumsum(sizes)
    starts = ends - sizes
    encoded = np.zeros(int(ends[-1]) if values.size else 0, dtype=np.uint8)
    for position in range(MAX_VARINT_BYTES):
        here = sizes > position
        septet = (values[here] >> np.uint32(7 * position)) & np.uint32(0x7F)
        more = (sizes[here] > position + 1).astype(np.uint32) << np.uint32(7)
        encoded[starts[here] + position] = (septet | more).astype(np.uint8)
    return encoded.tobytes()


def decode_varints(data: bytes) -> tuple[U64, bool]:
    """The values of all complete varints in `data`, and whether bytes of an incomplete one follow them.

    Takes memory proportional to `data`: the caller bounds its length first.

    Raises:
        VerificationError: `malformed_varint`, one is not minimal or is longer than `MAX_VARINT_BYTES`.
    """
    encoded = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(encoded < 0x80)
    if not ends.size:
        return np.zeros(0, dtype=np.uint64), encoded.size > 0
    starts = np.concatenate((np.zeros(1, dtype=ends.dtype), ends[:-1] + 1))
    sizes = ends - starts + 1
    overlong = (sizes > MAX_VARINT_BYTES) | ((sizes > 1) & (encoded[ends] == 0))
    if overlong.any():
        at = int(starts[np.argmax(overlong)])
        raise VerificationError(Refusal.MALFORMED_VARINT, f"the varint at byte {at} is not minimal")
    # Eight bytes from each start at once, those beyond the varint masked away.
    padded = data + bytes(_WINDOW_BYTES)
    windows: U64 = np.ndarray((len(data),), dtype="<u8", buffer=padded, strides=(1,))
    septets = windows[starts] & _OF_SIZE[sizes]
    values = septets & np.uint64(0x7F)
    for position in range(1, MAX_VARINT_BYTES):
        values |= (septets >> np.uint64(position)) & np.uint64(0x7F << (7 * position))
    return values, int(ends[-1]) + 1 < encoded.size
