"""What depends on sizes and shifts alone, made once on the device and kept: roots, points, scales, tapes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from kernels import field, ntt
from kernels.cuda import opening
from kernels.cuda.device import Buffer, Device
from kernels.cuda.errors import ProgramTooLarge
from kernels.cuda.quotient import QUOTIENTS
from kernels.cuda.target import Kernel
from kernels.program import SymbolicProgram
from kernels.tape import Tape, lower

_KEPT = 48  # of the two or three heights that a worker sees in turn


@dataclass(frozen=True)
class LoadedTape:
    """A program's tape, its instructions on the device, and the kernel with enough slots."""

    tape: Tape
    instructions: Buffer
    kernel: Kernel


class Tables:
    """The tables of one device, the least recently used dropped."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: OrderedDict[Hashable, Buffer | LoadedTape] = OrderedDict()

    def roots(self, log_n: int, *, inverted: bool) -> Buffer:
        """`kernels.ntt.roots`."""
        return self._once(
            ("roots", log_n, inverted), lambda: self._device.upload(ntt.roots(log_n, inverted=inverted))
        )

    def subgroup(self, log_rows: int) -> Buffer:
        """The subgroup of order 2^log_rows in natural order."""
        base = field.two_adic_generator(log_rows)
        return self._once(("subgroup", log_rows), lambda: self._powers(base, log_rows))

    def coset(self, log_rows: int, shift: int = field.GENERATOR) -> Buffer:
        """shift * the subgroup, bit-reversed: with shift 3 where row i of a low-degree extension lies."""
        base = field.two_adic_generator(log_rows)
        return self._once(
            ("coset", log_rows, shift),
            lambda: self._powers(base, log_rows, start=shift, bit_reversed=True),
        )

    def halves_over_x(self, log_size: int) -> Buffer:
        """1 / (2 x_j) for the pairs of a bit-reversed vector of 2^log_size."""
        root = field.inverse(field.two_adic_generator(log_size))
        return self._once(
            ("halves", log_size),
            lambda: self._powers(root, log_size - 1, start=field.inverse(2), bit_reversed=True),
        )

    def scales(self, log_n: int, log_blowup: int, out_shift: int, in_shift: int) -> Buffer:
        """U32[2^log_blowup, 2^log_n]: (coset's shift / in_shift)^k / n, cosets in bit-reversed order."""

        def make() -> Buffer:
            n = 1 << log_n
            table = self._device.empty(n << log_blowup)
            generator = field.two_adic_generator(log_n + log_blowup)
            ratio = out_shift * field.inverse(in_shift) % field.P
            for coset, exponent in enumerate(ntt.bit_reversal(log_blowup).tolist()):
                base = field.mul(ratio, field.power(generator, exponent))
                start = field.inverse(n)
                self._fill_powers(table[coset * n : (coset + 1) * n], base, log_n, start, bit_reversed=False)
            return table

        return self._once(("scales", log_n, log_blowup, out_shift, in_shift), make)

    def tape(self, program: SymbolicProgram) -> LoadedTape:
        """The program for a machine that loads one column at a time.

        Raises:
            ProgramTooLarge: no kernel has so many slots.
        """
        return self._once(("tape", program), lambda: self._load(lower(program, tile=1)))  # type: ignore[no-any-return]  # kept values differ in kind by their key

    def _load(self, tape: Tape) -> LoadedTape:
        for slots, kernel in QUOTIENTS.items():
            if tape.slots <= slots:
                return LoadedTape(tape, self._device.upload(tape.instructions), kernel)
        raise ProgramTooLarge(
            f"{tape.program.name} needs {tape.slots} slots, at most {max(QUOTIENTS)} are there"
        )

    def _powers(self, base: int, bits: int, *, start: int = 1, bit_reversed: bool = False) -> Buffer:
        table = self._device.empty(1 << bits)
        self._fill_powers(table, base, bits, start, bit_reversed=bit_reversed)
        return table

    def _fill_powers(self, table: Buffer, base: int, bits: int, start: int, *, bit_reversed: bool) -> None:
        squares: Sequence[int] = [field.power(base, 1 << k) for k in range(bits)]
        if bit_reversed:
            squares = squares[::-1]
        factors = self._device.upload(field.to_monty(squares or [1]))
        self._device.launch(opening.powers, 1 << bits, factors, bits, field.monty(start), table)

    def _once(self, key: Hashable, make: Callable[[], Buffer | LoadedTape]) -> Buffer:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
