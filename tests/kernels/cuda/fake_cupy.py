"""As much of CuPy as `CupyDevice` touches, over NumPy, and a card of a given size. Names as in CuPy 14."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

Launch = tuple[str, tuple[int, ...], tuple[int, ...], tuple[Any, ...]]


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`."""


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class CUDADriverError(RuntimeError):
    """`cupy.cuda.driver.CUDADriverError`."""


class FakeCupy:
    """`cached_bytes` are held by the pool until `free_all_blocks`; `limit_bytes` is the card."""

    def __init__(self, *, devices: int = 1, capability: str = "90", limit_bytes: int = 1 << 30) -> None:
        self.launches: list[Launch] = []
        self.loaded: list[bytes] = []
        self.cached_bytes = 0
        self.limit_bytes = limit_bytes
        self.current: list[int] = []
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                getDeviceCount=self._counting(devices),
                getDeviceProperties=lambda number: {"name": b"Fake GPU"},
            ),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            function=SimpleNamespace(Module=lambda: _Module(self)),
            Device=lambda number: _Device(self, number, capability),
        )

    @staticmethod
    def _counting(devices: int) -> Callable[[], int]:
        def count() -> int:
            if devices < 0:
                raise CUDARuntimeError("cudaErrorInsufficientDriver")
            return devices

        return count

    def get_default_memory_pool(self) -> Any:
        def free_all_blocks() -> None:
            self.cached_bytes = 0

        return SimpleNamespace(free_all_blocks=free_all_blocks)

    def empty(self, words: int, dtype: Any) -> Any:
        assert self.current, "an allocation outside the device's context"
        if 4 * words + self.cached_bytes > self.limit_bytes:
            raise OutOfMemoryError(f"{4 * words} bytes")
        return np.empty(words, dtype)

    def zeros(self, words: int, dtype: Any) -> Any:
        buffer = self.empty(words, dtype)
        buffer[:] = 0
        return buffer

    def asarray(self, values: Any) -> Any:
        buffer = self.empty(values.size, values.dtype)
        buffer[:] = values
        return buffer

    def asnumpy(self, buffer: Any) -> Any:
        return buffer.copy()


class _Device:
    def __init__(self, cupy: FakeCupy, number: int, capability: str) -> None:
        self._cupy, self._number = cupy, number
        self.compute_capability = capability

    def __enter__(self) -> None:
        self._cupy.current.append(self._number)

    def __exit__(self, *exception: object) -> None:
        self._cupy.current.pop()


class _Module:
    def __init__(self, cupy: FakeCupy) -> None:
        self._cupy = cupy

    def load(self, code: bytes) -> None:
        if b".version 99" in code:
            raise CUDADriverError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
        self._cupy.loaded.append(code)

    def get_function(self, name: str) -> Callable[..., None]:
        def run(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            self._cupy.launches.append((name, grid, block, args))

        return run


@contextmanager
def installed(cupy: FakeCupy) -> Iterator[FakeCupy]:
    """`import cupy` gives the fake one."""
    import sys

    real = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy  # type: ignore[assignment]  # an object with a module's names
    try:
        yield cupy
    finally:
        if real is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = real
