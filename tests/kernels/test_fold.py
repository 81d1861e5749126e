"""A fold of evaluations is the evaluation of the folded polynomial."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import field
from kernels.field import EXT_ZERO, Ext, P
from kernels.fold import bit_reversed_powers, fold
from kernels.threads import Pool

POOL = Pool(2)

elements = st.integers(0, P - 1)
extension_elements = st.tuples(elements, elements, elements, elements)


def horner(coefficients: list[Ext], x: Ext) -> Ext:
    value = EXT_ZERO
    for coefficient in reversed(coefficients):
        value = field.ext_add(field.ext_mul(value, x), coefficient)
    return value


def bit_reversed(index: int, bits: int) -> int:
    return int(format(index, f"0{bits}b")[::-1], 2) if bits else 0


def evaluations(coefficients: list[Ext], log_size: int) -> np.ndarray:
    """On the subgroup, bit-reversed, Montgomery form."""
    root = field.two_adic_generator(log_size)
    points = [field.power(root, bit_reversed(i, log_size)) for i in range(1 << log_size)]
    return field.to_monty([horner(coefficients, field.ext_from_base(x)) for x in points])


@pytest.mark.parametrize("log_arity", [1, 2, 3])
@given(data=st.data(), beta=extension_elements)
@settings(max_examples=10, deadline=None)
def test_a_fold_combines_the_residue_classes_of_coefficients(
    log_arity: int, data: st.DataObject, beta: Ext
) -> None:
    log_size = data.draw(st.integers(log_arity, 5))
    size, arity = 1 << log_size, 1 << log_arity
    coefficients = data.draw(st.lists(extension_elements, min_size=size, max_size=size))
    # f(X) = sum_t X^t f_t(X^arity) becomes sum_t beta^t f_t(X).
    folded = [horner(coefficients[start : start + arity], beta) for start in range(0, size, arity)]
    out = fold(POOL, evaluations(coefficients, log_size), beta=beta, log_arity=log_arity)
    assert (out == evaluations(folded, log_size - log_arity)).all()


def test_the_result_does_not_depend_on_the_threads() -> None:
    values = field.to_monty(np.random.default_rng(5).integers(0, P, (1 << 13, 4)))
    beta = (3, 1, 4, 1)
    alone = fold(Pool(1), values, beta=beta, log_arity=3)
    assert (alone == fold(POOL, values, beta=beta, log_arity=3)).all()


def test_one_fold_of_arity_eight_is_three_of_arity_two() -> None:
    values = field.to_monty(np.random.default_rng(6).integers(0, P, (64, 4)))
    beta = (7, 0, 0, 9)
    steps, challenge = values, beta
    for _ in range(3):
        steps = fold(POOL, steps, beta=challenge, log_arity=1)
        challenge = field.ext_mul(challenge, challenge)
    assert (steps == fold(POOL, values, beta=beta, log_arity=3)).all()


def test_the_input_is_left_as_it_was() -> None:
    values = field.to_monty(np.random.default_rng(7).integers(0, P, (16, 4)))
    before = values.copy()
    fold(POOL, values, beta=(1, 2, 3, 4), log_arity=2)
    assert (values == before).all()


def test_shapes_are_checked() -> None:
    with pytest.raises(AssertionError):
        fold(POOL, np.zeros((6, 4), dtype=np.uint32), beta=(1, 2, 3, 4), log_arity=1)
    with pytest.raises(AssertionError):
        fold(POOL, np.zeros((4, 4), dtype=np.uint32), beta=(1, 2, 3, 4), log_arity=3)


@given(base=st.integers(1, P - 1), log_count=st.integers(0, 7))
def test_bit_reversed_powers(base: int, log_count: int) -> None:
    powers = field.from_monty(bit_reversed_powers(base, log_count)).tolist()
    assert powers == [pow(base, bit_reversed(i, log_count), P) for i in range(1 << log_count)]
