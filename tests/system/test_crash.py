"""kill -9 of the whole server at random instants under load: what was acknowledged is there and is confirmed once.

Real server processes, real Ray workers, real proofs, the real client.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from pathlib import Path

import httpx
import pytest

from coordinator.client import AsyncClient
from coordinator.client.errors import ApiError, Unreachable
from coordinator.client.retry import NO_RETRY
from coordinator.core.states import OperationState
from coordinator.replay.embedded import Embedded
from coordinator.submission import OperationBody
from workers.statement import agent_key

_SECRET = bytes(range(24))
_ENVIRONMENT = {"AGENC_SPECULATION_ENABLED": "true", "AGENC_SPECULATION_MODE": "aggressive"}


def _operation(number: int, salts: random.Random) -> OperationBody:
    """Chains of five: each but the first builds on the one before."""
    parents = () if number % 5 == 0 else (f"op-{number - 1}",)
    return OperationBody(
        operation_id=f"op-{number}",
        agent_id="agent-1",
        task_id=f"task-{number}",
        operation_type="step",
        depends_on=parents,
        output=f"result {number}".encode(),
        salt=salts.randbytes(24),
        secret=_SECRET,
    )


async def _submit_until_killed(
    client: AsyncClient, operations: list[OperationBody], acknowledged: set[str]
) -> None:
    with contextlib.suppress(Unreachable, ApiError):
        for operation in operations:
            await client.submit(operation)
            acknowledged.add(operation.operation_id)


def _kill_server(folder: Path) -> None:
    os.kill(json.loads((folder / "data" / "endpoints.json").read_text())["pid"], signal.SIGKILL)


async def _crash_and_recover(folder: Path, *, kills: int, seed: int) -> None:
    instants = random.Random(seed)
    salts = random.Random(seed + 1)
    acknowledged: set[str] = set()
    submitted = 0
    for turn in range(kills + 1):
        async with Embedded(folder, environment=_ENVIRONMENT) as system:
            async with AsyncClient(system.endpoints.url) as client:
                if turn == 0:
                    registered = await client.register_agent(
                        "agent-1", agent_key=agent_key(_SECRET), deposit_lamports=10**9
                    )
                    (folder / "token").write_text(registered.token)
            token = (folder / "token").read_text()
            async with AsyncClient(system.endpoints.url, token=token, retry=NO_RETRY) as client:
                if turn == kills:
                    await _everything_is_confirmed_once(client, system.endpoints.url, acknowledged)
                    return
                batch = [_operation(number, salts) for number in range(submitted, submitted + 40)]
                submitted += 40
                load = asyncio.create_task(_submit_until_killed(client, batch, acknowledged))
                await asyncio.sleep(instants.uniform(0.02, 3.0))
                _kill_server(folder)
                await load


async def _everything_is_confirmed_once(client: AsyncClient, url: str, acknowledged: set[str]) -> None:
    assert acknowledged, "no operation was acknowledged: nothing was tested"
    for operation_id in sorted(acknowledged):
        operation = await client.wait(operation_id, OperationState.CONFIRMED, timeout_s=60)
        assert operation.state == "CONFIRMED", operation
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as raw:
        report = (await raw.get("/admin/integrity-check")).json()
    assert report["status"] == "ok", report
    agent = await client.agent("agent-1")
    assert agent.slashed_lamports == 0
    assert agent.balance_lamports + agent.bonded_lamports == 10**9


@pytest.mark.timeout(300)
async def test_acknowledged_operations_survive_kill_9(tmp_path: Path) -> None:
    await _crash_and_recover(tmp_path, kills=2, seed=random.randrange(2**32))


@pytest.mark.long
@pytest.mark.timeout(7_200)
async def test_acknowledged_operations_survive_kill_9_many_times(tmp_path: Path) -> None:
    await _crash_and_recover(tmp_path, kills=200, seed=random.randrange(2**32))
