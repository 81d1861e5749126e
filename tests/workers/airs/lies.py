"""The lies: for every constraint, batches told with one thing otherwise.

Where it can be, a lie is one that a single constraint forbids: then the test shows that this constraint is
needed, not only that some other one would have noticed. Operation 0 has an output of 2 blocks, operation 1
one of 3 (19 elements, 3 in the last block).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels.field import P
from tests.workers.airs.lying import Lie, Operation, permuted_wrongly

Change = Callable[[Any], Any]


def operations() -> list[Operation]:
    rng = np.random.default_rng(11)

    def eight() -> list[int]:
        return [int(x) for x in rng.integers(0, P, size=8)]

    def elements(num_bytes: int) -> list[int]:
        groups = -(-num_bytes // 3)
        return [num_bytes, *(int(x) for x in rng.integers(1, 1 << 24, size=groups))]

    return [Operation(eight(), eight(), eight(), elements(num_bytes)) for num_bytes in (33, 53)]


def with_output(number: int, elements: list[int]) -> list[Operation]:
    """The operations, but one of them has another output."""
    told = operations()
    told[number] = Operation(told[number].public, told[number].secret, told[number].salt, elements)
    return told


def bump(j: int) -> Change:
    """One more at place j of a list."""
    return lambda values: [(value + int(i == j)) % P for i, value in enumerate(values)]


def put(j: int, value: int) -> Change:
    return lambda values: [value % P if i == j else old for i, old in enumerate(values)]


def become(value: Any) -> Change:
    return lambda _: value


def replace(old: str, *new: str) -> Change:
    """A step of a script becomes other steps (or none)."""
    return lambda script: [s for step in script for s in (new if step == old else (step,))]


def flag(**values: int) -> Change:
    return lambda flags: flags | values


def caught(*names: str) -> frozenset[str]:
    return frozenset(names)


def caught_all(family: str) -> frozenset[str]:
    return frozenset(f"{family}[{j}]" for j in range(8))


def value_lies() -> Iterator[Lie]:
    """One element of what a row absorbs, starts with or keeps is another; all eight places of each."""
    rates = {
        "N1": "P in the nullifier is not P in the statement",
        "S2": "S absorbs another nullifier",
        "K": "the secret of K is not that of N",
        "S3": "S absorbs another agent key",
        "S4": "S absorbs another constraint hash",
        "O1": "C in the commitment is not C in the statement",
        "S5": "S absorbs another output commitment",
        "R": "the root absorbs another statement",
    }
    for row, name in rates.items():
        for j in range(8):
            yield Lie(f"{name} [{j}]", f"1 {row} rate", bump(j), caught(f"rate[{j}]"))
    starts = {"S1": "statement", "N1": "nullifier", "K": "key", "O1": "commitment"}
    for row, name in starts.items():
        for j in range(8):
            what = "tag" if j == 0 else "length" if j == 1 else f"capacity {j}"
            yield Lie(
                f"{name} starts with another {what}", f"1 {row} capacity", bump(j), caught(f"start[{j}]")
            )
    for j in (0, *range(2, 8)):
        yield Lie(f"output starts with another capacity {j}", "1 C0 capacity", bump(j), caught(f"start[{j}]"))
    carried = ("N2", "S2", "S3", "C1", "L", "S4", "O2", "S5")
    for row in carried:
        for j in range(8):
            yield Lie(
                f"the sponge forgets its capacity before {row} [{j}]",
                f"1 {row} capacity",
                bump(j),
                caught(f"capacity[{j}]"),
            )
    for row in ("N1", "N2", "S2", "K", "C0", "C1", "L", "O1", "O2"):
        for j in range(8):
            yield Lie(f"Y changes at {row} [{j}]", f"1 {row} y", bump(j), caught(f"register[{j}]"))


def root_lies() -> Iterator[Lie]:
    yield Lie("the root has another tag", "Z start", bump(0), caught("root tag"))
    yield Lie("the root's length is not 8n", "Z start", bump(1), caught("root length"))
    for j in range(2, 8):
        yield Lie(f"the root starts from capacity {j}", "Z start", bump(j), caught(f"root zero[{j}]"))
    for j in range(8):
        yield Lie(
            f"R is not on the root's sponge [{j}]", "1 R capacity", bump(j), caught(f"root absorbs[{j}]")
        )
        for point in ("0 R z after", "1 C1 z"):
            yield Lie(f"Z moves at {point} [{j}]", point, bump(j), caught(f"root carried[{j}]"))
        yield Lie(f"padding moves Z [{j}]", "PAD z", bump(j), caught(f"root carried[{j}]"))
        yield Lie(f"the root is another [{j}]", "root", bump(j), caught(f"root[{j}]"))
    yield Lie(
        "the first statement is the whole root", "0 R z after", become([0] * 8), caught_all("root carried")
    )


def count_lies() -> Iterator[Lie]:
    yield Lie("the count starts at one", "CNT start", become(1), caught("count start"), count=3)
    yield Lie("an operation counts twice", "1 R counts", become(2), caught("count"), count=3)
    yield Lie("an operation counts nothing", "0 R counts", become(0), caught("count"), count=1)
    yield Lie("a block of output counts", "1 C1 count", lambda n: n + 1, caught("count"), count=3)
    yield Lie("n is one more than was counted", "CNT start", become(0), caught("count end"), count=3)
    yield Lie("n is one less than was counted", "CNT start", become(0), caught("count end"), count=1)


def output_lies() -> Iterator[Lie]:
    """Operation 1 has 19 elements: LEFT 19, 11, 3."""
    yield Lie(
        "a length of 8 more, and a block is skipped",
        "1 C0 capacity",
        put(1, 27),
        caught("left"),
        more=(("1 C0 left", become(27)), ("1 C0 rate", put(0, 77)), ("1 S3 y", put(1, pow(26, -1, P)))),
    )
    yield Lie("LEFT counts seven", "1 C1 left", become(12), caught("left"), more=(("1 L left", become(4)),))
    yield Lie(
        "LEFT is not the length in the capacity",
        "1 C0 capacity",
        put(1, 20),
        caught("start[1]"),
        more=(("1 C0 rate", put(0, 56)), ("1 S3 y", put(1, pow(19, -1, P)))),
    )
    yield Lie(
        "an absorb is repeated",
        "1 script",
        replace("C1", "C1", "C1*"),
        caught("left"),
    )
    for i in range(8):
        yield Lie(
            f"the size is no bit [{i}]",
            "1 S4 y",
            become(no_bit_sizes(i)),
            frozenset(f"size bit[{k}]" for k, size in enumerate(no_bit_sizes(i)) if size not in (0, 1)),
            more=(("1 L rate", become([5, 0, 0, 0, 0, 0, 0, 0])),),
        )
    yield Lie(
        "the last block has no size, and nothing left",
        "1 S4 y",
        become([0] * 8),
        caught("one size"),
        more=shifted_left(3),
    )
    yield Lie(
        "the last block has two sizes",
        "1 S4 y",
        become([1, 1, 0, 0, 0, 0, 0, 0]),
        caught("one size"),
        more=(("1 L rate", become([9, 0, 0, 0, 0, 0, 0, 0])),),
    )
    yield Lie(
        "the last block has more elements than are left",
        "1 S4 y",
        become([0, 0, 0, 0, 0, 0, 0, 1]),
        caught("size is left"),
        more=(("1 L rate", become([1, 2, 3, 4, 5, 6, 7, 8])),),
    )
    yield Lie(
        "the last block has fewer elements than are left",
        "1 S4 y",
        become([0, 1, 0, 0, 0, 0, 0, 0]),
        caught("size is left"),
        more=(("1 L rate", put(2, 0)),),
    )
    for j in range(3, 8):
        yield Lie(
            f"something stands in the zero padding [{j}]", "1 L rate", put(j, 1), caught(f"zero padding[{j}]")
        )


def shifted_left(by: int) -> tuple[tuple[str, Change], ...]:
    """LEFT, and the length with it, is less by so many in operation 1; its byte length and tail fit the
    length."""
    length = 19 - by
    return (
        ("1 C0 capacity", put(1, length)),
        ("1 C0 rate", put(0, 3 * (length - 1))),
        ("1 S3 y", become([0] * 8)),
        ("1 C0 left", become(length)),
        ("1 C1 left", become(length - 8)),
        ("1 L left", become(length - 16)),
        ("1 L rate", become([0] * 8)),
    )


def no_bit_sizes(i: int) -> list[int]:
    """Sizes with sum 1 and weighted sum 3, as they must be, of which size i is 2: two others make up for
    it."""
    first, second = [k for k in range(8) if k != i][:2]
    total, weighted = 1 - 2, 3 - 2 * (i + 1)
    other = (weighted - (first + 1) * total) * pow(second - first, -1, P)
    sizes = [0] * 8
    sizes[i], sizes[first], sizes[second] = 2, (total - other) % P, other % P
    return sizes


def tail_lies() -> Iterator[Lie]:
    """The byte length is 53 of 18 groups: t = 1. Y0 = [t ≥ 1], Y1 = t / 18."""

    def byte_length(value: int, *, some: int) -> tuple[tuple[str, Change], ...]:
        ratio = (54 - value) * pow(18, -1, P) % P
        return (("1 C0 rate", put(0, value)), ("1 S3 y", become([some, ratio, 0, 0, 0, 0, 0, 0])))

    for value, some, catcher in (
        (51, 1, "tail range"),
        (55, 0, "tail range"),
        (57, 0, "tail range"),
        (51, 2, "tail bit"),
        (51, 3, "tail bit"),
        (55, P - 1, "tail bit"),
        (55, P - 2, "tail bit"),
    ):
        (point, change), *more = byte_length(value, some=some)
        yield Lie(
            f"{value} bytes in 18 groups, Y0 = {some}", point, change, caught(catcher), more=tuple(more)
        )
    yield Lie("Y1 is not t over the groups", "1 S3 y", bump(1), caught("tail of one element"))


def empty_output_lies() -> Iterator[Lie]:
    """Told with operation 1's output empty: one element, which must be 0 bytes."""
    for lacking, some in ((1, 1), (1, 0), (2, 1)):
        yield Lie(
            f"an empty output of {-lacking} bytes, Y0 = {some}",
            "1 L rate",
            put(0, -lacking),
            caught("tail of one element"),
            more=(("1 S3 y", become([some, 0, 0, 0, 0, 0, 0, 0])),),
        )
    for j in range(1, 8):
        yield Lie(
            f"an empty output has an element [{j}]", "1 L rate", put(j, 5), caught(f"zero padding[{j}]")
        )


