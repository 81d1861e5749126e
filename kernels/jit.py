"""How this package compiles: typed decorators over Numba, and the register of all kernels.

A kernel has one explicit signature and is compiled (or read from the cache) at its first call or by
`kernels.build.compile_all`, never at import. Arrays a kernel only reads are declared read-only, which
accepts writable arrays too; everything else about an array must match exactly, so that no surprising
argument starts a compilation in the middle of a proof.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.extending import intrinsic as _intrinsic

Fn = TypeVar("Fn", bound=Callable[..., Any])

# Numba is half typed: what this module hands out is Any to its users.
u8 = types.uint8
u32 = types.uint32
u64 = types.uint64
i64 = types.int64


def reads(ndim: int, *, dtype: Any = u32, layout: str = "C") -> Any:
    """The type of an array that a kernel only reads."""
    make: Any = types.Array
    return make(dtype, ndim, layout, readonly=True)


def writes(ndim: int, *, dtype: Any = u32, layout: str = "C") -> Any:
    """The type of an array that a kernel may write."""
    make: Any = types.Array
    return make(dtype, ndim, layout)


class Kernel:
    """A compiled function of one signature, released from the interpreter lock while it runs."""

    def __init__(self, fn: Callable[..., Any], signature: Any) -> None:
        self.name = f"{fn.__module__}.{fn.__qualname__}"
        self._signature = signature
        self._dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(fn)
        self._ready = False
        self._lock = threading.Lock()

    def compile(self) -> None:
        """Compile or load from the cache; once per process."""
        with self._lock:
            if not self._ready:
                self._dispatcher.compile(self._signature)
                self._dispatcher.disable_compile()
                self._ready = True

    def __call__(self, *args: Any) -> Any:
        if not self._ready:
            self.compile()
        return self._dispatcher(*args)


REGISTRY: list[Kernel] = []


def kernel(*args: Any, returns: Any = types.void) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a module-level function as a kernel of those types, known to `compile_all`."""

    def decorate(fn: Callable[..., Any]) -> Kernel:
        made = Kernel(fn, returns(*args))
        REGISTRY.append(made)
        return made

    return decorate


def inline(fn: Fn) -> Fn:
    """A helper of kernels that LLVM must inline: a call costs more than a field operation."""
    decorate: Any = numba.njit(forceinline=True, error_model="numpy")
    decorated: Fn = decorate(fn)
    return decorated


def intrinsic(fn: Callable[..., Any]) -> Any:
    """A helper of kernels that emits LLVM IR itself (`numba.extending.intrinsic`).

    Kernels call it without the first parameter, the typing context: hence no type here.
    """
    return _intrinsic(fn)
