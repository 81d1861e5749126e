"""Blocks into a duplex state, against the definition over Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.duplex import absorb_blocks
from kernels.field import P, from_monty, to_monty
from kernels.poseidon2 import permute

elements = st.integers(0, P - 1)


@settings(max_examples=25, deadline=None)
@given(
    state=st.lists(elements, min_size=24, max_size=24),
    blocks=st.lists(st.lists(elements, min_size=16, max_size=16), max_size=4),
    count=st.integers(0, 16),
)
def test_blocks_are_absorbed_one_after_the_other(
    state: list[int], blocks: list[list[int]], count: int
) -> None:
    before = to_monty(np.array(state))
    kept = before.copy()
    after = absorb_blocks(
        before, to_monty(np.array(blocks).reshape(-1, 16)), count=to_monty(np.array([count]))[0]
    )
    expected = list(state)
    for block in blocks:
        expected[:16] = block
        expected[16] = (expected[16] + count) % P
        expected = list(permute(expected))
    assert from_monty(after).tolist() == expected
    assert (before == kept).all()


@pytest.mark.parametrize(("state", "block"), [(23, 16), (24, 15), (16, 16)])
def test_other_widths_are_an_assertion(state: int, block: int) -> None:
    with pytest.raises(AssertionError):
        absorb_blocks(np.zeros(state, np.uint32), np.zeros((1, block), np.uint32), count=np.uint32(0))