def order_lies() -> Iterator[Lie]:
    """Rows left out, repeated, or of another kind."""
    nothing: tuple[tuple[str, Change], ...] = (("1 script", become([])),)
    yield Lie("the batch is empty", "0 script", become([]), caught("first is S1"), more=nothing, count=0)
    yield Lie(
        "the first row is padding",
        "0 script",
        lambda script: ["PAD", *script],
        caught("first is S1", "padding stays"),
    )
    yield Lie(
        "the first operation has no first half",
        "0 script",
        lambda script: script[-5:],
        caught("half"),
        more=(("0 S4 y", become([0] * 8)),),
    )
    yield Lie("S1 is written twice", "1 script", replace("S1", "S1", "S1*"), caught("b after a"))
    yield Lie("an operation is left out of the root", "0 script", without("R"), caught("r after e"), count=1)
    yield Lie("an operation is abandoned after N", "1 script", abandoned_after("S2"), caught("k after e"))
    yield Lie("a block of the output is left out", "1 script", without("C1"), caught("left"))
    yield Lie(
        "a commitment stands in for the nullifier",
        "1 script",
        lambda script: ["S1", "O1", "O2", *script[3:]],
        caught("half"),
    )
    for row in ("S1", "K", "C1", "L", "R"):
        yield Lie(f"the second half comes early, at {row}", f"1 {row} h", become(1), caught("half"))
    yield Lie("the second half ends early, at O1", "1 O1 h", become(0), caught("half", "start[0]"))
    yield Lie(
        "N is not hashed with the secret", "1 script", without("N2"), caught("d after b"), with_others=True
    )
    yield Lie("there is no nullifier", "1 script", without("N1", "N2"), caught("b after a"), with_others=True)
    yield Lie("there is no S2", "1 script", without("S2"), caught("e after d"), with_others=True)
    yield Lie("there is no agent key", "1 script", without("K"), caught("k after e"), with_others=True)
    yield Lie("K does not enter S", "1 script", without("S3"), caught("s after k"), with_others=True)
    yield Lie(
        "there is no output",
        "1 script",
        without("C0", "C1", "L"),
        caught("c or l after s or c"),
        with_others=True,
    )
    yield Lie("the output has no end", "1 script", without("L"), caught("half"), with_others=True)
    yield Lie("the output ends twice", "1 script", replace("L", "L", "L*"), caught("half"), with_others=True)
    yield Lie("C does not enter S", "1 script", without("S4"), caught("b after a"), with_others=True)
    yield Lie(
        "there is no commitment", "1 script", without("O1", "O2"), caught("b after a"), with_others=True
    )
    yield Lie("O is not hashed with a salt", "1 script", without("O2"), caught("d after b"), with_others=True)
    yield Lie("O does not enter S", "1 script", without("S5"), caught("e after d"), with_others=True)
    yield Lie(
        "there are two agent keys", "1 script", replace("K", "K", "K*"), caught("s after k"), with_others=True
    )
    yield Lie(
        "a statement is absorbed twice",
        "1 script",
        lambda script: [*script, "R*"],
        caught("r after e", "padding stays"),
        count=3,
    )
    yield Lie(
        "padding stands within an operation",
        "1 script",
        replace("C1", "PAD", "C1"),
        caught("padding stays"),
        with_others=True,
    )
    yield Lie(
        "an operation follows padding",
        "1 script",
        lambda script: ["PAD", *script],
        caught("padding stays"),
        with_others=True,
    )
    for name in "abdeksclr":
        yield Lie(
            f"padding has flag {name}",
            "PAD flags",
            flag(**{name: 1}),
            caught("last is padding"),
            with_others=True,
        )
        yield Lie(
            f"flag {name} is two", "PAD flags", flag(**{name: 2}), caught(f"bit {name}"), with_others=True
        )
        if name != "l":
            yield Lie(
                f"a row is both l and {name}",
                "1 L flags",
                flag(**{name: 1}),
                caught("bit pad"),
                with_others=True,
            )


