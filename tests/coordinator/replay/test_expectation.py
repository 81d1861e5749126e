import pytest

from coordinator.replay.board import Board, Outcome
from coordinator.replay.expectation import (
    Expectation,
    complaints_about,
    expected_slash,
    slash_complaints,
)
from coordinator.replay.session import Admission
from coordinator.replay.workflow import Task, Workflow

#   a ─ b ─ c        d ─ e
WORKFLOW = Workflow(
    "w",
    tuple(
        Task(name, name, parents, 1.0)
        for name, parents in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ()), ("e", ("d",)))
    ),
)


def board_of(outcomes: str) -> Board:
    """A board on which tasks a, b, … ended as the letters say: Confirmed, Failed, Rolled back, Skipped."""
    letters = {
        "C": Outcome.CONFIRMED,
        "F": Outcome.FAILED,
        "R": Outcome.ROLLED_BACK,
        "S": Outcome.SKIPPED,
    }
    board = Board.for_workflow(WORKFLOW, ["x", "y"])
    for task, letter in zip("abcde", outcomes, strict=True):
        board.publish(task, f"op-{task}", Admission(bond_lamports=1_100_005))
        board.end(task, letters[letter], now_s=1.0, detail="why")
    return board


@pytest.mark.parametrize(
    ("outcomes", "lies", "rejects"),
    [
        ("CCCCC", "", ""),
        ("CFRCC", "b", ""),
        ("CFSCC", "", "b"),
        ("FRSCC", "a", ""),
        ("FRSFR", "a", "d"),
        ("FSSCC", "ab", ""),
        ("FFRCC", "ab", ""),
    ],
)
def test_outcomes_that_follow_from_the_faults_are_right(outcomes: str, lies: str, rejects: str) -> None:
    expected = Expectation(lies=frozenset(lies), rejects=frozenset(rejects))
    assert complaints_about(WORKFLOW, board_of(outcomes), expected) == []


@pytest.mark.parametrize(
    ("outcomes", "lies", "complaint"),
    [
        ("CCCCR", "", "1 task(s) should have been confirmed (e: rolled_back (why))"),
        ("CCCCC", "b", "1 task(s) should have failed (b: confirmed (why))"),
        ("CRSCC", "b", "1 task(s) should have failed (b: rolled_back (why))"),
        ("CFCCC", "b", "1 task(s) should have been rolled back or skipped (c: confirmed (why))"),
        ("CFFCC", "b", "1 task(s) should have been rolled back or skipped (c: failed (why))"),
        ("CFRSS", "b", "2 task(s) should have been confirmed (d: skipped (why); e: skipped (why))"),
    ],
)
def test_every_other_outcome_is_a_complaint(outcomes: str, lies: str, complaint: str) -> None:
    expected = Expectation(lies=frozenset(lies))
    assert complaint in complaints_about(WORKFLOW, board_of(outcomes), expected)


def test_only_lies_are_slashed_and_to_the_lamport() -> None:
    board = board_of("FRSFR")
    due = expected_slash(
        board, Expectation(lies=frozenset("a"), rejects=frozenset("d")), slash_basis_points=1_000
    )
    assert due == {"x": 110_000, "y": 0}
    assert slash_complaints(due, {"x": 110_000}) == []
    assert slash_complaints(due, {"x": 110_001}) == ["x was slashed 110,001 lamports, 110,000 were due"]
    assert slash_complaints(due, {"x": 110_000, "y": 1}) == ["y was slashed 1 lamports, 0 were due"]
