"""What stands around a body on a GPU: the thread finds its place in the grid. Imported only to compile.

`cuda` is a name of this module because the simulator looks there for what to replace.
"""

from collections.abc import Callable
from typing import Any

import numba.cuda
from numba import types

from kernels.cuda.target import Arg, Body, Form, Kernel, Ops

cuda: Any = numba.cuda
_types: Any = types
i64: Any = types.int64
u32: Any = types.uint32

_KINDS = {
    Arg.U32S: _types.CPointer(u32),
    Arg.I32S: _types.CPointer(_types.int32),
    Arg.I64S: _types.CPointer(i64),
    Arg.U32: u32,
    Arg.I64: i64,
}


def _sync() -> None:
    cuda.syncthreads()


sync = cuda.jit(device=True)(_sync)


def make_ops() -> Ops:
    """Helpers compiled by numba-cuda."""

    def inline(fn: Body) -> Any:
        return cuda.jit(device=True, forceinline=True)(fn)

    return Ops(inline, sync)


def entry_function(kernel: Kernel, ops: Ops) -> Callable[..., None]:
    """The function that `numba.cuda` compiles; a map kernel's takes the number of items first."""
    body = ops.inline(kernel.build(ops))
    shared_words, local_words = kernel.shared_words, kernel.local_words

    def block_entry(*arguments: Any) -> None:
        shared = cuda.shared.array(shared_words, u32)
        body(i64(cuda.blockIdx.x), i64(cuda.threadIdx.x), i64(cuda.blockDim.x), shared, *arguments)

    def map_entry(count: Any, *arguments: Any) -> None:
        i = i64(i64(cuda.blockIdx.x) * i64(cuda.blockDim.x)) + i64(cuda.threadIdx.x)
        if i < count:
            body(i, *arguments)

    def local_entry(count: Any, *arguments: Any) -> None:
        local = cuda.local.array(local_words, u32)
        i = i64(i64(cuda.blockIdx.x) * i64(cuda.blockDim.x)) + i64(cuda.threadIdx.x)
        if i < count:
            body(i, local, *arguments)

    if kernel.form is Form.BLOCK:
        return block_entry
    return local_entry if local_words else map_entry


def compile_ptx(kernel: Kernel, capability: tuple[int, int], ops: Ops) -> str:
    arguments = _types.Tuple([_KINDS[argument] for argument in kernel.arguments])
    signature = (arguments,) if kernel.form is Form.BLOCK else (i64, arguments)
    entry = entry_function(kernel, ops)
    ptx, _ = cuda.compile(entry, signature, device=False, abi="numba", cc=capability, output="ptx")
    return str(ptx)
