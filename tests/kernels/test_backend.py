"""Choosing a backend, and what every kernel promises about types and memory."""

import numpy as np
import pytest

from kernels import backend as backends
from kernels import jit
from kernels.threads import available_threads


def test_a_backend_is_chosen_by_name_and_says_why() -> None:
    chosen = backends.choose("cpu", 2)
    assert (chosen.backend.name, chosen.backend.threads) == ("cpu", 2)
    assert "by name" in chosen.reason
    assert backends.choose("auto").backend.threads == available_threads()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="quantum"):
        backends.select("quantum")


@jit.kernel(jit.reads(1), jit.writes(1))
def _copy(source: np.ndarray, out: np.ndarray) -> None:
    for i in range(source.size):
        out[i] = source[i]


jit.REGISTRY.remove(_copy)


def test_a_kernel_never_compiles_for_other_types_than_it_declares() -> None:
    out = np.empty(3, np.uint32)
    _copy(np.array([1, 2, 3], np.uint32), out)
    assert out.tolist() == [1, 2, 3]
    with pytest.raises(TypeError):
        _copy(np.array([1, 2, 3], np.float64), out)


def test_every_kernel_has_a_name_of_its_own() -> None:
    names = [kernel.name for kernel in jit.REGISTRY]
    assert len(set(names)) == len(names) > 8
