"""Memory that is used again: never while anything can still see it, never without bound."""

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from kernels import buffers

LARGE = (buffers.SMALLEST_BYTES // 64, 16)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    gc.collect()
    buffers._kept.clear()
    yield
    buffers._kept.clear()


def address(array: "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]") -> int:
    return int(array.__array_interface__["data"][0])


def test_the_memory_of_a_dead_array_is_used_again_and_that_of_a_living_one_is_not() -> None:
    first = buffers.empty(LARGE)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == (LARGE, np.uint32, True)
    assert first.flags.writeable
    first[:] = 7
    place = address(first)
    second = buffers.empty(LARGE)
    assert address(second) != place
    second[:] = 9
    assert (first == 7).all()
    del first
    assert address(buffers.empty(LARGE)) == place


@pytest.mark.parametrize(
    "view", [lambda a: a[3:5], lambda a: a.reshape(-1), lambda a: a.T, lambda a: a.view()]
)
def test_a_view_keeps_the_memory(view) -> None:  # type: ignore[no-untyped-def]  # any view of an array
    whole = buffers.empty(LARGE)
    whole[:] = 5
    seen = view(whole)
    del whole
    other = buffers.empty(LARGE)
    other[:] = 6
    assert (seen == 5).all()


def test_small_arrays_are_numpys_own() -> None:
    small = buffers.empty((16, 16))
    del small
    assert not buffers._kept


def test_a_much_smaller_array_does_not_take_large_memory() -> None:
    large = buffers.empty((4 * LARGE[0], LARGE[1]))
    place = address(large)
    del large
    assert address(buffers.empty(LARGE)) != place
    assert len(buffers._kept) == 2


def test_no_more_is_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "KEPT_BYTES", 3 * buffers.SMALLEST_BYTES)
    arrays = [buffers.empty(LARGE) for _ in range(6)]
    last = [address(array) for array in arrays[3:]]
    while arrays:
        arrays.pop(0)
    assert sum(map(len, buffers._kept)) == 3 * buffers.SMALLEST_BYTES
    again = [buffers.empty(LARGE) for _ in range(3)]
    assert sorted(map(address, again)) == sorted(last)


def test_threads_never_share_memory() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            mine = buffers.empty(LARGE)
            mine[::512, 0] = number
            if (mine[::512, 0] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
