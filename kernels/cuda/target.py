"""A kernel is written once, as a *body* over the operations of a target; this is how it is declared.

A body is made by a function of an `Ops`, which holds the decorator that compiles a helper for the target
and the field arithmetic compiled by it. Two forms suffice:

* a *map* body `(i, *arguments)` works on one item: a row, an element, a pair;
* a *block* body `(block, thread, threads, shared, *arguments)` works with the other threads of its block on
  `shared`, a U32 array of `shared_words`. Every step is a loop `for k in range(thread, work, threads)` with
  `ops.sync()` after it: so one thread alone runs it as well, which is how it is tested on a CPU.

A map body that asks for `local_words` gets a U32 array of its own after `i`.

Numba's typing traps, for both: uint32 + uint32 is uint64, uint32 + literal is int64: results are cast by
`u32`, `u64`, `i64`; indices are int64, and arrays flat, with strides as arguments.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kernels.cuda.field import FieldCode, build_field
from kernels.permutation import FieldOps, Permutation, build_permutation
from kernels.words import WordOps, scalar_words

Body = Callable[..., Any]


class Arg(enum.Enum):
    """What an argument of a kernel is; arrays are flat and come as a pointer."""

    U32S = "uint32*"
    I32S = "int32*"
    I64S = "int64*"
    U32 = "uint32"
    I64 = "int64"


class Form(enum.Enum):
    MAP = "map"
    BLOCK = "block"


class Ops:
    """What bodies are made of, compiled for one target.

    `inline` compiles a helper; `sync` waits for all threads of the block.
    """

    def __init__(self, inline: Callable[[Body], Any], sync: Any) -> None:
        self.inline = inline
        self.sync = sync

    @cached_property
    def field(self) -> FieldCode:
        return build_field(self.inline)

    @cached_property
    def words(self) -> WordOps:
        return scalar_words(self.inline)

    @cached_property
    def permutation_16(self) -> Permutation:
        return build_permutation(16, self._permutation_ops)

    @cached_property
    def permutation_24(self) -> Permutation:
        return build_permutation(24, self._permutation_ops)

    @cached_property
    def _permutation_ops(self) -> FieldOps:
        code = self.field

        @self.inline
        def constant(table: Any, row: Any, column: Any) -> Any:
            return table[row, column]

        return FieldOps(
            add=code.add,
            sub=code.sub,
            sbox=code.shifted_cube,
            prepare=lambda constants: constants,
            divider=code.divider,
            constant=constant,
            inline=self.inline,
        )


@dataclass(frozen=True)
class Kernel:
    """A kernel for any target: `build(ops)` makes its body."""

    name: str
    form: Form
    arguments: tuple[Arg, ...]
    build: Callable[[Ops], Body]
    threads: int
    shared_words: int = 0
    local_words: int = 0


REGISTRY: dict[str, Kernel] = {}


def _register(kernel: Kernel) -> Kernel:
    assert kernel.name not in REGISTRY, kernel.name
    REGISTRY[kernel.name] = kernel
    return kernel


def map_kernel(
    name: str, arguments: Sequence[Arg], *, threads: int = 128, local_words: int = 0
) -> Callable[[Callable[[Ops], Body]], Kernel]:
    """Declare a map kernel; `threads` is the size of a block."""

    def declare(build: Callable[[Ops], Body]) -> Kernel:
        return _register(Kernel(name, Form.MAP, tuple(arguments), build, threads, 0, local_words))

    return declare


def block_kernel(
    name: str, arguments: Sequence[Arg], *, threads: int, shared_words: int
) -> Callable[[Callable[[Ops], Body]], Kernel]:
    """Declare a block kernel."""

    def declare(build: Callable[[Ops], Body]) -> Kernel:
        return _register(Kernel(name, Form.BLOCK, tuple(arguments), build, threads, shared_words))

    return declare
