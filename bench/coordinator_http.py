"""The coordinator over HTTP, in a process of its own with the mock prover: one by one, in batches, and its reads.

The client runs in this process, so it takes its share of the machine's cores.
"""

import asyncio
import base64
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.http_load import Connection, Request, paced, request
from coordinator.replay.embedded import Embedded
from workers.statement import agent_key

TOKEN = "bench-" + "0" * 32
SECRET = bytes(range(24))
OUTPUT_BYTES = 100
ENVIRONMENT = {
    "AGENC_ADMIN_TOKEN": TOKEN,
    "AGENC_SPECULATION_ENABLED": "true",
    "AGENC_SPECULATION_MAX_DEPTH": "20",
    "AGENC_SPECULATION_MAX_PARALLEL_BRANCHES": "16",
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
    "AGENC_SPECULATION_PROOF_QUEUE_SIZE": "1000000",
    "AGENC_SPECULATION_LIMITS_MAX_PENDING_OPERATIONS": "1000000",
    "AGENC_SPECULATION_LIMITS_MAX_STATE_SNAPSHOTS": "1000000",
    "AGENC_LOG_LEVEL": "error",
}
READS = (
    "/admin/status",
    "/admin/stake/status",
    "/admin/confirmation-status",
    "/admin/blocked-operations",
    "/admin/rollback-stats",
    "/admin/config",
    "/admin/workers",
    "/metrics",
)


def operation(number: int, *, chain: int, agents: int, run: str) -> dict[str, Any]:
    """The `number`-th operation: chains of `chain`, each of one agent, the agents in turn."""
    encoded = base64.b64encode
    parents = [f"{run}-{number - 1}"] if number % chain else []
    return {
        "operation_id": f"{run}-{number}",
        "agent_id": f"agent-{number // chain % agents}",
        "task_id": f"task-{run}-{number}",
        "operation_type": "work",
        "depends_on": parents,
        "output": encoded(os.urandom(OUTPUT_BYTES)).decode(),
        "salt": encoded(os.urandom(24)).decode(),
        "secret": encoded(SECRET).decode(),
    }


def batch_requests(count: int, *, size: int, chain: int, agents: int, run: str) -> list[Request]:
    """Calls of `size` operations each."""
    requests = []
    for first in range(0, count * size, size):
        items = [
            operation(number, chain=chain, agents=agents, run=run) for number in range(first, first + size)
        ]
        body = json.dumps({"operations": items}).encode()
        requests.append(request("POST", "/v1/operations/batch", token=TOKEN, body=body))
    return requests


async def register(url: str, agents: int) -> None:
    """Agents with stake enough for everything."""
    key = agent_key(SECRET).hex()
    async with await Connection.open(url) as connection:
        for number in range(agents):
            body = {"agent_id": f"agent-{number}", "agent_key": key, "deposit_lamports": 1 << 40}
            answer = await connection.ask(
                request("POST", "/v1/agents", token=TOKEN, body=json.dumps(body).encode())
            )
            assert answer.status == 201, answer.body


async def batches(url: str, requests: Sequence[Request], *, connections: int) -> tuple[float, int]:
    """Seconds until every call is answered, and how many operations were admitted."""
    waiting = list(reversed(requests))
    admitted = 0

    async def run() -> None:
        nonlocal admitted
        async with await Connection.open(url) as connection:
            while waiting:
                answer = await connection.ask(waiting.pop())
                assert answer.status == 200, answer.body[:300]
                admitted += answer.body.count(b'"status":202')

    start_s = time.perf_counter()
    await asyncio.gather(*(run() for _ in range(connections)))
    return time.perf_counter() - start_s, admitted


async def confirmed(url: str) -> int:
    """Operations confirmed so far."""
    async with await Connection.open(url) as connection:
        answer = await connection.ask(request("GET", "/admin/status", token=TOKEN))
    return int(json.loads(answer.body)["operations_by_state"]["CONFIRMED"])


async def until_confirmed(url: str, count: int, *, timeout_s: float) -> None:
    """Waits until so many are."""
    async with asyncio.timeout(timeout_s):
        while await confirmed(url) < count:  # noqa: ASYNC110  # the server is another process
            await asyncio.sleep(0.2)


