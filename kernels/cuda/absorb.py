"""The tagged sponge whose permutations leave their rows in a trace on the device: see `Backend.absorb`.

Short inputs are a thread each. A long one is a chain, which a GPU's thread is slow at: its states are computed on the
host, and each of its blocks goes up as an input of its own with the capacity that it starts from.
"""

from dataclasses import dataclass

import numpy as np

from kernels.chain import chains
from kernels.cuda import hashing
from kernels.cuda.device import Device
from kernels.cuda.matrix import Matrix
from kernels.field import U32, to_monty
from kernels.hashing import I64
from kernels.poseidon2 import DIGEST_LEN, RATE_16
from kernels.threads import Pool

LONG_BLOCKS = 32
"""Inputs of more blocks are chained on the host."""
_CAPACITY = 8


@dataclass(frozen=True)
class _Inputs:
    """Inputs as the kernel takes them: capacities U32[n, 8], `rows` of all their blocks."""

    elements: U32
    lengths: I64
    capacities: U32
    rows: I64

    @property
    def blocks(self) -> I64:
        return -(-self.lengths // RATE_16)

    def where(self, chosen: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> "_Inputs":
        """Those that are chosen, in order."""
        return _Inputs(
            self.elements[np.repeat(chosen, self.lengths)],
            self.lengths[chosen],
            self.capacities[chosen],
            self.rows[np.repeat(chosen, self.blocks)],
        )


def absorb(
    device: Device, pool: Pool, elements: U32, offsets: I64, tags: U32, *, out: Matrix, rows: I64
) -> U32:
    """The digests U32[n, 8] of n inputs of at least one element, on the host; the rows go to `out`."""
    lengths = np.diff(offsets)
    assert (offsets[0], offsets[-1]) == (0, elements.size), "offsets do not span the elements"
    assert (lengths > 0).all(), "offsets do not rise"
    capacities = np.zeros((len(tags), _CAPACITY), np.uint32)
    capacities[:, 0], capacities[:, 1] = to_monty(tags.astype(np.int64)), to_monty(lengths)
    inputs = _Inputs(elements, lengths, capacities, rows)
    assert rows.shape == (inputs.blocks.sum(),), (rows.shape, inputs.blocks.sum())
    digests = np.empty((len(tags), DIGEST_LEN), np.uint32)
    long = inputs.blocks > LONG_BLOCKS
    if long.any():
        digests[long] = _chained(device, pool, inputs.where(long), out)
    if not long.all():
        digests[~long] = _launched(device, inputs.where(~long), out)
    return digests


def _chained(device: Device, pool: Pool, inputs: _Inputs, out: Matrix) -> U32:
    blocks = inputs.blocks
    first = _ends(blocks)
    states = np.empty((int(first[-1]), RATE_16 + _CAPACITY), np.uint32)
    digests = np.empty((len(blocks), DIGEST_LEN), np.uint32)
    tag_and_length = np.ascontiguousarray(inputs.capacities[:, :2])
    chains(
        pool, inputs.elements, _ends(inputs.lengths), tag_and_length, first=first, states=states, out=digests
    )
    alone = _Inputs(
        states[:, :RATE_16].reshape(-1), np.full(len(states), RATE_16), states[:, RATE_16:], inputs.rows
    )
    _launched(device, alone, out)
    return digests


def _launched(device: Device, inputs: _Inputs, out: Matrix) -> U32:
    count = len(inputs.lengths)
    digests = device.empty(count * DIGEST_LEN)
    device.launch(
        hashing.absorb_rows,
        count,
        device.upload(inputs.elements),
        device.upload(_ends(inputs.lengths)),
        device.upload(inputs.capacities),
        device.upload(_ends(inputs.blocks)),
        device.upload(inputs.rows.astype(np.int64)),
        *out.layout,
        digests,
    )
    return device.download(digests).reshape(count, DIGEST_LEN)


def _ends(sizes: I64) -> I64:
    """Where each of consecutive pieces starts, and the last one ends."""
    ends = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return ends
