"""Trouble on demand: what the runbook's incidents come from, each brought about by what really causes it."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.chain.faults import FaultPlan, Reorg
from coordinator.core.states import OperationState
from tests.coordinator.conftest import unique
from tests.docs.runbook.desk import Desk
from workers.messages import ProverError, ProverErrorCode


def roll_back_for_every_reason(desk: Desk) -> None:
    """Every rollback that there is, each by what really causes it."""
    with desk.operator() as operator:
        _cancelled(desk)
        _lost_to_a_rival(desk)
        unprovable(desk)
        guilty_parent(desk)
        _reorganised(desk)
        with desk.outage():
            desk.submit(desk.new_actor())
            operator.timeout_stale(0)
            victim = desk.new_actor()
            child = desk.submit(victim, desk.submit(victim))
            operator.emergency("disable_speculation", force=True)
            operator.set_config({"speculation.enabled": True})
        assert desk.wait(child) == OperationState.ROLLED_BACK
        with desk.outage():
            child = desk.submit(victim, desk.submit(victim))
            operator.emergency("drain_speculation", deadline_seconds=0)
            desk.until(
                "the drain ended", lambda: desk.wait(child, OperationState.SPECULATING) == "ROLLED_BACK"
            )
            operator.set_config({"speculation.enabled": True})


def _cancelled(desk: Desk) -> None:
    """An agent cancels an operation that another one builds on."""
    actor = desk.new_actor()
    with desk.outage(), actor.client as client:
        parent = desk.submit(actor)
        child = desk.submit(actor, parent)
        desk.until("it is not on its way", lambda: desk.wait(parent, OperationState.PROVED) == "PROVED")
        client.cancel(parent)
    assert desk.wait(child) == OperationState.ROLLED_BACK


def _lost_to_a_rival(desk: Desk) -> None:
    """Two agents do the same task; the one that is confirmed second is not."""
    task_id = unique("task")
    first, second = desk.new_actor(), desk.new_actor()
    with desk.outage():
        rivals = [desk.submit(first, task_id=task_id), desk.submit(second, task_id=task_id)]
    assert sorted(map(desk.wait, rivals)) == [OperationState.CONFIRMED, OperationState.ROLLED_BACK]


def unprovable(desk: Desk) -> None:
    """The prover fails at one operation again and again: a fault put between coordinator and worker."""
    pool = desk.system.service.parts.pool
    working, broken = pool.prove, unique("op")

    async def failing(worker_id: str, request: Any, timeout_s: float) -> Any:
        if any(one.task_id == f"task-of-{broken}".encode() for one in request.operations):
            raise ProverError(ProverErrorCode.INTERNAL, "a fault of this test")
        return await working(worker_id, request, timeout_s)

    pool.prove = failing  # type: ignore[method-assign]  # the seam for a fault that mock workers cannot have
    try:
        actor = desk.new_actor()
        with actor.client as client:
            client.submit(actor.body(broken))
        assert desk.wait(broken) == OperationState.ROLLED_BACK
    finally:
        pool.prove = working  # type: ignore[method-assign]  # as it was


def guilty_parent(desk: Desk) -> str:
    """The chain alone knows what a task asks for: its operation fails and is slashed, its child goes with it."""
    task_id, guilty = unique("task"), desk.new_actor()
    desk.system.service.parts.chain.preregister_task(task_id, bytes(32))
    with desk.outage():
        parent = desk.submit(guilty, task_id=task_id)
        child = desk.submit(guilty, parent)
    assert desk.wait(parent) == OperationState.FAILED
    assert desk.wait(child) == OperationState.ROLLED_BACK
    return guilty.agent_id


@contextlib.contextmanager
def hanging_workers(desk: Desk) -> Iterator[None]:
    """Every proof worker stands still, each with a batch of the load's, for less time than it takes to replace it."""
    workers = desk.system.service.parts.pool.workers
    pids = [worker.pid for worker in workers() if worker.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(0.5)  # a proof that was on its way when its worker was stopped has arrived
        desk.until("all are busy", lambda: all(one.state != "idle" for one in workers()))
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _reorganised(desk: Desk) -> None:
    """The chain undoes a batch that it had included, and does not take it again."""
    chain, actor = desk.system.service.parts.chain, desk.new_actor()
    for _ in range(20):  # until one is caught between its inclusion and its confirmation
        name = desk.submit(actor)
        desk.wait(name, OperationState.SUBMITTING)
        time.sleep(0.2)
        undone = Reorg(slot=chain.slot() + 1, depth=5)
        desk.faults(FaultPlan(reorgs=(undone,), rejected_tasks=frozenset({f"task-of-{name}"})))
        if desk.wait(name) == OperationState.ROLLED_BACK:
            break
    else:
        pytest.fail("no operation was caught in a reorganisation")
    desk.faults(FaultPlan())
