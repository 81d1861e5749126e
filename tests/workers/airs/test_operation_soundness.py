"""Soundness by lying: each lie is told consistently, from the public values up, and must be caught.

Editing a finished proof tests the transcript; here the trace itself lies, so that only a constraint can
notice.
"""

from collections.abc import Iterable

import numpy as np
import pytest

from kernels.field import P, to_monty
from tests.workers.airs import lies
from tests.workers.airs.constraint_check import GROUPS, NAMES, constraint_values, violated
from tests.workers.airs.lying import FLAG_ORDER, ROWS, Lie, Operation, permuted, permuted_wrongly, tell
from workers.airs.operation import CNT, FLAGS, LEFT, WIDTH, OperationAir, Y
from workers.hashing import default_backend
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import TESTING
from workers.stark.prover import prove
from workers.stark.verifier import verify

CHUNK = 25
"""Lies checked at once: more would only need more memory."""


def constraint_hashes() -> tuple[list[int], list[int]]:
    trace, _ = tell(lies.operations())
    last_blocks = np.flatnonzero(trace[:, FLAGS + FLAG_ORDER.index("l")])
    first, second = (trace[row, 148:156].tolist() for row in last_blocks)
    return first, second


def full_trace() -> list[Operation]:
    """One operation of as many rows as the trace has: 53 blocks."""
    return lies.with_output(0, [3 * (8 * (ROWS - 11) - 1), *range(1, 8 * (ROWS - 11))])[:1]


Story = tuple[list[Operation], Lie]


def stories() -> list[Story]:
    """Every lie, with the operations that it is told of."""
    told = lies.operations()
    usual: list[Iterable[Lie]] = [
        lies.value_lies(),
        lies.root_lies(),
        lies.count_lies(),
        lies.output_lies(),
        lies.tail_lies(),
        lies.order_lies(),
        lies.permutation_lies(),
        lies.swap_lies(constraint_hashes()),
    ]
    empty = lies.with_output(1, [0])
    return [
        *((told, lie) for family in usual for lie in family),
        *((empty, lie) for lie in lies.empty_output_lies()),
        *((full_trace(), lie) for lie in lies.full_trace_lies()),
    ]


@pytest.fixture(scope="module")
def caught() -> list[tuple[Lie, set[str]]]:
    """Every lie with the names of the constraints that it violates."""
    found: list[tuple[Lie, set[str]]] = []
    every = stories()
    for start in range(0, len(every), CHUNK):
        chunk = every[start : start + CHUNK]
        told = [tell(operations, lie) for operations, lie in chunk]
        names = violated(np.stack([trace for trace, _ in told]), [public for _, public in told])
        found += zip((lie for _, lie in chunk), names, strict=True)
    return found


def test_the_constraints_are_named_in_their_order() -> None:
    assert [len(group) for group in GROUPS.values()] == [148, 21, 8, 8, 8, 8, 21, 24, 11]
    assert len(set(NAMES)) == 257


@pytest.mark.parametrize(
    "operations",
    [
        lies.operations(),
        lies.operations()[:1],
        lies.with_output(1, [0]),
        lies.with_output(0, [3 * 415, *range(1, 416)])[:1],
    ],
    ids=["two", "one", "an empty output", "one row of padding"],
)
def test_an_honest_batch_violates_nothing(operations: list[Operation]) -> None:
    trace, public_values = tell(operations)
    assert violated(trace[np.newaxis], [public_values]) == [set()]


def test_a_permutation_without_a_lie_is_the_honest_one() -> None:
    assert permuted_wrongly(list(range(16)), column=-1) == permuted(list(range(16)))


def test_lies_are_many_and_distinct() -> None:
    every = stories()
    traces = {(trace.tobytes(), tuple(public)) for trace, public in (tell(*story) for story in every)}
    assert len({lie.name for _, lie in every}) == len(traces) == len(every) > 400


def test_every_lie_is_caught_by_the_constraint_that_forbids_it(caught: list[tuple[Lie, set[str]]]) -> None:
    wrong = {
        lie.name: (sorted(names), sorted(lie.caught_by))
        for lie, names in caught
        if not (lie.caught_by <= names if lie.with_others else lie.caught_by == names)
    }
    assert not wrong
    assert all(lie.caught_by for lie, _ in caught)