async def read_latencies(url: str, *, rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p99 of each of the operator's reads, in turn, one at a time."""
    figures = {}
    for path in READS:
        asked = request("GET", path, token=TOKEN)
        run = await paced(url, [asked] * rounds, rate_per_s=50, connections=4)
        figures[path] = {
            "p50_ms": run.quantile_ms(0.5),
            "p99_ms": run.quantile_ms(0.99),
            "refused": run.refused,
        }
    return figures


def server_process(folder: Path) -> psutil.Process:
    """The server's own process."""
    return psutil.Process(json.loads((folder / "data" / "endpoints.json").read_text())["pid"])


def cpu_s(process: psutil.Process) -> float:
    """The processor's seconds that it has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure_batches(*, calls: int, size: int, chain: int, agents: int) -> dict[str, Any]:
    """Operations a second through the batch call, to the acknowledgement and to the confirmation."""
    requests = batch_requests(calls, size=size, chain=chain, agents=agents, run="warm")[:1]
    requests += batch_requests(calls, size=size, chain=chain, agents=agents, run="b")
    with tempfile.TemporaryDirectory() as folder:
        async with Embedded(Path(folder), environment=ENVIRONMENT) as server:
            url = server.endpoints.url
            await register(url, agents)
            await batches(url, requests[:1], connections=1)
            await until_confirmed(url, size, timeout_s=60)
            process = server_process(Path(folder))
            before_s = cpu_s(process)
            start_s = time.perf_counter()
            wall_s, admitted = await batches(url, requests[1:], connections=2)
            cpu = cpu_s(process) - before_s
            await until_confirmed(url, size + admitted, timeout_s=120)
            whole_s = time.perf_counter() - start_s
            total_cpu = cpu_s(process) - before_s
            rss = process.memory_info().rss
    assert admitted == calls * size, admitted
    return {
        "operations": admitted,
        "chain": chain,
        "admitted_per_s": round(admitted / wall_s),
        "admitted_per_server_cpu_s": round(admitted / cpu),
        "confirmed_per_s": round(admitted / whole_s),
        "confirmed_per_server_cpu_s": round(admitted / total_cpu),
        "server_rss_mb": rss >> 20,
    }


async def measure_single(*, rate_per_s: int, seconds: int, agents: int) -> dict[str, Any]:
    """Latency of single submissions at a fixed rate, and of the operator's reads under that load."""
    count = rate_per_s * seconds

    def bodies(run: str) -> list[Request]:
        items = (operation(number, chain=1, agents=agents, run=run) for number in range(count))
        return [
            request("POST", "/v1/operations", token=TOKEN, body=json.dumps(item).encode()) for item in items
        ]

    with tempfile.TemporaryDirectory() as folder:
        async with Embedded(Path(folder), environment=ENVIRONMENT) as server:
            url = server.endpoints.url
            await register(url, agents)
            await paced(url, bodies("warm")[:rate_per_s], rate_per_s=rate_per_s, connections=16)
            process = server_process(Path(folder))
            before_s = cpu_s(process)
            alone = await paced(url, bodies("s"), rate_per_s=rate_per_s, connections=32)
            cpu = cpu_s(process) - before_s
            load = asyncio.create_task(paced(url, bodies("r") * 1, rate_per_s=rate_per_s, connections=32))
            reads = await read_latencies(url, rounds=25)
            under_reads = await load
    return {
        "rate_per_s": rate_per_s,
        "requests": count,
        "refused": alone.refused,
        "achieved_per_s": round(count / alone.wall_s),
        "p50_ms": alone.quantile_ms(0.5),
        "p99_ms": alone.quantile_ms(0.99),
        "max_ms": alone.quantile_ms(1.0),
        "server_cpu_share": round(cpu / alone.wall_s, 2),
        "with_reads": {"p99_ms": under_reads.quantile_ms(0.99), "reads": reads},
    }


async def measure_scrape(*, agents: int) -> dict[str, Any]:
    """Latency of `/metrics` and of `/admin/status` with that many agents, an operation of each in history."""
    items = [operation(number, chain=1, agents=agents, run="m") for number in range(agents)]
    body = json.dumps({"operations": items}).encode()
    filled = request("POST", "/v1/operations/batch", token=TOKEN, body=body)
    figures: dict[str, Any] = {"agents": agents}
    with tempfile.TemporaryDirectory() as folder:
        async with Embedded(Path(folder), environment=ENVIRONMENT) as server:
            url = server.endpoints.url
            await register(url, agents)
            await batches(url, [filled], connections=1)
            await until_confirmed(url, agents, timeout_s=60)
            for path in ("/metrics", "/admin/status"):
                asked = request("GET", path, token=TOKEN)
                run = await paced(url, [asked] * 50, rate_per_s=5, connections=1)
                figures[path] = {"p50_ms": run.quantile_ms(0.5), "p99_ms": run.quantile_ms(0.99)}
    return figures
