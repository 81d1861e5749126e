"""The sponge whose permutations leave their rows in a trace, against the definition over Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import poseidon2
from kernels.absorb import absorb
from kernels.chain import FEW
from kernels.field import P, from_monty, to_monty
from kernels.poseidon2 import TRACE_WIDTH
from kernels.threads import Pool


def defined_rows(tag: int, elements: list[int]) -> list[list[int]]:
    """The AIR row of every permutation of H_tag, by its definition."""
    state = [0] * 8 + [tag, len(elements)] + [0] * 6
    rows = []
    for start in range(0, len(elements), 8):
        block = elements[start : start + 8]
        state[:8] = block + [0] * (8 - len(block))
        rows.append(poseidon2.trace_row(state))
        state = list(poseidon2.permute(state))
    return rows


tagged_inputs = st.tuples(st.integers(0, P - 1), st.lists(st.integers(0, P - 1), min_size=1, max_size=40))


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.lists(tagged_inputs, min_size=1, max_size=FEW)
    | st.lists(tagged_inputs, min_size=1, max_size=40),
    threads=st.sampled_from([1, 2]),
    extra_columns=st.integers(0, 2),
    seed=st.integers(0, 2**32),
)
def test_digests_and_rows_are_the_defined_ones_and_nothing_else_is_written(
    inputs: list[tuple[int, list[int]]], threads: int, extra_columns: int, seed: int
) -> None:
    elements = [x for _, given_elements in inputs for x in given_elements]
    offsets = np.cumsum([0, *(len(given_elements) for _, given_elements in inputs)])
    tags = np.array([tag for tag, _ in inputs], dtype=np.uint32)
    expected = [row for tag, given_elements in inputs for row in defined_rows(tag, given_elements)]
    height = len(expected) + 3
    rows = np.random.default_rng(seed).permutation(height)[: len(expected)]
    trace = np.full((height, TRACE_WIDTH + extra_columns), 7, dtype=np.uint32)
    digests = absorb(Pool(threads), to_monty(np.array(elements)), offsets, tags, out=trace, rows=rows)
    assert from_monty(trace[rows, :TRACE_WIDTH]).tolist() == expected
    others = np.setdiff1d(np.arange(height), rows)
    assert (trace[others] == 7).all()
    assert (trace[:, TRACE_WIDTH:] == 7).all()
    assert [tuple(row) for row in from_monty(digests).tolist()] == [
        poseidon2.hash_tagged(tag, given_elements) for tag, given_elements in inputs
    ]


@pytest.mark.parametrize(
    "offsets", [[0, 3, 3, 8], [1, 8], [0, 7], [0, 5, 3, 8]], ids=["empty", "late", "short", "falling"]
)
def test_offsets_must_rise_and_span_the_elements(offsets: list[int]) -> None:
    tags = np.ones(len(offsets) - 1, dtype=np.uint32)
    out, rows = np.zeros((8, TRACE_WIDTH), dtype=np.uint32), np.arange(len(offsets) - 1)
    with pytest.raises(AssertionError, match="offsets"):
        absorb(Pool(1), np.zeros(8, dtype=np.uint32), np.array(offsets), tags, out=out, rows=rows)
