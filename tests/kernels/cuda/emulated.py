"""A device that is this machine's CPU: the bodies of the CUDA kernels, compiled by Numba for the host.

It stands in for the device layer where there is no GPU, and runs at a speed at which whole proofs can be made.
The bodies are the ones that run on a GPU; what is not tested by it is the numba-cuda entry around them (the
simulator runs that) and races between threads (a block here is one thread).
"""

import os
import weakref
from functools import cache
from typing import Any

import numba
import numpy as np

from kernels.cuda import compiler
from kernels.cuda.device import CupyDevice, Device, HostArray, check_arguments
from kernels.cuda.errors import DeviceMemoryError
from kernels.cuda.target import Arg, Form, Kernel, Ops
from kernels.field import U32


def _inline(fn: Any) -> Any:
    return numba.njit(error_model="numpy")(fn)


def _sync() -> None:
    """One thread has nobody to wait for."""


_OPS = Ops(_inline, numba.njit(_sync))
_NUMBERS = {Arg.U32: np.uint32, Arg.I64: np.int64}


@cache
def _loop(kernel: Kernel) -> Any:
    """(size, arguments...): every item, or every block, one after the other."""
    body = numba.njit(error_model="numpy")(kernel.build(_OPS))
    shared_words, local_words = kernel.shared_words, kernel.local_words

    def run_blocks(blocks: int, *arguments: Any) -> None:
        shared = np.empty(shared_words, np.uint32)
        for block in range(blocks):
            body(block, 0, 1, shared, *arguments)

    def run_items(count: int, *arguments: Any) -> None:
        for i in range(count):
            body(i, *arguments)

    def run_items_with_local(count: int, *arguments: Any) -> None:
        local = np.empty(local_words, np.uint32)
        for i in range(count):
            body(i, local, *arguments)

    if kernel.form is Form.BLOCK:
        return numba.njit(run_blocks)
    return numba.njit(run_items_with_local if local_words else run_items)


class EmulatedDevice:
    """`limit_words` bounds the memory in use at once, as a card's size does; `launches` are the kernels run,
    `uploaded` and `downloaded` count words that crossed."""

    description = "this machine's CPU, emulating"

    def __init__(self, *, limit_words: int | None = None) -> None:
        self.limit_words = limit_words
        self.used_words = 0
        self.launches: list[str] = []
        self.uploaded = 0
        self.downloaded = 0

    def empty(self, words: int) -> HostArray:
        return self._held(np.full(words, 0xDEAD_BEEF, np.uint32))  # memory that nobody set must not matter

    def _held(self, buffer: HostArray) -> HostArray:
        """Counted until the last view of it is gone."""
        words = buffer.nbytes // 4
        if self.limit_words is not None and self.used_words + words > self.limit_words:
            raise DeviceMemoryError(f"{words} words of {self.limit_words} are not free; split the batch")
        self.used_words += words
        weakref.finalize(buffer, self._release, words)
        return buffer

    def _release(self, words: int) -> None:
        self.used_words -= words

    def zeros(self, words: int) -> HostArray:
        buffer = self.empty(words)
        buffer[:] = 0
        return buffer

    def upload(self, values: HostArray) -> HostArray:
        self.uploaded += values.size
        return self._held(np.array(values).reshape(-1).copy())

    def download(self, buffer: HostArray) -> U32:
        self.downloaded += buffer.size
        return buffer.copy()

    def launch(self, kernel: Kernel, size: int, *arguments: Any) -> None:
        check_arguments(kernel, size, arguments)
        self.launches.append(kernel.name)
        packed = [
            _NUMBERS[kind](argument) if kind in _NUMBERS else argument
            for kind, argument in zip(kernel.arguments, arguments, strict=True)
        ]
        _loop(kernel)(size, *packed)


def device_under_test() -> Device:
    """A real GPU where AGENC_TEST_GPU is set (the same tests then run on it), else an emulated device."""
    return CupyDevice() if os.environ.get("AGENC_TEST_GPU") else EmulatedDevice()


assert compiler.MODULES  # importing the compiler registers every kernel
