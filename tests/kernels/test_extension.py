"""Extension arithmetic inside kernels equals the definition on Python integers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import field
from kernels.extension import dot, powers, scale_all
from kernels.field import U32, Ext, P

elements = st.integers(0, P - 1)


def ext_list(values: U32) -> list[Ext]:
    return [field.ext_of(value) for value in field.from_monty(values).tolist()]


@given(
    x=st.tuples(elements, elements, elements, elements), y=st.tuples(elements, elements, elements, elements)
)
@settings(deadline=None)
def test_extension_kernels_agree_with_the_definition(x: Ext, y: Ext) -> None:
    pair = field.to_monty([x, y])
    assert ext_list(scale_all(pair, x)) == [field.ext_mul(x, x), field.ext_mul(y, x)]
    assert dot(pair, pair[::-1].copy()) == field.ext_scale(2, field.ext_mul(x, y))
    assert ext_list(powers(x, 4)) == [field.ext_power(x, k) for k in range(4)]
