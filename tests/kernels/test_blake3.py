"""BLAKE3 of many messages: the official vectors, trees of every small shape, and the package `blake3`."""

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.backend import Backend, select
from kernels.blake3 import CHUNK_BYTES
from kernels.messages import pack

VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    3072: "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
    3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
    4096: "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969",
    4097: "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995",
    5120: "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833",
    5121: "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff",
    6144: "3e2e5b74e048f3add6d21faab3f83aa44d3b2278afb83b80b3c35164ebeca205",
    6145: "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f",
    7168: "61da957ec2499a95d6b8023e2b0e604ec7f6b50e80a9678b89d2628e99ada77a",
    7169: "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817",
}
"""`test_vectors.json` of BLAKE3's own repository: input length, first 32 bytes of `hash`."""


def vector_input(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


@pytest.fixture(scope="module", params=[1, 2])
def backend(request: pytest.FixtureRequest) -> Backend:
    return select("cpu", request.param)


def digests(backend: Backend, messages: list[bytes]) -> list[str]:
    return [bytes(digest).hex() for digest in backend.blake3(*pack(messages))]


def test_the_official_vectors(backend: Backend) -> None:
    assert digests(backend, [vector_input(length) for length in VECTORS]) == list(VECTORS.values())


@pytest.mark.parametrize("length", VECTORS)
def test_an_official_vector_alone(backend: Backend, length: int) -> None:
    assert digests(backend, [vector_input(length)]) == [VECTORS[length]]


def test_trees_of_every_small_number_of_chunks(backend: Backend) -> None:
    messages = [vector_input(chunks * CHUNK_BYTES - rest) for chunks in range(1, 70) for rest in (0, 63)]
    expected = [blake3.blake3(message).hexdigest() for message in messages]
    assert digests(backend, messages) == expected


def test_every_length_around_the_ends_of_blocks(backend: Backend) -> None:
    messages = [vector_input(n) for n in (*range(200), *range(950, 1100))]
    assert digests(backend, messages) == [blake3.blake3(message).hexdigest() for message in messages]


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(0, 300) | st.integers(0, 9_000), max_size=30), seed=st.integers(0, 250))
def test_any_messages_have_the_packages_digests(sizes: list[int], seed: int) -> None:
    messages = [vector_input(seed + size)[seed:] for size in sizes]
    assert digests(select("cpu", 1), messages) == [blake3.blake3(m).hexdigest() for m in messages]


def test_one_long_message(backend: Backend) -> None:
    message = vector_input((1 << 20) + 12_345)
    assert digests(backend, [message]) == [blake3.blake3(message).hexdigest()]
