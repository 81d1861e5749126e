"""How bytes enter the field, and digests leave it (specification "The proof", section 1).

Elements travel as **words** here: canonical, 4 bytes little-endian each. A byte string is its length in
bytes, then its bytes three at a time, little-endian, the last group zero-padded: enc(b). A salt or a secret
is 24 bytes, 8 elements, without a length. A digest is 8 elements, so its 32 bytes are its words.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate, pairwise

import numpy as np

from kernels.field import U32, P, from_monty, to_monty

WORD_BYTES = 4
GROUP_BYTES = 3
DIGEST_ELEMENTS = 8
DIGEST_BYTES = WORD_BYTES * DIGEST_ELEMENTS

_PADDING = (b"", b"\0\0", b"\0")
_DIGEST_WORDS = struct.Struct(f"<{DIGEST_ELEMENTS}I")


class Tag(IntEnum):
    """What H_t is taken of: it starts the capacity of the sponge and keeps the kinds of digest apart."""

    CONSTRAINT = 1
    OUTPUT = 2
    NULLIFIER = 3
    KEY = 4
    PUBLIC = 5
    STATEMENT = 6
    ROOT = 7
    BINDING = 8


def number_words(number: int) -> bytes:
    """One element, 0 ≤ number < p."""
    assert 0 <= number < P, "an element is canonical"
    return number.to_bytes(WORD_BYTES, "little")


def group_words(data: bytes) -> bytes:
    """The bytes alone, three to an element."""
    count = -(-len(data) // GROUP_BYTES)
    padded = data.ljust(count * GROUP_BYTES, b"\0")
    words = bytearray(count * WORD_BYTES)
    for place in range(GROUP_BYTES):
        words[place::WORD_BYTES] = padded[place::GROUP_BYTES]
    return bytes(words)


def string_words(data: bytes) -> bytes:
    """enc(data): the length, then the bytes."""
    return number_words(len(data)) + group_words(data)


def joined_strings(strings: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """`string_words` of all strings, none longer than 2^24 - 1 bytes, one after the other, and the number of elements
    of each: one pass, for there may be thousands of short ones."""
    # A length of three bytes is a group like any other.
    padded = [
        len(data).to_bytes(GROUP_BYTES, "little") + data + _PADDING[len(data) % GROUP_BYTES]
        for data in strings
    ]
    return group_words(b"".join(padded)), [len(data) // GROUP_BYTES for data in padded]


def string_words_each(strings: Sequence[bytes]) -> list[bytes]:
    """`string_words` of each string."""
    words, lengths = joined_strings(strings)
    bounds = [WORD_BYTES * end for end in accumulate(lengths, initial=0)]
    return [words[start:end] for start, end in pairwise(bounds)]


def string_elements(num_bytes: int) -> int:
    """How many elements enc(b) has for a string of that many bytes."""
    return 1 + -(-num_bytes // GROUP_BYTES)


def is_digest(data: bytes) -> bool:
    """Whether the bytes are 8 canonical elements."""
    return len(data) == DIGEST_BYTES and max(_DIGEST_WORDS.unpack(data)) < P


def are_digests(each: Sequence[bytes]) -> bool:
    """Whether all are digests; thousands are looked at together."""
    if not set(map(len, each)) <= {DIGEST_BYTES}:
        return False
    return bool((np.frombuffer(b"".join(each), dtype="<u4") < P).all())


def elements_of(words: bytes) -> U32:
    """Words as elements in Montgomery form, [n]. The words are canonical."""
    return to_monty(np.frombuffer(words, dtype="<u4"))


def digests_of(elements: U32) -> list[bytes]:
    """Digests [n, 8] in Montgomery form as n byte strings."""
    data = from_monty(elements).astype("<u4").tobytes()
    return [data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES)]


def digest_integers(digest: bytes) -> list[int]:
    """The 8 canonical elements of a digest."""
    return list(_DIGEST_WORDS.unpack(digest))
