"""The field's Python definition against Plonky3's known answers and the laws of a field."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import field
from kernels.field import P

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "poseidon2_air_w24_h10.json").read_text())

elements = st.one_of(st.sampled_from([0, 1, 2, P - 1, P - 2, 1 << 24]), st.integers(0, P - 1))
extensions = st.tuples(elements, elements, elements, elements)


def test_constants_are_those_of_the_protocol() -> None:
    assert VECTORS["p"] == P
    assert VECTORS["generator"] == field.GENERATOR
    assert VECTORS["two_adicity"] == field.TWO_ADICITY
    generators = [field.two_adic_generator(bits) for bits in range(field.TWO_ADICITY + 1)]
    assert generators == VECTORS["two_adic_generators"]
    assert field.MONTY_P_INV * P % 2**32 == 1


def test_extension_known_answers() -> None:
    x, y = field.ext_of(VECTORS["ext"]["x"]), field.ext_of(VECTORS["ext"]["y"])
    assert list(field.ext_mul(x, y)) == VECTORS["ext"]["mul"]
    assert list(field.ext_inverse(x)) == VECTORS["ext"]["inv_x"]


@pytest.mark.parametrize("bits", [-1, 25])
def test_there_is_no_root_beyond_the_two_adicity(bits: int) -> None:
    with pytest.raises(ValueError, match="no subgroup"):
        field.two_adic_generator(bits)


def test_zero_has_no_inverse() -> None:
    with pytest.raises(ZeroDivisionError):
        field.inverse(P)
    with pytest.raises(ZeroDivisionError):
        field.ext_inverse(field.EXT_ZERO)


@given(elements, elements, elements)
def test_base_field_laws(a: int, b: int, c: int) -> None:
    assert field.mul(a, field.add(b, c)) == field.add(field.mul(a, b), field.mul(a, c))
    assert field.sub(a, b) == field.add(a, field.neg(b))
    if a:
        assert field.mul(a, field.inverse(a)) == 1
        assert field.power(a, -3) == field.inverse(field.mul(a, field.mul(a, a)))


@given(extensions, extensions, extensions)
def test_extension_field_laws(x: field.Ext, y: field.Ext, z: field.Ext) -> None:
    assert field.ext_mul(x, field.ext_mul(y, z)) == field.ext_mul(field.ext_mul(x, y), z)
    assert field.ext_mul(x, y) == field.ext_mul(y, x)
    distributed = field.ext_add(field.ext_mul(x, y), field.ext_mul(x, z))
    assert field.ext_mul(x, field.ext_add(y, z)) == distributed
    assert field.ext_add(field.ext_sub(x, y), y) == x
    assert field.ext_add(x, field.ext_neg(x)) == field.EXT_ZERO


@given(extensions.filter(any), st.integers(-20, 20), st.integers(-20, 20))
def test_extension_powers_add_their_exponents(x: field.Ext, m: int, n: int) -> None:
    assert field.ext_mul(x, field.ext_inverse(x)) == field.EXT_ONE
    product = field.ext_mul(field.ext_power(x, m), field.ext_power(x, n))
    assert field.ext_power(x, m + n) == product


@given(elements, extensions)
def test_the_base_field_is_embedded(a: int, x: field.Ext) -> None:
    assert field.ext_mul(field.ext_from_base(a), x) == field.ext_scale(a, x)


def test_x_to_the_fourth_is_three() -> None:
    assert field.ext_power((0, 1, 0, 0), 4) == field.ext_from_base(field.EXT_W)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_montgomery_form_of_any_signed_integers_round_trips(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    in_monty = field.to_monty(array)
    assert in_monty.dtype == np.uint32
    assert in_monty.tolist() == [field.monty(v % P) for v in values]
    assert field.from_monty(in_monty).tolist() == [v % P for v in values]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32, np.uint64])
def test_montgomery_form_of_every_integer_type(dtype: type[np.integer]) -> None:
    extremes = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype=dtype)
    back = field.from_monty(field.to_monty(extremes))
    assert back.tolist() == [[int(x) % P for x in extremes[0]]]


def test_montgomery_form_refuses_fractions() -> None:
    with pytest.raises(TypeError, match="integers"):
        field.to_monty([0.5])
