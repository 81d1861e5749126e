"""The verifier's array arithmetic against the field's definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.field import (
    Ext,
    P,
    ext_add,
    ext_inverse,
    ext_mul,
    ext_power,
    ext_scale,
    ext_sub,
    inverse,
    two_adic_generator,
)
from workers.stark.vector import (
    bit_reversed_points,
    combine,
    ext_array,
    ext_difference,
    ext_inverses,
    ext_powers,
    ext_product,
    fold_groups,
)

EDGES = st.sampled_from([0, 1, 2, P - 1, P - 2, (P + 1) // 2])
ELEMENTS = st.one_of(EDGES, st.integers(0, P - 1))
EXTENSIONS = st.tuples(ELEMENTS, ELEMENTS, ELEMENTS, ELEMENTS)


def reversed_bits(value: int, bits: int) -> int:
    return int(format(value, f"0{bits}b")[::-1], 2) if bits else 0


@settings(deadline=None)
@given(EXTENSIONS, EXTENSIONS)
def test_products_and_differences_are_the_fields(x: Ext, y: Ext) -> None:
    assert tuple(ext_product(ext_array(x), ext_array(y)).tolist()) == ext_mul(x, y)
    assert tuple(ext_difference(ext_array(x), ext_array(y)).tolist()) == ext_sub(x, y)


@settings(deadline=None)
@given(st.lists(EXTENSIONS.filter(any), min_size=1, max_size=5))
def test_inverses_are_the_fields(values: list[Ext]) -> None:
    found = ext_inverses(np.array(values, dtype=np.uint64))
    assert [tuple(row) for row in found.tolist()] == [ext_inverse(value) for value in values]


@settings(deadline=None)
@given(EXTENSIONS, st.integers(1, 40))
def test_powers_start_at_one(base: Ext, count: int) -> None:
    assert [tuple(row) for row in ext_powers(base, count).tolist()] == [
        ext_power(base, exponent) for exponent in range(count)
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(ELEMENTS, EXTENSIONS), min_size=1, max_size=30))
def test_combining_is_a_sum_of_products(terms: list[tuple[int, Ext]]) -> None:
    rows = np.array([[base for base, _ in terms]], dtype=np.uint64)
    factors = np.array([factor for _, factor in terms], dtype=np.uint64)
    expected: Ext = (0, 0, 0, 0)
    for base, factor in terms:
        expected = ext_add(expected, ext_scale(base, factor))
    assert tuple(combine(rows, factors)[0].tolist()) == expected


def test_the_widest_sum_of_the_largest_terms_does_not_overflow() -> None:
    width = (1 << 16) - 1
    rows = np.full((1, width), P - 1, dtype=np.uint64)
    factors = np.full((width, 4), P - 1, dtype=np.uint64)
    assert combine(rows, factors).tolist() == [[width] * 4]


@settings(deadline=None)
@given(st.integers(1, 24), st.data())
def test_points_of_an_index_do_not_depend_on_the_domain(bits: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, (1 << bits) - 1))
    point = pow(two_adic_generator(bits), reversed_bits(index, bits), P)
    found = bit_reversed_points(np.array([index]), first_order=1)
    assert found.tolist() == [point]
    half = index >> 1
    lower = pow(two_adic_generator(bits), reversed_bits(half, bits - 1), P)
    assert bit_reversed_points(np.array([half]), first_order=2).tolist() == [lower]
    assert bit_reversed_points(np.array([half]), first_order=2, inverted=True).tolist() == [inverse(lower)]


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(0, 3), EXTENSIONS, st.integers(0, 2**32))
def test_folding_evaluates_the_folded_polynomial(arity: int, extra: int, beta: Ext, seed: int) -> None:
    """f(x) = Σ x^i f_i(x^a) folds to Σ β^i f_i: checked on a polynomial with known coefficients."""
    log_height = arity + extra + 1
    degree = 1 << (log_height - 1)
    rng = np.random.default_rng(seed)
    coefficients = [tuple(row) for row in rng.integers(0, P, size=(degree, 4)).tolist()]

    def at(polynomial: list[Ext], x: int) -> Ext:
        value: Ext = (0, 0, 0, 0)
        for coefficient in reversed(polynomial):
            value = ext_add(ext_scale(x, value), coefficient)
        return value

    size = 1 << arity
    folded = []
    for start in range(0, degree, size):
        value: Ext = (0, 0, 0, 0)
        for i, coefficient in enumerate(coefficients[start : start + size]):
            value = ext_add(value, ext_mul(ext_power(beta, i), coefficient))
        folded.append(value)

    generator = two_adic_generator(log_height)
    values = [
        at(coefficients, pow(generator, reversed_bits(i, log_height), P)) for i in range(1 << log_height)
    ]
    groups = np.arange(1 << (log_height - arity))
    found = fold_groups(np.array(values, dtype=np.uint64).reshape(-1, size, 4), groups, beta)
    points = [pow(generator, size * reversed_bits(j, log_height - arity), P) for j in groups.tolist()]
    assert [tuple(row) for row in found.tolist()] == [at(folded, x) for x in points]
