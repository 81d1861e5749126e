"""SHA-256 of many messages: the standard's own examples, every length around a block, and `hashlib`."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.backend import Backend, select
from kernels.messages import pack
from kernels.sha256 import INITIAL, ROUND_CONSTANTS

EXAMPLES = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
    b"nopqrstu": "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}
"""FIPS 180-4's examples (NIST, "SHA-256" example values)."""


@pytest.fixture(scope="module", params=[1, 2])
def backend(request: pytest.FixtureRequest) -> Backend:
    return select("cpu", request.param)


def digests(backend: Backend, messages: list[bytes]) -> list[str]:
    return [bytes(digest).hex() for digest in backend.sha256(*pack(messages))]


def test_the_standards_examples(backend: Backend) -> None:
    assert digests(backend, list(EXAMPLES)) == list(EXAMPLES.values())


def test_the_constants_are_the_published_ones() -> None:
    """FIPS 180-4, 4.2.2 and 5.3.3: the first and the last of each."""
    assert [hex(word) for word in (INITIAL[0], INITIAL[7])] == ["0x6a09e667", "0x5be0cd19"]
    assert [hex(word) for word in (ROUND_CONSTANTS[0, 0], ROUND_CONSTANTS[3, 15])] == [
        "0x428a2f98",
        "0xc67178f2",
    ]


def test_every_length_around_the_ends_of_blocks(backend: Backend) -> None:
    messages = [bytes(range(256))[:n] for n in range(200)]
    expected = [hashlib.sha256(message).hexdigest() for message in messages]
    assert digests(backend, messages) == expected
    assert digests(backend, messages[::-1]) == expected[::-1]


@settings(deadline=None, max_examples=60)
@given(messages=st.lists(st.binary(max_size=300), max_size=40))
def test_any_messages_have_hashlibs_digests(messages: list[bytes]) -> None:
    expected = [hashlib.sha256(message).hexdigest() for message in messages]
    assert digests(select("cpu", 1), messages) == expected


def test_messages_of_one_length_are_rows(backend: Backend) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (1_000, 32), dtype=np.uint8)
    found = backend.sha256(rows.reshape(-1), np.arange(1_001) * 32)
    assert found.shape == (1_000, 32)
    assert all(bytes(d) == hashlib.sha256(row).digest() for d, row in zip(found, rows, strict=True))


def test_offsets_that_do_not_fit_the_data_are_an_assertion(backend: Backend) -> None:
    data = np.zeros(10, np.uint8)
    for offsets in ([0, 5], [1, 10], [0, 8, 4, 10]):
        with pytest.raises(AssertionError):
            backend.sha256(data, np.array(offsets))
