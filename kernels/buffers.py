"""Large arrays whose memory is used again.

A fresh large array costs the system a zeroed page for each one that is touched first: a tenth of a whole
proof. So the memory of a large array goes back to this process when its last view is gone, and the next array
of about its size takes it over as it is. New memory is asked for in huge pages. At most `KEPT_BYTES` lie
unused.
"""

import mmap
from collections import deque
from typing import Any

import numpy as np

from kernels.field import U32

SMALLEST_BYTES = 4 << 20
"""Below this the allocator's own memory serves."""
KEPT_BYTES = 1 << 30
_HUGE_PAGE_BYTES = 2 << 20

# Appending and removing are atomic: a holder may die in any thread, in the middle of anything.
_kept: deque[mmap.mmap] = deque()


class _Holder:
    """The owner that numpy keeps for an array and all its views."""

    def __init__(self, memory: mmap.mmap, shape: tuple[int, ...]) -> None:
        self._memory = memory
        view: Any = np.frombuffer(memory, dtype=np.uint32, count=int(np.prod(shape)))
        self.__array_interface__ = view.reshape(shape).__array_interface__

    def __del__(self) -> None:
        _kept.append(self._memory)
        while sum(map(len, tuple(_kept))) > KEPT_BYTES:
            try:
                _kept.popleft()  # the longest unused; its memory goes back to the system
            except IndexError:
                return


def empty(shape: tuple[int, ...]) -> U32:
    """As `np.empty(shape, np.uint32)`: the contents are arbitrary."""
    size_bytes = 4 * int(np.prod(shape))
    if size_bytes < SMALLEST_BYTES:
        return np.empty(shape, np.uint32)
    return np.asarray(_Holder(_taken(size_bytes) or _fresh(size_bytes), shape))


def extensible(rows: int, width: int, log_blowup: int) -> tuple[U32, U32]:
    """A matrix U32[rows, width], arbitrary, and the memory U32[rows << log_blowup, width] whose last rows it is:
    room for its low-degree extension, which `coset_lde` may write over it."""
    memory = empty((rows << log_blowup, width))
    return memory[-rows:], memory


def _taken(size_bytes: int) -> mmap.mmap | None:
    """The smallest kept memory that is large enough and not twice as large, or None."""
    for memory in sorted(_kept, key=len):
        if size_bytes <= len(memory) < 2 * size_bytes:
            try:
                _kept.remove(memory)
            except ValueError:
                continue  # another thread was faster
            return memory
    return None


def _fresh(size_bytes: int) -> mmap.mmap:
    pages = -(-size_bytes // _HUGE_PAGE_BYTES)
    memory = mmap.mmap(-1, pages * _HUGE_PAGE_BYTES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
