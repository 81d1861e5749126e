"""One host of a cluster: Ray's own processes, the slots it offers, and its 9091 endpoint. `agenc worker` runs one.

The endpoint belongs to the host and not to a worker on it: it answers while there is no worker yet, and none any more.
Ray drains for up to 30 s after SIGTERM: workers end the batch at hand, if that takes no longer.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from workers import node_folder
from workers.code_version import code_version
from workers.messages import StartError, StartErrorCode
from workers.node import LOOPBACK_NAMES, NodeServer
from workers.private_folder import PrivateFolder
from workers.ray_runtime import LOOPBACK_ONLY, SLOT_RESOURCE, code_resource

_log = structlog.get_logger(__name__)

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
DRAIN_S = 45.0
"""How long Ray may take to end after SIGTERM, its own drain of 30 s included."""

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LINES_KEPT = 20
_LONGEST_FOLDER_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """`ray_address`: the head's HOST:PORT. `host` and `port`: where the endpoint listens. `node_address`: this host's
    own address where Ray would choose another."""

    ray_address: str
    slots: int
    host: str
    port: int
    node_address: str | None = None
    object_store_bytes: int = 256 << 20


async def run_host(config: HostConfig, stop: asyncio.Event) -> None:
    """Join the cluster and serve until `stop`, or until Ray ends by itself.

    Raises:
        StartError: there is no token, the endpoint cannot listen, or Ray does not join or ended; with its last words.
    """
    _require_token(os.environ)
    folder = PrivateFolder(None, longest_bytes=_LONGEST_FOLDER_BYTES)
    server = NodeServer(
        lambda: node_folder.report(folder.path, slots=config.slots),
        host=config.host,
        port=config.port,
        allowed_hosts=names_of(config.host),
    )
    try:
        await server.start()
        _log.info("host_started", address=config.ray_address, slots=config.slots, port=server.port)
        await _run_ray(config, folder.path, stop)
    finally:
        await server.stop()
        folder.remove()


def names_of(host: str) -> tuple[str, ...]:
    """The names that requests may carry: where other hosts reach the endpoint anyway (Prometheus comes by a pod's
    address), every one; on loopback, loopback's.
    """
    return LOOPBACK_NAMES if host in (*LOOPBACK_NAMES, "::1") else ("*",)


async def _run_ray(config: HostConfig, folder: Path, stop: asyncio.Event) -> None:
    process = await asyncio.create_subprocess_exec(
        *_command(config),
        env=_environment(folder, config.slots),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=_end_with_parent,
    )
    said: deque[str] = deque(maxlen=_LINES_KEPT)
    reading = asyncio.create_task(_keep_lines(process, said))
    ending = asyncio.create_task(process.wait())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await reading
            raise StartError(StartErrorCode.RAY_FAILED, _last_words(config, process.returncode, said))
        _log.info("host_draining", drain_s=DRAIN_S)
    finally:
        stopping.cancel()
        await _end(process)
        reading.cancel()


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, for Ray ends its workers itself; kill -9 if it does not come to an end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(DRAIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _keep_lines(process: asyncio.subprocess.Process, said: deque[str]) -> None:
    assert process.stdout is not None, "it was asked for"
    while line := await process.stdout.readline():
        if text := line.decode(errors="replace").strip():
            said.append(text)


def _command(config: HostConfig) -> list[str]:
    resources = {SLOT_RESOURCE: config.slots, code_resource(code_version()): config.slots}
    own = [] if config.node_address is None else [f"--node-ip-address={config.node_address}"]
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        f"--address={config.ray_address}",
        f"--resources={json.dumps(resources)}",
        "--num-cpus=1",  # workers ask for none: this is only how many processes Ray keeps started in reserve
        f"--object-store-memory={config.object_store_bytes}",
        "--disable-usage-stats",
        *own,
    ]


def _environment(folder: Path, slots: int) -> Mapping[str, str]:
    """What Ray's processes, and by them the workers, inherit; not what would keep Ray to loopback."""
    inherited = {name: value for name, value in os.environ.items() if name != LOOPBACK_ONLY}
    return inherited | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        node_folder.FOLDER_VARIABLE: str(folder),
        node_folder.SLOTS_VARIABLE: str(slots),
    }


def _require_token(environment: Mapping[str, str]) -> None:
    if not any(environment.get(name) for name in TOKEN_VARIABLES):
        raise StartError(
            StartErrorCode.RAY_FAILED,
            "a cluster of several hosts needs Ray's token, for whoever reaches it can run code: set "
            f"{' or '.join(TOKEN_VARIABLES)} to the head's",
        )


def _last_words(config: HostConfig, code: int | None, said: deque[str]) -> str:
    """Ray's exit in a line or two: its own words are many, the reason stands in the last of them."""
    reason = " / ".join(list(said)[-4:]) or "it said nothing"
    return f"Ray at {config.ray_address} ended with {code}: {reason}"


def _end_with_parent() -> None:
    """In the child, before it becomes Ray: the kernel tells it when this process was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
