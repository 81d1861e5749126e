"""Mutated proofs: each says something else than the proof it was made from, and says which part was changed.

Structured mutants know the wire: they change a number of every field, exchange numbers and whole fields between
queries, and take away or add items together with the length that counts them, so that the bytes still read as
a proof. Raw mutants know nothing: bits, bytes and slices. A raw mutant that reads the same numbers from other bytes
(a longer varint) is no other proof and is left out.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.field import P
from workers.stark.air import Air, symbolic_program
from workers.stark.errors import VerificationError
from workers.stark.parameters import Parameters
from workers.stark.proof import Field, ProofShape
from workers.stark.wire import decode_varints, encode_varints

UNUSED_BY_PLONKY3 = "commit_pow"
"""The grinding witnesses of folding rounds. With no bits to grind Plonky3 neither observes nor checks them, so that a
proof with others is accepted there; ours must be 0."""

ABSENT_FOR_PLONKY3 = ("preprocessed local", "preprocessed next")
"""Openings of columns that no AIR here has. Plonky3 takes an empty list for none; ours must be none."""

_LARGE = (127, 128, 2**16, 2**31, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A valid proof to mutate, and the name under which the peer knows its AIR."""

    name: str
    air: Air
    peer_air: str
    parameters: Parameters
    proof: bytes
    public: tuple[int, ...]

    @property
    def shape(self) -> ProofShape:
        log_rows = self.proof[-1]
        return ProofShape.of(symbolic_program(self.air), log_rows=log_rows, parameters=self.parameters)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`part` is the field that was changed, `how` in which way."""

    part: str
    how: str
    proof: bytes
    public: tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    """One occurrence of a field: its numbers are `start` ... `start + field.size`."""

    field: Field
    start: int


class Mutator:
    """All mutants of one subject come from here, decided by `seed` alone."""

    def __init__(self, subject: Subject, *, seed: int) -> None:
        self._subject = subject
        self._random = random.Random(seed)
        numbers, incomplete = decode_varints(subject.proof)
        assert not incomplete
        self._numbers: list[int] = numbers.tolist()
        self._occurrences = _occurrences(subject.shape)
        self.parts = [name for name, places in self._occurrences.items() if places[0].field.size]
        unused = self._occurrences[UNUSED_BY_PLONKY3][0]
        self._unused = range(unused.start, unused.start + unused.field.size)

    def mutants(self, count: int) -> Iterator[Mutant]:
        """`count` mutants, every part and every way in turn."""
        ways: list[Callable[[], Mutant | None]] = [
            *(lambda name=name: self._changed(name) for name in self.parts),  # type: ignore[misc]
            *([self._public] * 3 if self._subject.public else []),
            *([self._raw] * 10),
        ]
        made = 0
        while made < count:
            self._random.shuffle(ways)
            for way in ways[: count - made]:
                made += 1
                yield self._until_different(way)

    @staticmethod
    def _until_different(way: Callable[[], Mutant | None]) -> Mutant:
        """A way may happen to change nothing: then another time."""
        while (mutant := way()) is None:
            pass
        return mutant

    def is_ignored_by_plonky3(self, mutant: Mutant) -> bool:
        """Whether nothing differs but the unused grinding witnesses, which are field elements still, and lists that
        are empty instead of none."""
        if mutant.public != self._subject.public:
            return False
        numbers = _lenient(mutant.proof)
        if numbers is None:
            return False
        unused = self._unused if self._subject.parameters.commit_pow_bits == 0 else range(0)
        for name in ABSENT_FOR_PLONKY3:
            at = self._occurrences[name][0].start
            if numbers[at : at + 2] == [1, 0]:
                numbers[at : at + 2] = [0]
        if len(numbers) != len(self._numbers):
            return False
        differing = [i for i, (a, b) in enumerate(zip(numbers, self._numbers, strict=True)) if a != b]
        return all(i in unused and numbers[i] < P for i in differing)

    def _changed(self, name: str) -> Mutant | None:
        place = self._random.choice(self._occurrences[name])
        if place.field.fixed is None:
            ways = [
                self._bumped,
                self._another,
                self._extreme,
                self._too_large,
                self._exchanged,
                self._transplanted,
            ]
        elif name.endswith(" length"):
            ways = [self._wrong_number, self._item_less, self._item_more, self._no_item]
        elif name.endswith("option") or "preprocessed" in name or "random" in name:
            ways = [self._wrong_number, self._option]
        else:
            ways = [self._wrong_number]
        way = self._random.choice(ways)
        numbers = way(place)
        if numbers is None or numbers == self._numbers:
            return None
        data = encode_varints(np.array(numbers, dtype=np.uint32))
        return Mutant(part=name, how=way.__name__[1:], proof=data, public=self._subject.public)

    def _any_of(self, place: _Place) -> int:
        return place.start + self._random.randrange(place.field.size)

    def _with(self, at: int, number: int) -> list[int]:
        changed = self._numbers.copy()
        changed[at] = number
        return changed

    def _bumped(self, place: _Place) -> list[int]:
        at = self._any_of(place)
        return self._with(at, (self._numbers[at] + self._random.choice((1, P - 1, 2**24))) % P)

    def _another(self, place: _Place) -> list[int]:
        return self._with(self._any_of(place), self._random.randrange(P))

    def _extreme(self, place: _Place) -> list[int]:
        return self._with(self._any_of(place), self._random.choice((0, 1, P - 1)))

    def _too_large(self, place: _Place) -> list[int]:
        """The same residue, and other numbers that are no elements."""
        at = self._any_of(place)
        return self._with(at, self._random.choice((self._numbers[at] + P, P, 2**32 - 1)))

    def _exchanged(self, place: _Place) -> list[int]:
        one, other = self._any_of(place), self._any_of(place)
        changed = self._with(one, self._numbers[other])
        changed[other] = self._numbers[one]
        return changed

    def _transplanted(self, place: _Place) -> list[int]:
        """The whole field of another query, or of the same size elsewhere in the proof."""
        same = [
            p for places in self._occurrences.values() for p in places if p.field.size == place.field.size
        ]
        source = self._random.choice(same)
        changed = self._numbers.copy()
        changed[place.start : place.start + place.field.size] = self._field_at(source)
        return changed

    def _field_at(self, place: _Place) -> list[int]:
        return self._numbers[place.start : place.start + place.field.size]

    def _wrong_number(self, place: _Place) -> list[int]:
        number = self._numbers[place.start]
        others = {0, 1, number + 1, max(number - 1, 0), 2 * number, *_LARGE} - {number}
        return self._with(place.start, self._random.choice(sorted(others)))

    def _items(self, place: _Place) -> tuple[int, int, int]:
        """What a length counts: where the items start, how many, numbers an item."""
        count = self._numbers[place.start]
        (counted,) = (p for p in self._all_places() if p.start == place.start + 1 and p.field.fixed is None)
        return place.start + 1, count, counted.field.size // count if count else 0

    def _all_places(self) -> Iterator[_Place]:
        for places in self._occurrences.values():
            yield from places

    def _item_less(self, place: _Place) -> list[int] | None:
        start, count, width = self._items(place)
        if not count:
            return None
        gone = start + width * self._random.randrange(count)
        return self._spliced(place.start, count - 1, gone, gone + width, [])

    def _item_more(self, place: _Place) -> list[int] | None:
        start, count, width = self._items(place)
        if not count:
            return None
        at = start + width * self._random.randrange(count)
        return self._spliced(place.start, count + 1, at, at, self._numbers[at : at + width])

    def _no_item(self, place: _Place) -> list[int] | None:
        start, count, width = self._items(place)
        return self._spliced(place.start, 0, start, start + count * width, []) if count else None

    def _option(self, place: _Place) -> list[int]:
        """Something where nothing is, or nothing where something is, counted and complete."""
        at = place.start
        if self._numbers[at]:
            length = self._numbers[at + 1]
            return self._spliced(at, 0, at + 1, at + 2 + 4 * length, [])
        count = self._random.choice((0, 1, self._subject.air.width))
        elements = [self._random.randrange(P) for _ in range(4 * count)]
        return self._spliced(at, 1, at + 1, at + 1, [count, *elements])

    def _spliced(self, number_at: int, number: int, start: int, stop: int, items: Sequence[int]) -> list[int]:
        changed = [*self._numbers[:start], *items, *self._numbers[stop:]]
        changed[number_at] = number
        return changed

    def _public(self) -> Mutant | None:
        public = list(self._subject.public)
        at, other = self._random.randrange(len(public)), self._random.randrange(len(public))
        how = self._random.choice(("bumped", "another", "exchanged", "too large", "missing", "one more"))
        match how:
            case "bumped":
                public[at] = (public[at] + 1) % P
            case "another":
                public[at] = self._random.randrange(P)
            case "exchanged":
                public[at], public[other] = public[other], public[at]
            case "too large":
                public[at] += P
            case "missing":
                del public[at]
            case "one more":
                public.insert(at, public[at])
        if tuple(public) == self._subject.public:
            return None
        return Mutant(part="public values", how=how, proof=self._subject.proof, public=tuple(public))

    def _raw(self) -> Mutant | None:
        data = bytearray(self._subject.proof)
        at = self._random.randrange(len(data))
        length = self._random.choice((1, 1, 2, 4, 32, 500))
        how = self._random.choice(
            ("a bit", "a byte", "cut out", "put in", "twice", "zeros", "cut off", "appended", "exchanged")
        )
        match how:
            case "a bit":
                data[at] ^= 1 << self._random.randrange(8)
            case "a byte":
                data[at] = self._random.randrange(256)
            case "cut out":
                del data[at : at + length]
            case "put in":
                data[at:at] = self._random.randbytes(length)
            case "twice":
                data[at:at] = data[at : at + length]
            case "zeros":
                data[at : at + length] = bytes(len(data[at : at + length]))
            case "cut off":
                del data[at:]
            case "appended":
                data += self._random.randbytes(length)
            case "exchanged":
                other = self._random.randrange(len(data))
                data[at], data[other] = data[other], data[at]
        if _lenient(bytes(data)) == self._numbers:
            return None
        return Mutant(part="bytes", how=how, proof=bytes(data), public=self._subject.public)


def _occurrences(shape: ProofShape) -> dict[str, list[_Place]]:
    """Every field of the wire by name, with all its occurrences."""
    found: dict[str, list[_Place]] = {}
    at = 0
    sections = (shape.layout.head, *[shape.layout.query] * shape.parameters.num_queries, shape.layout.tail)
    for section in sections:
        for field in section:
            found.setdefault(field.name, []).append(_Place(field, at))
            at += field.size
    return found


def _lenient(data: bytes) -> list[int] | None:
    """The numbers that a reader takes who does not mind a varint longer than its value needs; None if the last
    one is incomplete."""
    try:
        numbers, incomplete = decode_varints(data)
    except VerificationError:
        return _lenient_slowly(data)
    return None if incomplete else numbers.tolist()


def _lenient_slowly(data: bytes) -> list[int] | None:
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return None if shift else numbers
