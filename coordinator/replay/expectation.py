"""What must come of a run, given its faults; whatever came otherwise is a complaint in plain words.

A task that lies or that the chain refuses fails, alone; what builds on it, and nothing else, is rolled back
or skipped; everything else is confirmed. Only a lie is slashed, by its bond's share, to the lamport.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coordinator.replay.board import Board, Outcome
from coordinator.replay.workflow import Workflow

BASIS_POINTS = 10_000
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The tasks whose operation must fail, and why. Every other fault delays and must change nothing."""

    lies: frozenset[str] = frozenset()
    rejects: frozenset[str] = frozenset()

    @property
    def failing(self) -> frozenset[str]:
        """Tasks that cannot be confirmed by their own fault."""
        return self.lies | self.rejects


def complaints_about(workflow: Workflow, board: Board, expected: Expectation) -> list[str]:
    """How the outcomes differ from what the faults ask for; nothing when they do not."""
    return list(_outcome_complaints(workflow, board, expected))


def expected_slash(board: Board, expected: Expectation, *, slash_basis_points: int) -> dict[str, int]:
    """Lamports that each agent must have lost: of every failed lie, its bond's share, rounded down."""
    slashed: dict[str, int] = {record.agent_id: 0 for record in board.records.values()}
    for task_id in expected.lies:
        record = board.records[task_id]
        if record.outcome is Outcome.FAILED:
            slashed[record.agent_id] += record.bond_lamports * slash_basis_points // BASIS_POINTS
    return slashed


def slash_complaints(expected: Mapping[str, int], actual: Mapping[str, int]) -> list[str]:
    """Agents that lost more or less than they should have."""
    return [
        f"{agent_id} was slashed {actual.get(agent_id, 0):,} lamports, {lamports:,} were due"
        for agent_id, lamports in sorted(expected.items())
        if actual.get(agent_id, 0) != lamports
    ]


def _outcome_complaints(workflow: Workflow, board: Board, expected: Expectation) -> Iterator[str]:
    built_on_fault = workflow.descendants(expected.failing)
    must_fail = expected.failing - built_on_fault
    ended = {task_id: record.outcome for task_id, record in board.records.items()}
    lost = (Outcome.ROLLED_BACK, Outcome.SKIPPED)

    def wrong(tasks: frozenset[str], *allowed: Outcome) -> list[str]:
        return sorted(task_id for task_id in tasks if ended[task_id] not in allowed)

    sound = workflow.task_ids - must_fail - built_on_fault
    yield from _name("should have been confirmed", wrong(sound, Outcome.CONFIRMED), board)
    yield from _name("should have failed", wrong(must_fail, Outcome.FAILED), board)
    # A faulty task below another one may be judged in the same batch, and then fails by its own fault.
    yield from _name(
        "should have been rolled back or skipped",
        wrong(built_on_fault - expected.failing, *lost)
        + wrong(built_on_fault & expected.failing, *lost, Outcome.FAILED),
        board,
    )


def _name(what: str, tasks: list[str], board: Board) -> Iterator[str]:
    if not tasks:
        return
    shown = "; ".join(f"{task_id}: {_state(board, task_id)}" for task_id in tasks[:NAMED])
    more = f" and {len(tasks) - NAMED} more" if len(tasks) > NAMED else ""
    yield f"{len(tasks)} task(s) {what} ({shown}{more})"


def _state(board: Board, task_id: str) -> str:
    record = board.records[task_id]
    state = "not ended" if record.outcome is None else record.outcome.value
    return f"{state} ({record.detail})" if record.detail else state
