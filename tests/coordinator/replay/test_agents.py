"""The agents' life against a system in memory that confirms, refuses and rolls back as a script says."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.states import OperationState
from coordinator.replay.agents import Cast, Options
from coordinator.replay.board import Board, Outcome
from coordinator.replay.names import api_task_id, operation_type
from coordinator.replay.outputs import lying_output, true_outputs
from coordinator.replay.session import (
    Admission,
    Ending,
    ParentGoneError,
    ParentResult,
    SubmissionRefusedError,
)
from coordinator.replay.workflow import Task, Workflow
from coordinator.submission import ID_PATTERN, TYPE_PATTERN

CONFIRMED = Ending(OperationState.CONFIRMED, "")


def rolled_back(reason: str) -> Ending:
    return Ending(OperationState.ROLLED_BACK, reason)


@dataclass
class Operation:
    task_id: str
    output: bytes
    salt: bytes
    parents: list[str]
    retry_of: str | None
    ending: asyncio.Future[Ending]


@dataclass
class System:
    """Ends each task's tries as `script` says, in order; any other is confirmed after its parents."""

    script: dict[str, list[Ending]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    speculation: bool = True
    operations: dict[str, Operation] = field(default_factory=dict)

    def of_task(self, task_id: str) -> list[Operation]:
        return [operation for operation in self.operations.values() if operation.task_id == task_id]

    def dead(self, operation_id: str) -> bool:
        ending = self.operations[operation_id].ending
        return ending.done() and ending.result() != CONFIRMED

    async def output(
        self, operation_id: str, *, gone: Awaitable[None], denied: Callable[[str], None]
    ) -> ParentResult:
        operation = self.operations[operation_id]
        asyncio.ensure_future(gone).cancel()
        if not self.speculation:
            denied("disabled")
            await asyncio.shield(operation.ending)
        if self.dead(operation_id):
            raise ParentGoneError
        return ParentResult(operation_id, operation.output, b"", final=operation.ending.done())

    async def submit(
        self,
        *,
        operation_id: str,
        task_id: str,
        operation_type: str,
        parents: Sequence[ParentResult],
        output: bytes,
        salt: bytes,
        retry_of: str | None,
    ) -> Admission:
        if task_id in self.refused:
            raise SubmissionRefusedError("stake_insufficient", "no stake")
        if any(self.dead(parent.operation_id) for parent in parents):
            raise ParentGoneError
        ending = asyncio.get_running_loop().create_future()
        ids = [parent.operation_id for parent in parents]
        self.operations[operation_id] = Operation(task_id, output, salt, ids, retry_of, ending)
        asyncio.get_running_loop().call_later(0.002, self._judge, operation_id)
        return Admission(bond_lamports=1000)

    def _judge(self, operation_id: str) -> None:
        operation = self.operations[operation_id]
        if operation.ending.done():
            return
        script = self.script.get(operation.task_id, [])
        if script:
            self._end(operation_id, script.pop(0))
        elif all(self.operations[parent].ending.done() for parent in operation.parents):
            self._end(operation_id, CONFIRMED)
        else:
            asyncio.get_running_loop().call_later(0.002, self._judge, operation_id)

    def _end(self, operation_id: str, ending: Ending) -> None:
        """Descendants end before their ancestors, as they do in the real one."""
        if self.operations[operation_id].ending.done():
            return
        if ending != CONFIRMED:
            failed = ending.state is OperationState.FAILED or ending.reason == "parent_failed"
            reason = "parent_failed" if failed else "parent_rolled_back"
            for child_id, child in list(self.operations.items()):
                if operation_id in child.parents:
                    self._end(child_id, rolled_back(reason))
        self.operations[operation_id].ending.set_result(ending)

    async def follow(self, operation_id: str) -> Ending:
        return await self.operations[operation_id].ending


def graph(parents: dict[str, list[str]]) -> Workflow:
    return Workflow("w", tuple(Task(name, name, tuple(ends), 1.0) for name, ends in parents.items()))


CHAIN = graph({"a": [], "b": ["a"], "c": ["b"], "d": []})


async def test_speculation_serves_first_what_others_build_on() -> None:
    system = System()
    leaf_first = graph({"a": [], "leaf": ["a"], "b": ["a"], "x": ["b"], "c": ["x"], "y": ["c"]})
    board = await play(leaf_first, system, awaited_first=True)
    assert board.by_outcome(Outcome.CONFIRMED) == leaf_first.task_ids
    order = [operation.task_id for operation in system.operations.values()]
    # agent-2 has leaf, x and y: leaf waits for x, which c builds on; y is a leaf as well
    assert order.index("x") < order.index("leaf")


async def play(workflow: Workflow, system: System, **options: object) -> Board:
    board = Board.for_workflow(workflow, ["agent-1", "agent-2"])
    sessions = {"agent-1": system, "agent-2": system}
    behaviour = Options(time_scale=0.001, **options)  # type: ignore[arg-type]  # a test's shorthand
    async with asyncio.timeout(20):
        await Cast(workflow, board, sessions, behaviour).play()
    assert sum(board.count(outcome) for outcome in Outcome) == len(workflow.tasks)
    return board


async def test_every_task_is_confirmed_with_its_true_output() -> None:
    system = System()
    board = await play(CHAIN, system)
    assert board.by_outcome(Outcome.CONFIRMED) == CHAIN.task_ids
    truth = true_outputs(CHAIN)
    assert {op.task_id: op.output for op in system.operations.values()} == truth
    assert not board.rollbacks
    assert [board.records[task].agent_id for task in "abcd"] == ["agent-1", "agent-2"] * 2


@pytest.mark.parametrize("reason", ["confirmation_timeout", "chain_reorg", "drained"])
async def test_an_unlucky_operation_and_its_descendants_are_resubmitted_without_executing_again(
    reason: str,
) -> None:
    system = System(script={"a": [rolled_back(reason)]})
    board = await play(CHAIN, system)
    assert board.by_outcome(Outcome.CONFIRMED) == CHAIN.task_ids
    first, second = system.of_task("a")
    assert (second.output, second.salt) == (first.output, first.salt)
    assert system.operations[str(second.retry_of)] is first
    assert all(board.records[task].executions == 1 for task in "abcd")
    assert board.rollbacks[reason] == 1
    for child in system.of_task("b")[1:]:
        assert child.retry_of is not None


async def test_what_built_on_a_failed_operation_is_rolled_back_or_skipped_and_nothing_else() -> None:
    failed = Ending(OperationState.FAILED, "constraint_mismatch")
    system = System(script={"a": [failed]})
    board = await play(CHAIN, system, lies=frozenset("a"))
    assert system.of_task("a")[0].output == lying_output("a", [])
    assert board.records["a"].outcome is Outcome.FAILED
    assert board.records["a"].detail == "constraint_mismatch"
    lost = {board.records["b"].outcome, board.records["c"].outcome}
    assert lost <= {Outcome.ROLLED_BACK, Outcome.SKIPPED}
    assert board.records["d"].outcome is Outcome.CONFIRMED


async def test_without_speculation_nothing_is_built_on_a_failed_operation() -> None:
    system = System(script={"a": [Ending(OperationState.FAILED, "chain_refused")]}, speculation=False)
    board = await play(CHAIN, system)
    assert board.by_outcome(Outcome.SKIPPED) == {"b", "c"}
    assert not system.of_task("b")
    assert not board.rollbacks


@pytest.mark.parametrize("reason", ["proof_failed", "cancelled", "emergency", "stake_insufficient"])
async def test_after_other_rollbacks_the_task_is_over(reason: str) -> None:
    system = System(script={"a": [rolled_back(reason)]})
    board = await play(CHAIN, system)
    assert board.records["a"].outcome is Outcome.ROLLED_BACK
    assert board.records["a"].detail == reason
    assert len(system.of_task("a")) == 1
    assert board.by_outcome(Outcome.CONFIRMED) == {"d"}


async def test_a_refused_submission_ends_its_task_and_says_why() -> None:
    board = await play(CHAIN, System(refused=frozenset("b")))
    assert board.records["b"].outcome is Outcome.FAILED
    assert "stake_insufficient" in board.records["b"].detail
    assert board.records["c"].outcome is Outcome.SKIPPED


async def test_agents_that_do_not_speculate_submit_only_on_confirmed_parents() -> None:
    system = System()
    submitted_early: list[str] = []
    submit = system.submit

    async def watched(**given: object) -> Admission:
        parents = given["parents"]
        assert isinstance(parents, list)
        submitted_early.extend(p.operation_id for p in parents if not p.final)
        return await submit(**given)  # type: ignore[arg-type]  # passed through as it came

    system.submit = watched  # type: ignore[method-assign]  # the one way to see what is submitted when
    board = await play(CHAIN, system, speculate=False)
    assert board.by_outcome(Outcome.CONFIRMED) == CHAIN.task_ids
    assert not submitted_early


@given(st.text(min_size=1, max_size=200), st.sampled_from(["", "~ab12cd34"]))
def test_any_task_id_becomes_one_that_the_api_takes(task_id: str, suffix: str) -> None:
    taken = api_task_id(task_id, suffix=suffix)
    assert re.match(ID_PATTERN, taken)
    assert taken.endswith(suffix)
    assert re.match(TYPE_PATTERN, operation_type(task_id))


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_different_task_ids_stay_different(one: str, other: str) -> None:
    assert (api_task_id(one) == api_task_id(other)) == (one == other)
