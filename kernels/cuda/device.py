"""The device layer: memory, transfers and launches, as little of them as the backend needs.

`CupyDevice` is the real one. Buffers are flat arrays of `uint32` (or of indices) that can be sliced; whoever
holds one keeps its memory, and CuPy's pool takes it back when nobody does. All work is on one stream, in
order: only `download` waits.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.cuda.compiler import Capability, CodeStore, name_of
from kernels.cuda.errors import DeviceMemoryError, NoDevice, NoKernelCode
from kernels.cuda.target import Arg, Form, Kernel
from kernels.field import U32

Buffer: TypeAlias = Any
"""A flat array on the device; slicing gives a view."""

HostArray: TypeAlias = npt.NDArray[Any]


class Device(Protocol):
    """Where kernels run."""

    @property
    def description(self) -> str:
        """In words, for the log."""

    def empty(self, words: int) -> Buffer:
        """A U32 buffer, not set. Raises DeviceMemoryError."""

    def zeros(self, words: int) -> Buffer:
        """A U32 buffer of zeros. Raises DeviceMemoryError."""

    def upload(self, values: HostArray) -> Buffer:
        """A copy of a contiguous array, flat, its dtype kept. Raises DeviceMemoryError."""

    def download(self, buffer: Buffer) -> U32:
        """A copy on the host; waits for all work before it."""

    def launch(self, kernel: Kernel, size: int, *arguments: Any) -> None:
        """Run a kernel: `size` is the number of items of a map kernel, of blocks of a block kernel."""


def check_arguments(kernel: Kernel, size: int, arguments: Sequence[Any]) -> None:
    """What every device asserts of a launch: the number of arguments, buffers where pointers are expected."""
    assert len(arguments) == len(kernel.arguments), (kernel.name, len(arguments))
    assert size > 0, (kernel.name, size)
    pointers = {Arg.U32S: np.uint32, Arg.I32S: np.int32, Arg.I64S: np.int64}
    for number, (kind, argument) in enumerate(zip(kernel.arguments, arguments, strict=True)):
        if kind in pointers:
            assert argument.ndim == 1, (kernel.name, number)
            assert argument.dtype == pointers[kind], (kernel.name, number, argument.dtype)
        else:
            assert isinstance(argument, int | np.integer), (kernel.name, number, type(argument))


def compile_ahead() -> str | None:
    """Compile every kernel for the first GPU, where it is not there yet; the GPU in words, or None if there is none.

    Raises:
        NoKernelCode: there is a GPU, but neither code for it nor a compiler.
    """
    try:
        device = CupyDevice()
    except NoDevice:
        return None
    CodeStore().fill(device.capability)
    return device.description


class CupyDevice:
    """A CUDA GPU through CuPy: its memory pool, its driver calls, no CUDA C++."""

    def __init__(self, number: int = 0, store: CodeStore | None = None) -> None:
        """
        Raises:
            NoDevice: CuPy is not installed, or finds no such GPU.
        """
        try:
            import cupy
        except ImportError as error:
            raise NoDevice(f"CuPy is not installed ({error}): install the extra `cuda`") from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise NoDevice(f"no CUDA device: {error}") from error
        if number >= count:
            raise NoDevice(f"CUDA device {number} was asked for; there are {count}")
        self._cupy = cupy
        self._device = cupy.cuda.Device(number)
        self._store = store if store is not None else CodeStore()
        with self._device:
            major, minor = (
                int(self._device.compute_capability[:-1]),
                int(self._device.compute_capability[-1]),
            )
            name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
        self.capability: Capability = (major, minor)
        self.description = f"{name} (sm_{name_of(self.capability)})"
        self._functions: dict[str, Any] = {}

    def empty(self, words: int) -> Buffer:
        return self._allocating(lambda: self._cupy.empty(words, dtype=np.uint32))

    def zeros(self, words: int) -> Buffer:
        return self._allocating(lambda: self._cupy.zeros(words, dtype=np.uint32))

    def upload(self, values: HostArray) -> Buffer:
        flat = np.ascontiguousarray(values).reshape(-1)
        return self._allocating(lambda: self._cupy.asarray(flat))

    def download(self, buffer: Buffer) -> U32:
        with self._device:
            host: U32 = self._cupy.asnumpy(buffer)
        return host

    def launch(self, kernel: Kernel, size: int, *arguments: Any) -> None:
        check_arguments(kernel, size, arguments)
        scalars = {Arg.U32: np.uint32, Arg.I64: np.int64}
        packed = [
            scalars[kind](argument) if kind in scalars else argument
            for kind, argument in zip(kernel.arguments, arguments, strict=True)
        ]
        blocks = size
        if kernel.form is Form.MAP:
            packed.insert(0, np.int64(size))
            blocks = -(-size // kernel.threads)
        with self._device:
            self._function(kernel)((blocks,), (kernel.threads,), tuple(packed))

    def _function(self, kernel: Kernel) -> Any:
        if kernel.name not in self._functions:
            code = self._store.get(kernel, self.capability)
            module = self._cupy.cuda.function.Module()
            try:
                module.load(code.ptx.encode())
            except self._cupy.cuda.driver.CUDADriverError as error:
                raise NoKernelCode(f"the driver refuses {kernel.name}: {error}; is it too old?") from error
            self._functions[kernel.name] = module.get_function(code.entry)
        return self._functions[kernel.name]

    def _allocating(self, make: Any) -> Buffer:
        """A buffer; where memory is short, once more after the pool gave back what it keeps for later."""
        out_of_memory = self._cupy.cuda.memory.OutOfMemoryError
        with self._device:
            try:
                return make()
            except out_of_memory:
                self._cupy.get_default_memory_pool().free_all_blocks()
            try:
                return make()
            except out_of_memory as error:
                raise DeviceMemoryError(f"{self.description}: {error}; split the batch") from error
