"""Transforms and low-degree extension against the naive evaluation of the interpolant."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import backend as backends
from kernels import buffers, lde, ntt
from kernels.field import P, from_monty, inverse, to_monty, two_adic_generator
from kernels.lanes import LANES

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "poseidon2_air_w24_h10.json").read_text())

CPU = backends.select("cpu", 2)
SINGLE = backends.select("cpu", 1)


def random_matrix(seed: int, rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(0, P, (rows, columns))


def interpolate_at(values: list[int], shift: int, point: int) -> int:
    """Lagrange's formula on shift * H: knows nothing of transforms."""
    n = len(values)
    root = two_adic_generator(n.bit_length() - 1)
    total = 0
    for i, value in enumerate(values):
        x = shift * pow(root, i, P) % P
        weight = x * inverse(n * pow(shift, n, P))  # 1 / (derivative of X^n - shift^n at x)
        if point == x:
            return value
        total += value * weight * (pow(point, n, P) - pow(shift, n, P)) * inverse(point - x)
    return total % P


def test_known_answers_of_plonky3() -> None:
    odd = list(range(1, 17, 2))
    assert ntt.dft(odd) == VECTORS["dft_8x2"][::2]
    values = np.arange(1, 17).reshape(8, 2)
    extended = from_monty(CPU.coset_lde(to_monty(values), log_blowup=1))
    assert extended.ravel().tolist() == VECTORS["coset_lde_bitrev_16x2"]


@given(st.integers(0, 5), st.integers(1, P - 1), st.integers(0, 2**32))
@settings(deadline=None)
def test_the_two_definitions_invert_each_other(log_n: int, shift: int, seed: int) -> None:
    coefficients = random_matrix(seed, 1, 1 << log_n)[0].tolist()
    values = ntt.dft(coefficients, shift=shift)
    assert ntt.inverse_dft(values, shift=shift) == coefficients
    point = (shift * 7 + 1) % P
    at_point = sum(c * pow(point, k, P) for k, c in enumerate(coefficients)) % P
    assert ntt.evaluate(coefficients, point) == at_point
    assert interpolate_at(values, shift, point) == at_point


@settings(deadline=None, max_examples=60)
@given(
    log_n=st.integers(0, 6),
    log_blowup=st.integers(0, 3),
    width=st.integers(1, 2 * LANES + 1),
    shifts=st.tuples(st.integers(1, P - 1), st.integers(1, P - 1)),
    seed=st.integers(0, 2**32),
)
def test_extension_is_the_interpolant_on_the_coset_bit_reversed(
    log_n: int, log_blowup: int, width: int, shifts: tuple[int, int], seed: int
) -> None:
    in_shift, out_shift = shifts
    values = random_matrix(seed, 1 << log_n, width)
    extended = CPU.coset_lde(to_monty(values), log_blowup=log_blowup, out_shift=out_shift, in_shift=in_shift)
    log_m = log_n + log_blowup
    assert extended.shape == (1 << log_m, width)
    assert extended.max() < P
    root, order = two_adic_generator(log_m), ntt.bit_reversal(log_m)
    row = seed % (1 << log_m)
    point = out_shift * pow(root, int(order[row]), P) % P
    expected = [interpolate_at(values[:, c].tolist(), in_shift, point) for c in range(width)]
    assert from_monty(extended[row]).tolist() == expected


@pytest.mark.parametrize(("log_n", "width"), [(7, 3), (8, 20), (9, 9), (10, 1)])
def test_a_whole_extended_column_of_more_than_one_block(log_n: int, width: int) -> None:
    values = random_matrix(log_n, 1 << log_n, width)
    extended = from_monty(CPU.coset_lde(to_monty(values), log_blowup=1))
    column = width - 1
    coefficients = ntt.inverse_dft(values[:, column].tolist())
    rows = np.random.default_rng(1).integers(0, 2 << log_n, 40)
    root, order = two_adic_generator(log_n + 1), ntt.bit_reversal(log_n + 1)
    for row in rows:
        point = 3 * pow(root, int(order[row]), P) % P
        assert extended[row, column] == ntt.evaluate(coefficients, point)


