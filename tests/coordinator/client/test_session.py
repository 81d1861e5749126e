"""A session: submits again after rollbacks that are nobody's fault, and executes again only for other inputs."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from coordinator.client.aio import AsyncClient
from coordinator.client.errors import Conflict, NotFound, RolledBack
from coordinator.client.session import Session, Work
from coordinator.client.sync import Client
from coordinator.core.states import OperationState
from tests.coordinator.conftest import Actor, RunningSystem, unique

CONFIRM_S = 60.0


class Agent:
    """Work that counts how often it is executed."""

    def __init__(self, session: Session, client: AsyncClient) -> None:
        self.session = session
        self.client = client
        self.executed: list[tuple[str, dict[str, bytes]]] = []

    def work(self, name: str, *parents: str) -> Work:
        async def execute(inputs: Mapping[str, bytes]) -> bytes:
            self.executed.append((name, dict(inputs)))
            return b"|".join([name.encode(), *inputs.values()])

        return Work(
            operation_id=name,
            task_id=f"task-{name}",
            operation_type="test",
            execute=execute,
            parents=parents,
        )

    def executions(self, name: str) -> int:
        return [executed for executed, _ in self.executed].count(name)


@pytest.fixture
async def agent(actor: Actor) -> AsyncIterator[Agent]:
    async with AsyncClient(actor.url, token=actor.token) as client:
        yield Agent(Session(client, agent_id=actor.agent_id, secret=actor.secret), client)


async def submitted(agent: Agent, operation_id: str) -> None:
    """Wait until the operation is known."""
    while True:
        try:
            await agent.client.operation(operation_id)
        except NotFound:
            await asyncio.sleep(0.02)
        else:
            return


async def test_a_chain_of_work_gets_its_parents_outputs(agent: Agent, operator: Client) -> None:
    first, second = unique("first"), unique("second")
    running = asyncio.create_task(agent.session.run(agent.work(first)))
    await submitted(agent, first)
    ended = [await agent.session.run(agent.work(second, first)), await running]
    assert [operation.state for operation in ended] == ["CONFIRMED", "CONFIRMED"]
    assert dict(agent.executed)[second] == {first: first.encode()}


async def test_a_timeout_is_submitted_again_without_executing_again(
    agent: Agent, operator: Client, system: RunningSystem, frozen_chain: None
) -> None:
    name = unique("op")
    running = asyncio.create_task(agent.session.run(agent.work(name)))
    await submitted(agent, name)
    await asyncio.to_thread(operator.timeout_stale, 0)
    await submitted(agent, f"{name}~1")
    again, before = await agent.client.operation(f"{name}~1"), await agent.client.operation(name)
    assert (again.retry_of, before.replaced_by) == (name, f"{name}~1")
    assert again.statement.output_commitment == before.statement.output_commitment
    assert agent.executions(name) == 1
    running.cancel()


async def test_descendants_follow_their_parents_replacement(
    agent: Agent, operator: Client, frozen_chain: None
) -> None:
    parent, child = unique("parent"), unique("child")
    runs = [asyncio.create_task(agent.session.run(agent.work(parent)))]
    await submitted(agent, parent)
    runs.append(asyncio.create_task(agent.session.run(agent.work(child, parent))))
    await submitted(agent, child)
    await asyncio.to_thread(operator.timeout_stale, 0)
    await submitted(agent, f"{child}~1")
    assert (await agent.client.operation(f"{child}~1")).depends_on == (f"{parent}~1",)
    assert (agent.executions(parent), agent.executions(child)) == (1, 1)
    for run in runs:
        run.cancel()


async def test_what_was_cancelled_is_not_submitted_again(
    agent: Agent, operator: Client, frozen_chain: None
) -> None:
    name = unique("op")
    running = asyncio.create_task(agent.session.run(agent.work(name)))
    await submitted(agent, name)
    await agent.client.cancel(name)
    with pytest.raises(RolledBack) as caught:
        await running
    assert (caught.value.operation.state, caught.value.operation.reason) == (
        OperationState.ROLLED_BACK,
        "cancelled",
    )


async def test_a_refusal_is_the_callers(agent: Agent, actor: Actor) -> None:
    name = unique("op")
    await agent.session.run(agent.work(name))
    with pytest.raises(Conflict):
        await agent.session.run(agent.work(name))


async def test_too_many_rollbacks_end_it(actor: Actor, operator: Client, frozen_chain: None) -> None:
    async with AsyncClient(actor.url, token=actor.token) as client:
        session = Session(client, agent_id=actor.agent_id, secret=actor.secret, max_attempts=2)
        agent = Agent(session, client)
        name = unique("op")
        running = asyncio.create_task(session.run(agent.work(name)))
        for attempt in (name, f"{name}~1"):
            await submitted(agent, attempt)
            await asyncio.to_thread(operator.timeout_stale, 0)
        with pytest.raises(RolledBack):
            await running
