"""Single submissions are hashed together, and each gets its own."""

import asyncio
import os

import pytest

from coordinator.shell import hashing
from coordinator.shell.hashing import MAX_GROUP, GroupHasher
from coordinator.shell.statements import Prepared, submissions_of
from coordinator.submission import NewOperation
from workers.statement import OperationWitness

DOMAIN = b"test"


def prepared(number: int) -> Prepared:
    operation = NewOperation(
        operation_id=f"op-{number}",
        agent_id="agent",
        task_id=f"task-{number}",
        operation_type="test",
        depends_on=(),
        parent_outputs=None,
        output=bytes([number % 256]) * number,
        salt=os.urandom(24),
        secret=bytes(24),
        priority=0,
        deadline_ms=None,
        retry_of=None,
    )
    witness = OperationWitness(
        task_id=operation.task_id.encode(),
        agent_id=b"agent",
        output=operation.output,
        salt=operation.salt,
        secret=operation.secret,
    )
    return Prepared(operation, witness, bytes(32))


async def test_each_gets_what_it_would_have_got_alone() -> None:
    hasher = GroupHasher(DOMAIN)
    items = [prepared(number) for number in range(2 * MAX_GROUP + 3)]
    together = await asyncio.gather(*map(hasher.submission, items))
    assert together == submissions_of(DOMAIN, items, None)


async def test_those_of_one_moment_are_hashed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []

    def counted(domain: bytes, items: list[Prepared], commitments: None) -> object:
        groups.append(len(items))
        return submissions_of(domain, items, commitments)

    monkeypatch.setattr(hashing, "submissions_of", counted)
    hasher = GroupHasher(DOMAIN)
    await asyncio.gather(*(hasher.submission(prepared(number)) for number in range(MAX_GROUP + 5)))
    await hasher.submission(prepared(1))
    assert groups == [MAX_GROUP, 5, 1]


async def test_a_caller_that_is_gone_and_an_error_leave_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasher = GroupHasher(DOMAIN)
    gone, stays = (asyncio.create_task(hasher.submission(prepared(number))) for number in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).operation_id == "op-2"

    def broken(domain: bytes, items: list[Prepared], commitments: None) -> object:
        raise RuntimeError("a defect")

    monkeypatch.setattr(hashing, "submissions_of", broken)
    with pytest.raises(RuntimeError):
        await hasher.submission(prepared(3))
