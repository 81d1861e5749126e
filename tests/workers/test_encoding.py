"""Many strings packed together are each packed as alone."""

from hypothesis import given
from hypothesis import strategies as st

from kernels.field import P
from workers.encoding import (
    WORD_BYTES,
    are_digests,
    is_digest,
    joined_strings,
    string_words,
    string_words_each,
)

words = st.integers(0, 2**32 - 1) | st.sampled_from([0, P - 1, P, 2**32 - 1])
almost_digests = st.lists(words, min_size=8, max_size=8).map(
    lambda each: b"".join(word.to_bytes(WORD_BYTES, "little") for word in each)
) | st.binary(max_size=40)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_strings_packed_together_are_those_packed_alone(strings: list[bytes]) -> None:
    alone = [string_words(data) for data in strings]
    assert string_words_each(strings) == alone
    assert joined_strings(strings) == (b"".join(alone), [len(each) // WORD_BYTES for each in alone])


@given(st.lists(almost_digests, max_size=4))
def test_many_are_digests_if_each_is_one(each: list[bytes]) -> None:
    assert are_digests(each) == all(map(is_digest, each))
