"""kill -9 of the server at random instants under load: what was acknowledged is there and is confirmed once.

Real server processes, the real client, real disk. The many kills are of a server without Ray (`light_server.py`), since
Ray takes seconds to start; the long target kills the whole one too, with real workers and real proofs.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
_DEPOSIT = 10**9
_CHAIN = 5
_ENVIRONMENT = {"AGENC_SPECULATION_ENABLED": "true", "AGENC_SPECULATION_MODE": "aggressive"}


class Load:
    """Agents' work over all the lives of a server; `acknowledged` are the operations that a server took."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.acknowledged: set[str] = set()
        self.instants = random.Random(seed)
        self._salts = random.Random(seed + 1)
        self._token = folder / "token"
        self._count = 0

    async def register(self, url: str) -> None:
        """The agent, once."""
        if not self._token.exists():
            async with AsyncClient(url) as client:
                registered = await client.register_agent(
                    "agent-1", agent_key=agent_key(_SECRET), deposit_lamports=_DEPOSIT
                )
            self._token.write_text(registered.token)

    def client(self, url: str) -> AsyncClient:
        return AsyncClient(url, token=self._token.read_text(), retry=NO_RETRY)

    async def work(self, url: str, *, chains: int) -> None:
        """Chains of operations, each but the first built on the one before, sent beside each other until it dies."""
        async with self.client(url) as client:
            await asyncio.gather(*(self._chain(client) for _ in range(chains)))

    async def _chain(self, client: AsyncClient) -> None:
        with contextlib.suppress(Unreachable, ApiError):
            while True:
                first = self._count
                self._count += _CHAIN
                for number in range(first, first + _CHAIN):
                    operation = self._operation(number, first)
                    await client.submit(operation)
                    self.acknowledged.add(operation.operation_id)

    def _operation(self, number: int, first: int) -> OperationBody:
        return OperationBody(
            operation_id=f"op-{number}",
            agent_id="agent-1",
            task_id=f"task-{number}",
            operation_type="step",
            depends_on=() if number == first else (f"op-{number - 1}",),
            output=f"result {number}".encode(),
            salt=self._salts.randbytes(24),
            secret=_SECRET,
        )

    async def require_all_confirmed_once(self, url: str) -> None:
        """Everything that was acknowledged is confirmed; log, invariants and chain agree; no lamport moved."""
        assert self.acknowledged, "no operation was acknowledged: nothing was tested"
        async with self.client(url) as client:
            for operation_id in sorted(self.acknowledged):
                operation = await client.wait(operation_id, OperationState.CONFIRMED, timeout_s=60)
                assert operation.state == "CONFIRMED", operation
            agent = await client.agent("agent-1")
        assert agent.slashed_lamports == 0
        assert agent.balance_lamports + agent.bonded_lamports == _DEPOSIT
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as raw:
            report = (await raw.get("/admin/integrity-check")).json()
        assert report["status"] == "ok", report


class LightServers:
    """Servers without Ray on one folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.light_server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert self._heard() == ["loaded"]

    def start(self) -> tuple[str, int]:
        """The next one's URL and process."""
        assert self._process.stdin is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        url, pid = self._heard()
        return url, int(pid)

    def kill(self, pid: int) -> None:
        """kill -9, and its end."""
        os.kill(pid, signal.SIGKILL)
        assert self._heard() == ["ended", str(-signal.SIGKILL)]

    def stop(self, pid: int) -> None:
        """The last one ends in order."""
        os.kill(pid, signal.SIGTERM)
        assert self._heard() == ["ended", "0"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _heard(self) -> list[str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the servers' parent ended"
        return line.split()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[LightServers]:
    made = LightServers(tmp_path / "data")
    yield made
    made.close()


async def _crash_and_recover(servers: LightServers, load: Load, *, kills: int) -> None:
    for _ in range(kills):
        url, pid = servers.start()
        await load.register(url)
        working = asyncio.create_task(load.work(url, chains=4))
        await asyncio.sleep(load.instants.uniform(0.0, 0.6))
        servers.kill(pid)
        await working
    url, pid = servers.start()
    await load.require_all_confirmed_once(url)
    servers.stop(pid)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("nothing_left_behind")
async def test_acknowledged_operations_survive_kill_9(servers: LightServers, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await _crash_and_recover(servers, Load(tmp_path, seed), kills=10)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_acknowledged_operations_survive_kill_9_many_times(
    servers: LightServers, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await _crash_and_recover(servers, Load(tmp_path, seed), kills=200)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.usefixtures("nothing_left_behind")
async def test_a_whole_system_with_real_proofs_survives_kill_9(tmp_path: Path) -> None:
    load = Load(tmp_path, random.randrange(2**32))
    for _ in range(20):
        async with Embedded(tmp_path, environment=_ENVIRONMENT) as system:
            await load.register(system.endpoints.url)
            working = asyncio.create_task(load.work(system.endpoints.url, chains=1))
            await asyncio.sleep(load.instants.uniform(0.02, 3.0))
            os.kill(_server_of(tmp_path), signal.SIGKILL)
            await working
    async with Embedded(tmp_path, environment=_ENVIRONMENT) as system:
        await load.require_all_confirmed_once(system.endpoints.url)


def _server_of(folder: Path) -> int:
    endpoints: dict[str, Any] = json.loads((folder / "data" / "endpoints.json").read_text())
    return int(endpoints["pid"])