def test_every_constraint_catches_a_lie_and_all_but_a_few_catch_one_alone(
    caught: list[tuple[Lie, set[str]]],
) -> None:
    together = {
        *(f"bit {flag}" for flag in FLAG_ORDER),
        "bit pad",
        "d after b",
        "e after d",
        "s after k",
        "c or l after s or c",
        # A batch that goes on after padding has two rows R before padding, and one root cannot be both.
        "padding stays",
        # Three sizes that are no bits make up for one another: bits alone do it two or three at a time.
        *(f"size bit[{i}]" for i in range(8)),
    }
    assert set().union(*(names for _, names in caught)) == set(NAMES)
    assert {name for _, names in caught if len(names) == 1 for name in names} == set(NAMES) - together


PROVED = {
    "the permutation cheats in column 87": 1,
    "an operation is left out of the root": 2,
    "statement starts with another tag": 3,
    "the sponge forgets its capacity before S3 [0]": 4,
    "the secret of K is not that of N [0]": 5,
    "Y changes at S2 [7]": 6,
    "a length of 8 more, and a block is skipped": 7,
    "padding moves Z [3]": 8,
    "n is one more than was counted": 9,
}


@pytest.mark.parametrize("name", PROVED)
def test_a_lie_that_is_proved_anew_is_refused(name: str) -> None:
    operations, lie = next(story for story in stories() if story[1].name == name)
    assert lie.caught_by <= set(GROUPS[PROVED[name]])
    for told, accepted in ((None, True), (lie, False)):
        trace, public_values = tell(operations, told)
        outcome = prove(OperationAir(), to_monty(trace), public_values, TESTING, default_backend())
        if accepted:
            verify(OperationAir(), outcome.proof, public_values, parameters=TESTING)
            continue
        with pytest.raises(VerificationError) as refused:
            verify(OperationAir(), outcome.proof, public_values, parameters=TESTING)
        assert refused.value.code is Refusal.CONSTRAINTS


def free_cells(trace: "np.ndarray[tuple[int, int], np.dtype[np.uint64]]") -> set[tuple[int, int]]:
    """The cells that nobody reads: Y on S1, S5, R and padding rows, Y2–Y7 on S3, LEFT outside C rows."""
    flags = {name: trace[:, FLAGS + i] == 1 for i, name in enumerate(FLAG_ORDER)}
    second_half = trace[:, 189] == 1
    padding = trace[:, FLAGS : FLAGS + 9].sum(axis=1) == 0
    unread_y = (flags["a"] & ~second_half) | (flags["e"] & second_half) | flags["r"] | padding
    cells = {(int(row), Y + j) for row in np.flatnonzero(unread_y) for j in range(8)}
    cells |= {(int(row), Y + j) for row in np.flatnonzero(flags["s"]) for j in range(2, 8)}
    return cells | {(int(row), LEFT) for row in np.flatnonzero(~(flags["c"] | flags["l"]))}


def test_changing_any_cell_that_is_read_violates_a_constraint() -> None:
    """Each of the 64 · 192 cells of an honest trace alone is set to another value."""
    trace, public_values = tell(lies.operations())
    rng = np.random.default_rng(3)
    unnoticed: set[tuple[int, int]] = set()
    public = [np.array(value, dtype=np.uint64) for value in public_values]
    for row in range(ROWS):
        changed = np.broadcast_to(trace[row], (WIDTH, WIDTH)).copy()
        columns = np.arange(WIDTH)
        changed[columns, columns] = (
            changed[columns, columns] + rng.integers(1, P, size=WIDTH, dtype=np.uint64)
        ) % P
        # The changed row is seen twice: as the current row, and as the next one of the row above.
        above, below = trace[row - 1], trace[(row + 1) % ROWS]
        local = np.stack([changed, np.broadcast_to(above, changed.shape)])
        following = np.stack([np.broadcast_to(below, changed.shape), changed])
        places = np.array([[row], [(row - 1) % ROWS]])
        values = constraint_values(
            local,
            following,
            public,
            first=(places == 0).astype(np.uint64),
            last=(places == ROWS - 1).astype(np.uint64),
            transition=(places != ROWS - 1).astype(np.uint64),
        )
        noticed = np.zeros((2, WIDTH), dtype=bool)
        for value in values:
            noticed |= np.broadcast_to(value, noticed.shape) != 0
        unnoticed |= {(row, int(column)) for column in np.flatnonzero(~noticed.any(axis=0))}
    assert unnoticed == free_cells(trace)
    assert (0, CNT) not in unnoticed
