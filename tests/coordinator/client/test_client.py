"""Both clients against a running coordinator: typed answers, typed errors, waits, events."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from coordinator.client.aio import AsyncClient
from coordinator.client.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SpeculationDenied,
    Unauthorized,
    WaitTimeout,
)
from coordinator.client.retry import NO_RETRY
from coordinator.client.sync import Client
from coordinator.core.errors import ErrorCode
from coordinator.core.states import Denial, OperationState
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem, unique
from workers.statement import constraint_hash

CONFIRM_S = 60.0


@pytest.fixture
async def aclient(actor: Actor) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(actor.url, token=actor.token, retry=NO_RETRY) as client:
        yield client


class TestAsync:
    async def test_the_whole_way(self, aclient: AsyncClient, actor: Actor) -> None:
        body = actor.body(output=b"result")
        submitted = await aclient.submit(body)
        assert submitted.statement.constraint_hash == constraint_hash(b"result").hex()
        confirmed = await aclient.wait(body.operation_id, timeout_s=CONFIRM_S)
        assert confirmed.state == OperationState.CONFIRMED
        given = await aclient.output(body.operation_id, actor.agent_id)
        assert (given.output, given.final) == (b"result", True)
        assert (await aclient.receipt(body.operation_id))["operation"] == body.operation_id
        page = await aclient.operations(agent_id=actor.agent_id, state=OperationState.CONFIRMED)
        assert [operation.operation_id for operation in page.operations] == [body.operation_id]
        assert page.next_cursor is None

    async def test_a_batch_has_verdicts_and_no_exception(self, aclient: AsyncClient, actor: Actor) -> None:
        answer = await aclient.submit_batch([actor.body(), actor.body(None, "no-such-op")])
        assert [verdict.status for verdict in answer.results] == [202, 409]
        assert answer.results[1].error is not None
        assert answer.results[1].error["code"] == ErrorCode.UNKNOWN_PARENT

    async def test_stake_and_tasks(self, aclient: AsyncClient, actor: Actor) -> None:
        assert (await aclient.deposit(actor.agent_id, 5)).balance_lamports == 1_000_000_005
        assert (await aclient.withdraw(actor.agent_id, 5)).balance_lamports == 1_000_000_000
        task_id = unique("task")
        assert (await aclient.register_task(task_id, claim_ttl_s=60)).task_id == task_id
        assert (await aclient.claim_task(task_id)).claim_expires_at

    async def test_errors_are_typed(self, aclient: AsyncClient, actor: Actor) -> None:
        with pytest.raises(NotFound) as missing:
            await aclient.operation("no such op?#")
        assert missing.value.is_code(ErrorCode.UNKNOWN_OPERATION)
        with pytest.raises(Forbidden):
            await aclient.deposit("someone-else", 1)
        with pytest.raises(Forbidden):
            await aclient.set_config({"speculation.max_depth": 1})
        with pytest.raises(Conflict) as conflict:
            await aclient.submit(actor.body(None, "no-such-op"))
        assert conflict.value.is_code(ErrorCode.UNKNOWN_PARENT)
        with pytest.raises(Invalid) as invalid:
            await aclient.submit(actor.body(salt=b"short"))
        assert invalid.value.field == "salt"
        async with AsyncClient(actor.url, token="wrong") as stranger:
            with pytest.raises(Unauthorized):
                await stranger.deposit(actor.agent_id, 1)

    async def test_a_wait_that_is_too_short(
        self, aclient: AsyncClient, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        body = actor.body()
        await aclient.submit(body)
        with pytest.raises(WaitTimeout) as caught:
            await aclient.wait(body.operation_id, timeout_s=0.2)
        assert caught.value.operation.operation_id == body.operation_id
        queued = await aclient.wait(body.operation_id, OperationState.QUEUED, timeout_s=CONFIRM_S)
        assert queued.operation_id == body.operation_id

    async def test_a_denial_is_typed(
        self, aclient: AsyncClient, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        body = actor.body()
        await aclient.submit(body)
        await asyncio.to_thread(operator.set_config, {"speculation.features.rollout_percentage": 0})
        with pytest.raises(SpeculationDenied) as caught:
            await aclient.output(body.operation_id, actor.agent_id)
        assert caught.value.denial is Denial.ROLLOUT

    async def test_events_go_on_where_they_were(self, aclient: AsyncClient, actor: Actor) -> None:
        body = actor.body()
        await aclient.submit(body)
        seen = []
        async for event in aclient.events(after=0):
            seen.append(event)
            if event.name == "OperationsAdmitted" and body.operation_id in str(event.data):
                break
        following = aclient.events(after=seen[-2].seq)
        assert await anext(following) == seen[-1]

    async def test_new_events_arrive_as_they_happen(self, aclient: AsyncClient, actor: Actor) -> None:
        async def first() -> str:
            async for event in aclient.events():
                if actor.agent_id in str(event.data):
                    return event.name
            raise AssertionError("the stream ended")

        waiting = asyncio.create_task(first())
        while not waiting.done():
            await aclient.deposit(actor.agent_id, 1)
            await asyncio.sleep(0.05)
        assert await waiting == "StakeDeposited"


class TestSync:
    def test_the_whole_way(self, actor: Actor) -> None:
        with actor.client as client:
            body = actor.body()
            assert client.submit(body).operation_id == body.operation_id
            assert client.wait(body.operation_id, timeout_s=CONFIRM_S).state == OperationState.CONFIRMED
            assert client.output(body.operation_id, actor.agent_id).final
            assert client.submit_batch([body]).results[0].status == 200
            assert client.operations(agent_id=actor.agent_id).operations[0].operation_id == body.operation_id

    def test_the_operators_calls(self, operator: Client, system: RunningSystem) -> None:
        assert operator.health().speculation == "enabled"
        assert operator.status().env == "test"
        assert operator.set_config({"speculation.max_depth": 2}).after == {"speculation.max_depth": 2}
        assert operator.config().keys["speculation.max_depth"].value == 2
        assert operator.workers().desired == 1
        assert operator.emergency("drain_speculation", deadline_seconds=1).latch == "draining"

    def test_a_wait_that_is_too_short(self, actor: Actor, operator: Client, frozen_chain: None) -> None:
        with actor.client as client:
            body = actor.body()
            client.submit(body)
            with pytest.raises(WaitTimeout):
                client.wait(body.operation_id, timeout_s=0.1)
            client.cancel(body.operation_id)
            with pytest.raises(Conflict) as caught:
                client.cancel(body.operation_id)
            assert caught.value.is_code(ErrorCode.NOT_CANCELLABLE)


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = {name: value for name, value in vars(kind).items() if callable(value) and name[0] != "_"}
        return {
            name: list(
                value.__code__.co_varnames[: value.__code__.co_argcount + value.__code__.co_kwonlyargcount]
            )
            for name, value in methods.items()
        }

    assert public(AsyncClient) == public(Client)


def test_the_operators_token_is_no_agents(system: RunningSystem, new_actor: Callable[..., Actor]) -> None:
    actor = new_actor()
    with Client(system.url, token=OPERATOR_TOKEN) as client:
        assert client.deposit(actor.agent_id, 1).balance_lamports == 1_000_000_001
