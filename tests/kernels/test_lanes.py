"""The vector and the scalar operations against Python integers, with the values where carries turn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import field, jit, lanes
from kernels.field import MONTY_R_INV, P
from kernels.lanes import LANES

EDGES = [0, 1, 2, P - 1, P - 2, (P - 1) // 2, (P + 1) // 2, 1 << 24, (1 << 24) - 1, 127 << 24, 1 << 30]
elements = st.one_of(st.sampled_from(EDGES), st.integers(0, P - 1))
vectors = st.lists(elements, min_size=LANES, max_size=LANES)


def kernel(*signature: Any) -> Any:
    """A kernel that `compile_all` does not know."""
    return lambda fn: jit.Kernel(fn, jit.types.void(*signature))


@kernel(jit.reads(1), jit.reads(1), jit.writes(2))
def _vector_arithmetic(x: Any, y: Any, out: Any) -> None:
    a, b = lanes.load(x, 0), lanes.load(y, 0)
    lanes.store(out, 0 * LANES, lanes.add(a, b))
    lanes.store(out, 1 * LANES, lanes.sub(a, b))
    lanes.store(out, 2 * LANES, lanes.mul(a, b))
    lanes.store(out, 3 * LANES, lanes.scale(a, y[0]))
    lanes.store(out, 4 * LANES, lanes.shifted_cube(a, lanes.load(y, LANES)))
    lanes.store(out, 5 * LANES, lanes.mul(a, lanes.splat(y[0])))


@kernel(jit.reads(1), jit.reads(1), jit.writes(2))
def _scalar_arithmetic(x: Any, y: Any, out: Any) -> None:
    for i in range(LANES):
        out[0, i] = lanes.add(x[i], y[i])
        out[1, i] = lanes.sub(x[i], y[i])
        out[2, i] = lanes.mul(x[i], y[i])
        out[3, i] = lanes.mul(x[i], y[0])
        out[4, i] = lanes.shifted_cube(x[i], y[LANES + i])
        out[5, i] = lanes.mul(x[i], y[0])


@pytest.mark.parametrize("arithmetic", [_vector_arithmetic, _scalar_arithmetic], ids=["vector", "scalar"])
@settings(deadline=None)
@given(x=vectors, y=vectors)
def test_field_operations_equal_their_definition(arithmetic: jit.Kernel, x: list[int], y: list[int]) -> None:
    """Raw words, not Montgomery forms of them: the edges must be the words that the code sees."""
    left = np.array(x, np.uint32)
    right = np.array(y + [(v - P) % 2**32 for v in y], np.uint32)
    out = np.empty((6, LANES), np.uint32)
    arithmetic(left, right, out)
    assert out[0].tolist() == [field.add(a, b) for a, b in zip(x, y, strict=True)]
    assert out[1].tolist() == [field.sub(a, b) for a, b in zip(x, y, strict=True)]
    assert out[2].tolist() == [a * b * MONTY_R_INV % P for a, b in zip(x, y, strict=True)]
    assert out[3].tolist() == out[5].tolist() == [a * y[0] * MONTY_R_INV % P for a in x]
    assert out[4].tolist() == [(a + b) ** 3 * MONTY_R_INV**2 % P for a, b in zip(x, y, strict=True)]


def _divisions_from(k: int) -> Any:
    """A helper that divides by 2^k ... 2^24: a divider is a function of its own, no loop can choose it."""
    divide = lanes.divider(k)
    rest = _divisions_from(k + 1) if k < 24 else jit.inline(lambda x, by_vector, by_scalar: None)

    @jit.inline
    def divisions(x: Any, by_vector: Any, by_scalar: Any) -> None:
        lanes.store(by_vector, (k - 1) * LANES, divide(lanes.load(x, 0)))
        for i in range(LANES):
            by_scalar[k - 1, i] = divide(x[i])
        rest(x, by_vector, by_scalar)

    return divisions


_all_divisions = _divisions_from(1)


@kernel(jit.reads(1), jit.writes(2), jit.writes(2))
def _divisions(x: Any, by_vector: Any, by_scalar: Any) -> None:
    _all_divisions(x, by_vector, by_scalar)


@settings(deadline=None)
@given(x=vectors)
def test_division_by_every_power_of_two(x: list[int]) -> None:
    by_vector, by_scalar = np.empty((24, LANES), np.uint32), np.empty((24, LANES), np.uint32)
    _divisions(np.array(x, np.uint32), by_vector, by_scalar)
    expected = [[field.mul(a, field.inverse(1 << k)) for a in x] for k in range(1, 25)]
    assert by_vector.tolist() == expected
    assert by_scalar.tolist() == expected


@kernel(jit.reads(1), jit.writes(1), jit.i64)
def _copy_first(source: Any, out: Any, count: int) -> None:
    lanes.store_first(out, 1, lanes.load_first(source, 0, count), count)


@pytest.mark.parametrize("count", range(LANES + 1))
def test_masked_tails_touch_nothing_beyond_them(count: int) -> None:
    source = np.arange(1, 1 + count, dtype=np.uint32)  # an array that ends where the mask does
    out = np.full(LANES + 2, 99, np.uint32)
    _copy_first(source, out, count)
    assert out.tolist() == [99, *range(1, 1 + count), *[99] * (LANES + 1 - count)]


@kernel(jit.reads(2), jit.writes(2), jit.writes(2), jit.i64, jit.i64)
def _copy_blocks(source: Any, out: Any, narrow: Any, start: int, stop: int) -> None:
    for row in range(start, stop, LANES):
        block = lanes.load_block(source, row, stop - 1, source.shape[1], 1)
        lanes.store_block(out, row, stop - 1, out.shape[1], 2, block)
        lanes.store_block(narrow, row, stop - 1, narrow.shape[1], 0, block[:3])


@pytest.mark.parametrize("rows", [1, 2, LANES - 1, LANES, LANES + 1, 3 * LANES - 2])
def test_blocks_are_transposed_there_and_back_for_any_number_of_rows(rows: int) -> None:
    source = np.arange(rows * 19, dtype=np.uint32).reshape(rows, 19)
    out, narrow = np.zeros((rows, 20), np.uint32), np.zeros((rows, 4), np.uint32)
    _copy_blocks(source, out, narrow, 0, rows)
    assert (out[:, 2:18] == source[:, 1:17]).all()
    assert not out[:, [0, 1, 18, 19]].any()
    assert (narrow[:, :3] == source[:, 1:4]).all()
    assert not narrow[:, 3].any()


@kernel(jit.reads(2), jit.writes(2), jit.i64)
def _overlay(source: Any, out: Any, count: int) -> None:
    below = lanes.load_block(out, 0, LANES - 1, lanes.BLOCK, 0)
    mixed = lanes.load_block_over(source, 0, LANES - 1, count, 0, count, below)
    lanes.store_block(out, 0, LANES - 1, lanes.BLOCK, 0, mixed)


@pytest.mark.parametrize("count", range(1, lanes.BLOCK + 1))
def test_a_short_block_keeps_what_lies_under_it(count: int) -> None:
    source = np.arange(LANES * count, dtype=np.uint32).reshape(LANES, count)
    out = np.full((LANES, lanes.BLOCK), 7777, np.uint32)
    _overlay(source, out, count)
    assert (out[:, :count] == source).all()
    assert (out[:, count:] == 7777).all()


@kernel(jit.writes(1), jit.u32)
def _count(out: Any, start: int) -> None:
    counted = lanes.counting(start)
    for i in range(LANES):
        out[i] = lanes.lane(counted, i)


def test_counting_and_reading_lanes() -> None:
    out = np.empty(LANES, np.uint32)
    _count(out, np.uint32(41))
    assert out.tolist() == list(range(41, 41 + LANES))