def full_trace_lies() -> Iterator[Lie]:
    """Told of one operation that fills the trace: nothing compares the root if no padding follows R."""
    yield Lie(
        "the trace has no padding, and the root is made up",
        "root",
        become([7] * 8),
        caught("last is padding"),
        count=0,
    )


def swap_lies(constraint_hashes: tuple[list[int], list[int]]) -> Iterator[Lie]:
    """The operations' own digests, in each other's statements."""
    first, second = constraint_hashes
    yield Lie(
        "C is swapped between operations",
        "0 S4 rate",
        become(second),
        caught_all("rate"),
        more=(("1 S4 rate", become(first)),),
    )
    yield Lie("both operations claim one output", "1 S4 rate", become(first), caught_all("rate"))


def without(*steps: str) -> Change:
    return lambda script: [step for step in script if step not in steps]


def abandoned_after(step: str) -> Change:
    """The operation up to a step, then all of it."""
    return lambda script: [*script[: script.index(step) + 1], *script]


def permutation_lies() -> Iterator[Lie]:
    for column in range(16, 164):
        yield Lie(
            f"the permutation cheats in column {column}",
            "0 C0 permutation",
            become(lambda inputs, column=column: permuted_wrongly(inputs, column)),
            caught(f"permutation[{column}]"),
        )
