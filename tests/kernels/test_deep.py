"""Openings equal the polynomials' values, and the reduced vector is the textbook sum of quotients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import deep, field
from kernels.field import EXT_ONE, EXT_ZERO, GENERATOR, U32, Ext, P
from kernels.lde import coset_lde
from kernels.threads import Pool

POOL = Pool(2)

elements = st.integers(0, P - 1)
outside_the_base_field = st.tuples(elements, elements, elements, st.integers(1, P - 1))
seeds = st.integers(0, 2**32)


def random_matrix(seed: int, *shape: int) -> U32:
    return field.to_monty(np.random.default_rng(seed).integers(0, P, shape))


def ext_list(values: U32) -> list[Ext]:
    return [field.ext_of(value) for value in field.from_monty(values).tolist()]


def value_at(coefficients: list[int], x: Ext) -> Ext:
    total = EXT_ZERO
    for coefficient in reversed(coefficients):
        total = field.ext_add(field.ext_mul(total, x), field.ext_from_base(coefficient))
    return total


def values_on_coset(coefficients: list[list[int]], shift: int, log_rows: int) -> U32:
    """Columns of coefficients evaluated on shift * H, natural order: U32[n, w]."""
    points = [shift * field.power(field.two_adic_generator(log_rows), i) % P for i in range(1 << log_rows)]
    columns = [[value_at(column, field.ext_from_base(x))[0] for column in coefficients] for x in points]
    return field.to_monty(columns)


@given(
    point=outside_the_base_field,
    shift=st.integers(1, P - 1),
    log_rows=st.integers(1, 5),
    width=st.integers(1, 35),
    seed=seeds,
)
@settings(max_examples=25, deadline=None)
def test_opened_values_are_the_polynomials_values(
    point: Ext, shift: int, log_rows: int, width: int, seed: int
) -> None:
    coefficients = np.random.default_rng(seed).integers(0, P, (width, 1 << log_rows)).tolist()
    values = values_on_coset(coefficients, shift, log_rows)
    local, following = deep.open_columns(POOL, values, point=point, shift=shift, with_next=True)
    next_point = field.ext_scale(field.two_adic_generator(log_rows), point)
    assert ext_list(local) == [value_at(column, point) for column in coefficients]
    assert ext_list(following) == [value_at(column, next_point) for column in coefficients]
    alone = deep.open_columns(POOL, values, point=point, shift=shift)
    assert alone.shape == (1, width, 4)
    assert (alone[0] == local).all()


@pytest.mark.parametrize(("log_rows", "log_blowup", "width"), [(1, 1, 3), (5, 1, 20), (6, 2, 9)])
def test_an_extension_opens_and_combines_as_what_it_extends(
    log_rows: int, log_blowup: int, width: int
) -> None:
    values, point = random_matrix(log_rows, 1 << log_rows, width), (9, 8, 7, 6)
    extended = coset_lde(POOL, values, log_blowup=log_blowup)
    opened = deep.open_extended(POOL, extended, log_rows=log_rows, point=point, with_next=True)
    assert (opened == deep.open_columns(POOL, values, point=point, with_next=True)).all()
    alone = deep.open_extended(POOL, extended, log_rows=log_rows, point=point)
    assert (alone == opened[:1]).all()
    coefficients = random_matrix(4, width, 4)
    combined = deep.combine_extended(POOL, extended, log_rows=log_rows, coefficients=coefficients)
    assert (combined == deep.combine_columns(POOL, extended, coefficients=coefficients)).all()


@given(rows=st.integers(1, 40), width=st.integers(1, 50), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_combined_rows_are_dot_products(rows: int, width: int, seed: int) -> None:
    values, coefficients = random_matrix(seed, rows, width), random_matrix(seed + 1, width, 4)
    combined = deep.combine_columns(POOL, values, coefficients=coefficients)
    canonical, weights = field.from_monty(values).tolist(), ext_list(coefficients)
    for row, result in zip(canonical, ext_list(combined), strict=True):
        total = EXT_ZERO
        for cell, weight in zip(row, weights, strict=True):
            total = field.ext_add(total, field.ext_scale(cell, weight))
        assert result == total


def test_the_largest_elements_do_not_overflow_an_accumulator() -> None:
    top = np.full((32, 200), P - 1, dtype=np.uint32)
    combined = deep.combine_columns(POOL, top, coefficients=np.full((200, 4), P - 1, dtype=np.uint32))
    largest = field.from_monty(np.array([P - 1]))[0]
    assert (field.from_monty(combined) == 200 * int(largest) ** 2 % P).all()
    sums = deep._column_sums_of(POOL, top, top[:, :4].astype(np.uint64))
    assert (field.from_monty(sums) == 32 * int(largest) ** 2 % P).all()


@given(point=outside_the_base_field, count=st.integers(1, 70), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_inverse_differences(point: Ext, count: int, seed: int) -> None:
    xs = random_matrix(seed, count)
    inverses = deep.inverse_differences(POOL, xs, point=point)
    for x, inverse in zip(field.from_monty(xs).tolist(), ext_list(inverses), strict=True):
        assert field.ext_mul(field.ext_sub(point, field.ext_from_base(x)), inverse) == EXT_ONE


def test_inversion_goes_on_across_batches() -> None:
    xs = random_matrix(3, 3000)
    inverses = ext_list(deep.inverse_differences(POOL, xs, point=(1, 2, 3, 4)))
    for i in (0, 511, 512, 1023, 1024, 2999):
        difference = field.ext_sub((1, 2, 3, 4), field.ext_from_base(int(field.from_monty(xs[i : i + 1])[0])))
        assert field.ext_mul(difference, inverses[i]) == EXT_ONE


@given(
    points=st.lists(outside_the_base_field, min_size=1, max_size=3),
    log_size=st.integers(4, 6),
    seed=seeds,
)
@settings(max_examples=10, deadline=None)
def test_the_reduced_opening_is_the_weighted_sum_of_quotients(
    points: list[Ext], log_size: int, seed: int
) -> None:
    size = 1 << log_size
    rng = np.random.default_rng(seed)
    openings = [
        deep.Opening(
            combined=random_matrix(seed + k, size, 4),
            value=field.ext_of(rng.integers(0, P, 4).tolist()),
            point=points[k % len(points)],
            scale=field.ext_of(rng.integers(0, P, 4).tolist()),
        )
        for k in range(4)
    ]
    reduced = ext_list(deep.reduced_opening(POOL, openings))
    root = field.two_adic_generator(log_size)
    for i in range(size):
        x = GENERATOR * field.power(root, int(format(i, f"0{log_size}b")[::-1], 2)) % P
        total = EXT_ZERO
        for opening in openings:
            numerator = field.ext_sub(opening.value, ext_list(opening.combined)[i])
            denominator = field.ext_sub(opening.point, field.ext_from_base(x))
            quotient = field.ext_mul(numerator, field.ext_inverse(denominator))
            total = field.ext_add(total, field.ext_mul(opening.scale, quotient))
        assert reduced[i] == total


def test_a_true_opening_leaves_a_polynomial_of_low_degree() -> None:
    """(f(z) - f(x)) / (z - x) of degree n - 2 if the value is right, of full degree if not."""
    log_rows, rng = 4, np.random.default_rng(9)
    coefficients = [rng.integers(0, P, 16).tolist()]
    point: Ext = (5, 6, 7, 8)
    xs = field.from_monty(deep.bit_reversed_coset(GENERATOR, log_rows + 1)).tolist()
    combined = field.to_monty([value_at(coefficients[0], field.ext_from_base(x)) for x in xs])
    truth = value_at(coefficients[0], point)

    def top_coefficients(value: Ext) -> list[int]:
        opening = deep.Opening(combined=combined, value=value, point=point, scale=EXT_ONE)
        values = ext_list(deep.reduced_opening(POOL, [opening]))
        root = field.two_adic_generator(log_rows + 1)
        natural = [values[int(format(i, "05b")[::-1], 2)][0] for i in range(32)]
        return [sum(v * field.power(root, -i * k) for i, v in enumerate(natural)) % P for k in range(15, 32)]

    assert not any(top_coefficients(truth))
    assert all(top_coefficients(field.ext_add(truth, EXT_ONE)))


@pytest.mark.parametrize("width", [5, 16, 37])
def test_results_do_not_depend_on_the_threads(width: int) -> None:
    values, coefficients = random_matrix(1, 1 << 13, width), random_matrix(2, width, 4)
    one, two = Pool(1), Pool(2)
    point: Ext = (4, 3, 2, 1)
    assert (deep.open_columns(one, values, point=point) == deep.open_columns(two, values, point=point)).all()
    combined = deep.combine_columns(one, values, coefficients=coefficients)
    assert (combined == deep.combine_columns(two, values, coefficients=coefficients)).all()
    openings = [deep.Opening(combined=combined, value=point, point=point, scale=point)]
    assert (deep.reduced_opening(one, openings) == deep.reduced_opening(two, openings)).all()
