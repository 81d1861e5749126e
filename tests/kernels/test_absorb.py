"""The sponge with its states kept, against the definition over Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import poseidon2
from kernels.absorb import absorb
from kernels.field import P, from_monty, to_monty
from kernels.threads import Pool


def defined_states(tag: int, elements: list[int]) -> list[list[int]]:
    """Every permutation's input of H_tag, by its definition."""
    state = [0] * 8 + [tag, len(elements)] + [0] * 6
    states = []
    for start in range(0, len(elements), 8):
        block = elements[start : start + 8]
        state[:8] = block + [0] * (8 - len(block))
        states.append(list(state))
        state = list(poseidon2.permute(state))
    return states


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.lists(
        st.tuples(st.integers(0, P - 1), st.lists(st.integers(0, P - 1), min_size=1, max_size=40)),
        min_size=1,
        max_size=40,
    ),
    threads=st.sampled_from([1, 2]),
)
def test_states_and_digests_are_the_defined_ones(inputs: list[tuple[int, list[int]]], threads: int) -> None:
    elements = [x for _, given_elements in inputs for x in given_elements]
    offsets = np.cumsum([0, *(len(given_elements) for _, given_elements in inputs)])
    tags = np.array([tag for tag, _ in inputs], dtype=np.uint32)
    states, digests = absorb(Pool(threads), to_monty(np.array(elements)), offsets, tags)
    expected = [state for tag, given_elements in inputs for state in defined_states(tag, given_elements)]
    assert from_monty(states).tolist() == expected
    assert [tuple(row) for row in from_monty(digests).tolist()] == [
        poseidon2.hash_tagged(tag, given_elements) for tag, given_elements in inputs
    ]


@pytest.mark.parametrize(
    "offsets", [[0, 3, 3, 8], [1, 8], [0, 7], [0, 5, 3, 8]], ids=["empty", "late", "short", "falling"]
)
def test_offsets_must_rise_and_span_the_elements(offsets: list[int]) -> None:
    tags = np.ones(len(offsets) - 1, dtype=np.uint32)
    with pytest.raises(AssertionError, match="offsets"):
        absorb(Pool(1), np.zeros(8, dtype=np.uint32), np.array(offsets), tags)
