"""The server's life: open the service, listen, answer until told to stop, close."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer

from coordinator.chain.faults import FaultPlan
from coordinator.cli.errors import CliError
from coordinator.http.app import create_app
from coordinator.service import Service
from coordinator.settings import Settings
from coordinator.shell.machine import Machine
from coordinator.tls import tls_of
from coordinator.tokens import OperatorTokens
from workers.http_server import HttpServer

ENDPOINTS_FILE = "endpoints.json"
#: Open requests (event streams, long polls) are cut after this long once the server is told to stop.
GRACE_S = 3


async def serve(
    settings: Settings, plan: FaultPlan, tasks: Mapping[str, bytes], *, machine: Machine | None = None
) -> None:
    """Opens the service, serves it until a signal, and closes it whatever happened. `machine` None: the real one."""
    stopping = asyncio.Event()
    _stop_on_signals(stopping)
    with contextlib.closing(_listen(settings.text("admin.host"), settings.integer("admin.port"))) as listener:
        opening = Service.open(settings, faults=plan, chain_tasks=tasks, clock_ms=_clock_ms, machine=machine)
        service = await _unless(stopping, opening)
        if service is None:
            return
        _stop_on_signals(
            stopping
        )  # Ray has put handlers of its own in their place, which print a crash report
        try:
            app = create_app(service, operators=_operators(settings))
            server = HttpServer(app, tls=tls_of(settings), grace_s=GRACE_S)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await server.listening.wait()
            with _announced(settings, listener, workers_port=service.parts.node.port):
                await _until(stopping, serving)
            # Whoever waits for a profile is answered before connections are cut.
            await service.profiler.stop()
            server.should_exit = True
            await serving
        finally:
            await service.close()


def _stop_on_signals(stopping: asyncio.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)


def _operators(settings: Settings) -> OperatorTokens:
    """The operator's tokens; the one that is made at the first start is shown this once."""
    operators, made = OperatorTokens.open(settings, Path(settings.text("data_dir")))
    if made is not None:
        typer.echo(f"the operator's token, shown this once: {made}")
    return operators


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise CliError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return listener


_T = TypeVar("_T")


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The work's result; None when the stop came first, the work being cancelled and gone."""
    task = asyncio.ensure_future(work)
    await _until(stopping, task)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def _until(stopping: asyncio.Event, task: asyncio.Future[Any]) -> None:
    """Waits for the stop or the task's end, whichever is first."""
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({stop, task}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()


@contextlib.contextmanager
def _announced(settings: Settings, listener: socket.socket, *, workers_port: int) -> Iterator[None]:
    """Says where the server answers, to people on standard output and to programs in the data folder."""
    host = settings.text("admin.host")
    shown = f"[{host}]" if ":" in host else host
    scheme = "http" if tls_of(settings) is None else "https"
    endpoints = {
        "url": f"{scheme}://{shown}:{listener.getsockname()[1]}",
        "workers_url": f"{scheme}://{shown}:{workers_port}",
        "pid": os.getpid(),
    }
    path = Path(settings.text("data_dir")) / ENDPOINTS_FILE
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(endpoints) + "\n")
    unfinished.replace(path)
    typer.echo(
        f"agenc is ready at {endpoints['url']} (proof workers at {endpoints['workers_url']}); "
        f"profile {settings.env}, data in {path.parent}; Ctrl-C stops it"
    )
    sys.stdout.flush()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
