"""The Fiat–Shamir transcript: a duplex challenger over Poseidon2-24, rate 16 (Plonky3 0.6.2
`DuplexChallenger`).

Observing pushes onto an input buffer and forgets unread outputs. A duplex overwrites the rate with the n
waiting inputs, zeroes the rest of the rate, adds n to the first capacity element and permutes; the outputs
are then handed out **from the end** (state[15] first). The state is kept in Montgomery form, as the kernels
want it; single elements come and go as canonical integers.
"""

from typing import Protocol

import numpy as np

from kernels.duplex import absorb_blocks
from kernels.field import U32, Ext, P, from_monty, to_monty

WIDTH = 24
RATE = 16

_COUNT = to_monty(np.arange(RATE + 1))
"""The number of inputs of a duplex, in Montgomery form."""


class TranscriptBackend(Protocol):
    """What a transcript needs of `kernels.backend.Backend`."""

    def grind(self, state: U32, pending: U32, bits: int) -> int: ...


class Transcript:
    """A transcript that starts from the zero state."""

    def __init__(self, backend: TranscriptBackend) -> None:
        self._backend = backend
        self._state: U32 = np.zeros(WIDTH, dtype=np.uint32)
        self._inputs: U32 = np.zeros(RATE, dtype=np.uint32)
        self._waiting = 0
        # Most outputs are overwritten by the next block before anyone samples: they are converted when read.
        self._unread = False
        self._outputs: list[int] = []

    def observe(self, value: int) -> None:
        """Observes one canonical element."""
        assert 0 <= value < P, "an observed element is canonical"
        self.observe_array(to_monty(np.array([value], dtype=np.int64)))

    def observe_array(self, values: U32) -> None:
        """Observes every element of an array of any shape (Montgomery form), in C order.

        An extension element is its four coefficients, index 0 first; a Merkle cap is its digests in order.
        """
        flat = np.ascontiguousarray(values).reshape(-1)
        start = min((RATE - self._waiting) % RATE, flat.size)
        self._push(flat[:start])
        whole = start + (flat.size - start) // RATE * RATE
        if whole > start:
            self._absorb(flat[start:whole].reshape(-1, RATE), RATE)
        self._push(flat[whole:])
        if flat.size and self._waiting:
            self._forget_outputs()

    def _push(self, values: U32) -> None:
        """Elements onto the input buffer, at most as many as it has room for."""
        self._inputs[self._waiting : self._waiting + values.size] = values
        self._waiting += values.size
        if self._waiting == RATE:
            self._duplex()

    def sample(self) -> int:
        """One canonical element."""
        if self._waiting or not (self._unread or self._outputs):
            self._duplex()
        if self._unread:
            self._outputs = from_monty(self._state[:RATE]).tolist()
            self._unread = False
        return self._outputs.pop()

    def sample_ext(self) -> Ext:
        """One extension element: four samples, coefficient 0 first."""
        return (self.sample(), self.sample(), self.sample(), self.sample())

    def sample_bits(self, bits: int) -> int:
        """The low `bits` bits of one sample."""
        assert 0 <= bits < 31, "more bits than an element holds evenly"
        return self.sample() & ((1 << bits) - 1)

    def grind(self, bits: int) -> int:
        """Finds, observes and returns the smallest canonical witness of `bits` bits of work.

        With 0 bits nothing is observed and the witness is 0.
        """
        if bits == 0:
            return 0
        witness = self._backend.grind(self._state, self._inputs[: self._waiting].copy(), bits)
        if not self.check_witness(bits, witness):
            raise AssertionError("the backend's grinding witness does not satisfy its own transcript")
        return witness

    def check_witness(self, bits: int, witness: int) -> bool:
        """Whether a canonical `witness` shows `bits` bits of work; observes it and takes the sample, as
        grinding did.

        With 0 bits nothing is observed, and only the witness 0 is good: Plonky3 does not look at it, but a
        verifier that did the same would accept many encodings of one proof.
        """
        if bits == 0:
            return witness == 0
        self.observe(witness)
        return self.sample_bits(bits) == 0

    def _duplex(self) -> None:
        count = self._waiting
        block = self._inputs.copy() if count else self._state[:RATE].copy()
        if count:
            block[count:] = 0
        self._waiting = 0
        self._absorb(block.reshape(1, RATE), count)

    def _absorb(self, blocks: U32, count: int) -> None:
        self._state = absorb_blocks(self._state, blocks, count=_COUNT[count])
        self._outputs.clear()
        self._unread = True

    def _forget_outputs(self) -> None:
        self._outputs.clear()
        self._unread = False
