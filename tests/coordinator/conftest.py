"""A real coordinator for the tests of everything that talks to it: service, workers (mock proofs), chain,
HTTP.
"""

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI

from coordinator.client.retry import NO_RETRY
from coordinator.client.sync import Client
from coordinator.http.app import create_app
from coordinator.service import Service
from coordinator.settings import Settings
from coordinator.submission import OperationBody
from coordinator.tokens import OperatorTokens
from workers.http_server import HttpServer
from workers.statement import agent_key

T = TypeVar("T")

OPERATOR_TOKEN = "operators-token"
START_TIMEOUT_S = 120.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class RunningSystem:
    """One coordinator on an event loop in a thread of its own, answering on a free port, or on the one given."""

    def __init__(
        self,
        folder: Path,
        environ: dict[str, str],
        *,
        port: int = 0,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.settings = Settings.load("test", None, environ | {"AGENC_DATA_DIR": str(folder)})
        self.folder = folder
        self.service: Service
        self.app: FastAPI
        self._loop: asyncio.AbstractEventLoop
        self._server: HttpServer
        self._clock_ms = clock_ms
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="system", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT_S), "the system did not start in time"
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(START_TIMEOUT_S)
        assert not self._thread.is_alive(), "the system did not stop in time"

    def on_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something on the system's own loop."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(START_TIMEOUT_S)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call something on the system's own loop, soon."""
        self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # handed to the test that waits for the start
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.service = await Service.open(self.settings, clock_ms=self._clock_ms)
        try:
            operators, _ = OperatorTokens.open(self.settings, self.folder)
            self.app = create_app(self.service, operators=operators)
            self._server = HttpServer(self.app, grace_s=2)
            # Connections wait in the socket until the server takes them.
            self._ready.set()
            await self._server.serve(sockets=[self._socket])
        finally:
            await self.service.close()


#: Mock proofs, slots of 20 ms, the operator's token.
QUICK = {
    "AGENC_ADMIN_TOKEN": OPERATOR_TOKEN,
    "AGENC_ADMIN_WORKERS_PORT": "0",
    "AGENC_CHAIN_SLOT_MS": "20",
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
}
OPEN_REGISTRATION = {"AGENC_AGENTS_OPEN_REGISTRATION": "true"}
ONE_WORKER = {"AGENC_SPECULATION_PROOF_WORKER_THREADS": "1"}


@contextmanager
def running(folder: Path, environ: dict[str, str]) -> Iterator[RunningSystem]:
    """A system that is stopped whatever happens to the test."""
    system = RunningSystem(folder, environ)
    system.start()
    try:
        yield system
    finally:
        system.stop()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Open registration and one worker; shared by the tests of one file."""
    with running(tmp_path_factory.mktemp("system"), QUICK | OPEN_REGISTRATION | ONE_WORKER) as started:
        yield started


@pytest.fixture
def operator(system: RunningSystem) -> Iterator[Client]:
    """The operator's client; what it changed at run time is taken back after the test."""
    with Client(system.url, token=OPERATOR_TOKEN) as client:
        client.set_config({"speculation.enabled": True})
        yield client
        client.set_config({"speculation.enabled": True})  # ends a stop
        client.set_config(dict.fromkeys(system.service.engine.state.overrides))


@pytest.fixture
def frozen_chain(system: RunningSystem) -> Iterator[None]:
    """Nothing is posted and nothing confirmed during the test; what earlier tests left open has ended before."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while system.service.engine.state.live:
        assert time.monotonic() < deadline_s, "operations of earlier tests do not end"
        time.sleep(0.02)
    posting = system.service.parts.posting
    working = posting.round

    async def idle() -> None:
        """A round in which nothing was heard."""

    # Between two rounds of the loop, so that none is cut off.
    posting.round = idle  # type: ignore[method-assign]  # the one way to hold a chain that has no pause
    time.sleep(0.1)
    yield
    posting.round = working  # type: ignore[method-assign]  # as it was
    system.call_soon(posting.wake)


@dataclass
class Actor:
    """A registered agent with its token, and the operations it can make."""

    agent_id: str
    secret: bytes
    token: str
    url: str

    @property
    def client(self) -> Client:
        return Client(self.url, token=self.token, retry=NO_RETRY)

    def body(self, operation_id: str | None = None, *parents: str, **fields: Any) -> OperationBody:
        """An operation of a task of its own, unless the fields say otherwise."""
        name = operation_id or unique("op")
        values: dict[str, Any] = {
            "operation_id": name,
            "agent_id": self.agent_id,
            "task_id": f"task-of-{name}",
            "operation_type": "test",
            "depends_on": parents,
            "output": f"output of {name}".encode(),
            "salt": os.urandom(24),
            "secret": self.secret,
        }
        return OperationBody(**(values | fields))


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


@pytest.fixture
def new_actor(system: RunningSystem) -> Callable[..., Actor]:
    """Registers an agent that no other test has."""

    def register(deposit_lamports: int = 1_000_000_000) -> Actor:
        secret, agent_id = os.urandom(24), unique("agent")
        with Client(system.url) as client:
            registered = client.register_agent(
                agent_id, agent_key=agent_key(secret), deposit_lamports=deposit_lamports
            )
        return Actor(agent_id, secret, registered.token, system.url)

    return register


@pytest.fixture
def actor(new_actor: Callable[..., Actor]) -> Actor:
    return new_actor()
