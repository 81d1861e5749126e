"""Into Montgomery form: as the definition does it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.conversion import to_montgomery
from kernels.field import P, to_monty


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, P - 1) | st.sampled_from([0, 1, P - 1]), max_size=70))
def test_every_element_is_that_of_the_definition(values: list[int]) -> None:
    given_elements = np.array(values, dtype=np.uint32)
    assert (to_montgomery(given_elements) == to_monty(given_elements)).all()
    assert given_elements.tolist() == values, "the input is left as it is"
