import io

from rich.console import Console

from coordinator.cli.progress import progress_for
from coordinator.replay.board import Board, Outcome
from coordinator.replay.session import Admission
from coordinator.replay.workflow import Task, Workflow

WORKFLOW = Workflow("w", tuple(Task(name, name, (), 1.0) for name in "abcd"))


def board() -> Board:
    """One task confirmed, one failed, one in flight, one not begun."""
    board = Board.for_workflow(WORKFLOW, ["agent-1"])
    for task in "abc":
        board.publish(task, f"op-{task}", Admission(bond_lamports=0))
    board.end("a", Outcome.CONFIRMED, now_s=1.0)
    board.end("b", Outcome.FAILED, now_s=1.0)
    return board


def shown(*, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    with progress_for(console) as progress:
        for title in ("without speculation", "with speculation"):
            progress.phase(title, "the system starts", total=4)
            progress.tasks(board())
            progress.phase(title, "the receipts are fetched", total=4)
    return text.getvalue()


def test_a_terminal_shows_a_bar_with_what_is_under_way() -> None:
    drawn = shown(terminal=True)
    assert "with speculation" in drawn
    assert "2/4" in drawn


def test_elsewhere_each_phase_is_a_line() -> None:
    assert shown(terminal=False).splitlines() == [
        "without speculation: the system starts",
        "without speculation: the receipts are fetched",
        "with speculation: the system starts",
        "with speculation: the receipts are fetched",
    ]
