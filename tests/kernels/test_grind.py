"""Grinding finds the smallest witness, by the duplex of the specification in Python integers."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import backend as backends
from kernels import poseidon2
from kernels.field import P, to_monty

CPU = backends.select("cpu", 2)
SINGLE = backends.select("cpu", 1)


def sampled_bits(state: list[int], pending: list[int], witness: int, bits: int) -> int:
    inputs = [*pending, witness]
    before = inputs + [0] * (16 - len(inputs)) + state[16:]
    before[16] = (before[16] + len(inputs)) % P
    return poseidon2.permute(before)[15] & ((1 << bits) - 1)


@settings(deadline=None, max_examples=25)
@given(pending=st.integers(0, 15), bits=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_the_witness_is_the_smallest(pending: int, bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, P, 24 + pending)
    state, waiting = values[:24].tolist(), values[24:].tolist()
    smallest = next(w for w in count() if sampled_bits(state, waiting, w, bits) == 0)
    assert CPU.grind(to_monty(state), to_monty(waiting), bits) == smallest


@pytest.mark.parametrize("seed", range(4))
def test_more_bits_than_one_window_are_found_alike_by_one_thread_and_two(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, P, 30)
    state, waiting = to_monty(values[:24]), to_monty(values[24:])
    witness = CPU.grind(state, waiting, 13)
    assert witness == SINGLE.grind(state, waiting, 13)
    assert sampled_bits(values[:24].tolist(), values[24:].tolist(), witness, 13) == 0


def test_no_bits_are_no_work() -> None:
    assert CPU.grind(to_monty(range(24)), to_monty([1]), 0) == 0


def test_the_state_is_left_as_it_was() -> None:
    state, waiting = to_monty(range(24)), to_monty(range(3))
    before = state.copy()
    CPU.grind(state, waiting, 4)
    assert (state == before).all()


def test_a_full_input_buffer_is_an_assertion() -> None:
    with pytest.raises(AssertionError, match="permutes before"):
        CPU.grind(to_monty(range(24)), to_monty(range(16)), 1)