def test_extension_to_the_same_coset_without_blowup_only_reverses_bits() -> None:
    values = to_monty(random_matrix(5, 256, 11))
    same = CPU.coset_lde(values, log_blowup=0, out_shift=9, in_shift=9)
    assert (same == values[ntt.bit_reversal(8)]).all()


def test_columns_are_independent_of_their_neighbours_and_of_strips() -> None:
    """More columns than a strip: each must come out as it does alone."""
    width = lde.STRIP + LANES + 3
    values = to_monty(random_matrix(6, 64, width))
    together = CPU.coset_lde(values, log_blowup=1)
    for column in (0, lde.STRIP - 1, lde.STRIP, width - 1):
        alone = CPU.coset_lde(values[:, column : column + 1], log_blowup=1)
        assert (together[:, column] == alone[:, 0]).all()


@pytest.mark.parametrize(("log_n", "width"), [(0, 5), (5, 40), (11, 37), (12, 70)])
def test_thread_counts_give_equal_results(log_n: int, width: int) -> None:
    values = to_monty(random_matrix(8, 1 << log_n, width))
    before = values.copy()
    assert (CPU.coset_lde(values, log_blowup=1) == SINGLE.coset_lde(values, log_blowup=1)).all()
    assert (values == before).all()


def test_no_columns_and_read_only_columns() -> None:
    assert CPU.coset_lde(np.empty((4, 0), np.uint32), log_blowup=1).shape == (8, 0)
    values = to_monty(random_matrix(9, 4, 3))
    writable = CPU.coset_lde(values, log_blowup=1)
    values.flags.writeable = False
    assert (CPU.coset_lde(values, log_blowup=1) == writable).all()


def test_heights_and_shifts_that_make_no_sense_are_assertions() -> None:
    with pytest.raises(AssertionError, match="power of two"):
        CPU.coset_lde(np.zeros((3, 1), np.uint32), log_blowup=1)
    with pytest.raises(AssertionError, match="not zero"):
        CPU.coset_lde(np.zeros((2, 1), np.uint32), log_blowup=1, out_shift=P)


def test_root_tables_hold_the_powers_of_every_half() -> None:
    for inverted in (False, True):
        table = from_monty(ntt.roots(5, inverted=inverted))
        for log_half in range(5):
            half = 1 << log_half
            root = two_adic_generator(log_half + 1)
            root = inverse(root) if inverted else root
            assert table[half : 2 * half].tolist() == [pow(root, j, P) for j in range(half)]


@pytest.mark.parametrize(("log_rows", "width", "log_blowup"), [(0, 3, 1), (3, 5, 1), (6, 70, 1), (5, 9, 2)])
def test_an_extension_may_take_the_memory_that_its_values_end(
    log_rows: int, width: int, log_blowup: int
) -> None:
    trace, memory = buffers.extensible(1 << log_rows, width, log_blowup)
    assert np.shares_memory(trace, memory[-len(trace) :])
    trace[:] = to_monty(random_matrix(3, 1 << log_rows, width))
    expected = CPU.coset_lde(trace.copy(), log_blowup=log_blowup)
    extended = CPU.coset_lde(trace, log_blowup=log_blowup, out=memory)
    assert extended is memory
    assert (extended == expected).all()


def test_an_extension_does_not_overwrite_what_it_has_yet_to_read() -> None:
    memory = np.zeros((8, 3), np.uint32)
    with pytest.raises(AssertionError, match="written before"):
        CPU.coset_lde(memory[:4], log_blowup=1, out=memory)
    with pytest.raises(AssertionError):
        CPU.coset_lde(np.zeros((4, 3), np.uint32), log_blowup=1, out=memory[:4])
