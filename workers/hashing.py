"""H_t over words: the tagged sponge that every digest of a statement is made with, many at a time."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from kernels.backend import Backend, select
from kernels.field import U32
from workers.encoding import WORD_BYTES, Tag, digests_of, elements_of

Input = tuple[Tag, bytes]
"""A tag and the words to hash under it."""


@lru_cache(maxsize=1)
def default_backend() -> Backend:
    """The CPU on one thread: what verifying a proof or hashing a few statements needs."""
    return select("cpu", threads=1)


def tagged_elements(inputs: Sequence[Input], *, backend: Backend) -> U32:
    """H_t of each input, [n, 8] in Montgomery form."""
    counts = [len(words) // WORD_BYTES for _, words in inputs]
    offsets = np.zeros(len(inputs) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    tags = np.array([tag for tag, _ in inputs], dtype=np.uint32)
    return backend.hash_tagged(elements_of(b"".join(words for _, words in inputs)), offsets, tags)


def tagged_digests(inputs: Sequence[Input], *, backend: Backend) -> list[bytes]:
    """H_t of each input, as 32 bytes each."""
    return digests_of(tagged_elements(inputs, backend=backend))
