"""H_t over words: the tagged sponge that every digest of a statement is made with, many at a time."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt

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


def hash_strings(columns: Mapping[Tag, Sequence[bytes]], *, backend: Backend) -> list[U32]:
    """H_t of columns of words of any lengths, all columns as long: each U32[n, 8] in Montgomery form."""
    lengths = [len(words) // WORD_BYTES for column in columns.values() for words in column]
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    elements = elements_of(b"".join(chain.from_iterable(columns.values())))
    return _hash_columns(elements, offsets, list(columns), backend)


def hash_rows(columns: Mapping[Tag, U32], *, backend: Backend) -> list[U32]:
    """H_t of the rows of columns U32[n, k] in Montgomery form, k each column's own: each U32[n, 8]."""
    lengths = [np.full(len(rows), rows.shape[1], dtype=np.int64) for rows in columns.values()]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum()
    elements = np.concatenate([rows.ravel() for rows in columns.values()])
    return _hash_columns(elements, offsets, list(columns), backend)


def _hash_columns(
    elements: U32, offsets: npt.NDArray[np.int64], tags: Sequence[Tag], backend: Backend
) -> list[U32]:
    count = (len(offsets) - 1) // len(tags)
    digests = backend.hash_tagged(elements, offsets, np.repeat(np.array(tags, dtype=np.uint32), count))
    return [digests[start : start + count] for start in range(0, len(digests), count)]


def tagged_digests(inputs: Sequence[Input], *, backend: Backend) -> list[bytes]:
    """H_t of each input, as 32 bytes each."""
    return digests_of(tagged_elements(inputs, backend=backend))
