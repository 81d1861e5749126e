"""Host batches that the device's memory does not hold are split, and come out the same; none is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.backend import Backend, select
from kernels.cuda import batches
from kernels.cuda.backend import CudaBackend
from kernels.cuda.batches import in_parts
from kernels.cuda.errors import DeviceMemoryError
from kernels.field import U32, P, to_monty
from tests.kernels.cuda.emulated import EmulatedDevice

pytestmark = pytest.mark.xdist_group("cuda")

CPU = select("cpu", 1)


def random(*shape: int) -> U32:
    return to_monty(np.random.default_rng(5).integers(0, P, shape))


def hash_tagged(backend: Backend) -> U32:
    lengths = np.arange(300) % 11
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return backend.hash_tagged(random(int(offsets[-1])), offsets, np.arange(300, dtype=np.uint32))


CALLS: dict[str, Callable[[Backend], U32]] = {
    "permute": lambda backend: backend.permute(random(300, 16)),
    "compress": lambda backend: backend.compress_pairs(random(300, 8), random(300, 8)),
    "hash_tagged": hash_tagged,
    "permutation_trace": lambda backend: backend.permutation_trace(
        random(70, 16), out=np.zeros((70, 170), np.uint32)
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("parts", [1, 4, 10**6])
def test_a_batch_too_large_for_the_device_is_split_and_the_rest_done_on_the_host(
    name: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "HOST_ROWS", 10)
    needed = 13_000  # words, of the largest of these calls
    device = EmulatedDevice(limit_words=needed // parts)
    expected = CALLS[name](CPU)
    np.testing.assert_array_equal(CALLS[name](CudaBackend(device, threads=1)), expected)
    assert (len(device.launches) == 0) == (parts == 10**6), "nothing fits: the host does it"
    assert device.used_words == 0, "what was taken is given back"


@given(count=st.integers(0, 500), fits=st.integers(0, 500), smallest=st.integers(0, 50))
def test_every_item_is_computed_once_and_in_order(count: int, fits: int, smallest: int) -> None:
    def on_device(start: int, stop: int) -> U32:
        if stop - start > fits:
            raise DeviceMemoryError("split")
        return np.arange(start, stop, dtype=np.uint32)

    def on_host(start: int, stop: int) -> U32:
        assert stop - start <= max(1, smallest), "only small parts are left to the host"
        return np.arange(start, stop, dtype=np.uint32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "HOST_ROWS", smallest)
        assert in_parts(count, on_device, on_host).tolist() == list(range(count))
