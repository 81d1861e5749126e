"""What faults cost on a real pool with real proofs: `python -m bench.faults [--minutes M]`.

    refused   one operation in 256 is refused by the chain alone: until the others are confirmed, against 256 good ones
    killed    a worker is killed under its batch: how long the batch waits until another worker proves it
    storm     four workers, half of them killed every 10 s: what is lost, and the throughput before and after

Everything through HTTP, against one embedded server a part. Writes `faults.json`.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.coordinator_http import (
    TOKEN,
    batch_requests,
    batches,
    confirmed,
    register,
    server_process,
    until_confirmed,
)
from bench.http_load import Connection, request
from coordinator.cli.measure import write_results
from coordinator.replay.embedded import Embedded

OPERATIONS = 256
ROUNDS = 3
AGENTS = 16
TIMEOUT_S = 180.0
KILL_EVERY_S = 10.0
CALM_S = 20.0
RECOVERED_AFTER_S = 15.0
#: Operations that wait at the most while the storm is fed.
BACKLOG = 600
ENVIRONMENT = {
    "AGENC_ADMIN_TOKEN": TOKEN,
    "AGENC_AGENTS_OPEN_REGISTRATION": "true",
    "AGENC_LOG_LEVEL": "error",
    "AGENC_SPECULATION_ENABLED": "true",
    "AGENC_SPECULATION_PROOF_BATCH_SIZE": str(OPERATIONS),
    "AGENC_SPECULATION_PROOF_QUEUE_SIZE": "100000",
    "AGENC_SPECULATION_PROOF_WORKER_THREADS": "2",
}


async def ask(url: str, path: str) -> Any:
    """The JSON at a path."""
    async with await Connection.open(url) as connection:
        return json.loads((await connection.ask(request("GET", path, token=TOKEN))).body)


async def all_of(url: str, run: str, *, good: int) -> float:
    """Seconds from the submission of 256 independent operations until so many more are confirmed."""
    before = await confirmed(url)
    began_s = time.perf_counter()
    await batches(url, batch_requests(1, size=OPERATIONS, chain=1, agents=AGENTS, run=run), connections=1)
    await until_confirmed(url, before + good, timeout_s=TIMEOUT_S)
    return time.perf_counter() - began_s


async def measure_refused() -> dict[str, Any]:
    """Good batches and batches with one refused operation, in turn."""
    faults = {"faults": [f"reject@op:task-bad{number}-128" for number in range(ROUNDS)]}
    good_s, bad_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with Embedded(Path(folder), environment=ENVIRONMENT, faults=faults) as server:
            url = server.endpoints.url
            await register(url, AGENTS)
            await all_of(url, "warm", good=OPERATIONS)
            for number in range(ROUNDS):
                good_s.append(await all_of(url, f"good{number}", good=OPERATIONS))
                bad_s.append(await all_of(url, f"bad{number}", good=OPERATIONS - 1))
            failed = [(await ask(url, f"/v1/operations/bad{n}-128"))["state"] for n in range(ROUNDS)]
    assert failed == ["FAILED"] * ROUNDS, failed
    return {
        "good_s": round(statistics.median(good_s), 2),
        "one_refused_s": round(statistics.median(bad_s), 2),
        "ratio": round(statistics.median(bad_s) / statistics.median(good_s), 2),
    }


async def measure_killed() -> dict[str, Any]:
    """The time that batches spent in the queue after their worker was killed."""
    waits_ms = []
    with tempfile.TemporaryDirectory() as folder:
        faults = {"faults": ["kill-worker@batch:2", "kill-worker@batch:5", "kill-worker@batch:8"]}
        async with Embedded(Path(folder), environment=ENVIRONMENT, faults=faults) as server:
            url = server.endpoints.url
            await register(url, AGENTS)
            for number in range(6):
                await all_of(url, f"k{number}", good=OPERATIONS)
            for number in range(6):
                entries = (await ask(url, f"/admin/operation/k{number}-7/timeline"))["timeline"]
                waits_ms += [e["duration_ms"] for e in entries if e["reason"] == "worker_lost"]
    return {"kills_seen": len(waits_ms), "until_proving_elsewhere_ms": sorted(waits_ms)}


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The proof workers' processes."""
    found = []
    for child in process.children(recursive=True):
        try:
            if child.cmdline()[:1] == ["ray::ProofWorker"] or "ProofWorker" in child.name():
                found.append(child)
        except (psutil.Error, IndexError):
            continue
    return found


async def feed(url: str, stop: asyncio.Event) -> int:
    """Keep a backlog until the stop; how many operations were acknowledged."""
    sent = 0
    while not stop.is_set():
        status = await ask(url, "/admin/status")
        if status["open_operations"] < BACKLOG:
            _, admitted = await batches(
                url, batch_requests(1, size=64, chain=1, agents=AGENTS, run=f"s{sent}"), connections=1
            )
            sent += admitted
        await asyncio.sleep(0.1)
    return sent


async def throughput(url: str, seconds: float) -> float:
    """Operations confirmed a second, over so long."""
    before, began_s = await confirmed(url), time.perf_counter()
    await asyncio.sleep(seconds)
    return (await confirmed(url) - before) / (time.perf_counter() - began_s)


async def measure_storm(minutes: float) -> dict[str, Any]:
    """Throughput before the kills and from 15 s after the last one; every acknowledged operation is confirmed once."""
    chance = random.Random(7)
    environment = ENVIRONMENT | {
        "AGENC_SPECULATION_PROOF_BATCH_SIZE": "64",
        "AGENC_SPECULATION_PROOF_WORKER_THREADS": "4",
        "AGENC_CIRCUIT_BREAKER_ERROR_RATIO": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        async with Embedded(Path(folder), environment=environment) as server:
            url = server.endpoints.url
            await register(url, AGENTS)
            stop = asyncio.Event()
            feeding = asyncio.create_task(feed(url, stop))
            await until_confirmed(url, 256, timeout_s=TIMEOUT_S)
            calm_per_s = await throughput(url, CALM_S)
            process = server_process(Path(folder))
            kills, end_s = 0, time.monotonic() + 60 * minutes
            while time.monotonic() < end_s:
                workers = workers_of(process)
                for worker in chance.sample(workers, len(workers) // 2):
                    worker.kill()
                    kills += 1
                await asyncio.sleep(KILL_EVERY_S)
            await asyncio.sleep(RECOVERED_AFTER_S - KILL_EVERY_S)
            after_per_s = await throughput(url, CALM_S)
            stop.set()
            sent = await feeding
            await until_confirmed(url, sent, timeout_s=TIMEOUT_S)
            status = await ask(url, "/admin/status")
            integrity = await ask(url, "/admin/integrity-check")
    totals = status["totals"]
    assert (totals["confirmed"], totals["failed"], totals["rolled_back"]) == (sent, 0, 0), totals
    assert integrity["status"] == "ok", integrity
    return {
        "minutes": minutes,
        "workers": 4,
        "kills": kills,
        "operations": sent,
        "confirmed": totals["confirmed"],
        "before_per_s": round(calm_per_s, 1),
        "after_per_s": round(after_per_s, 1),
        "recovered": round(after_per_s / calm_per_s, 2),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the storm lasts")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, work in (
        ("refused", measure_refused()),
        ("killed", measure_killed()),
        ("storm", measure_storm(options.minutes)),
    ):
        figures[name] = asyncio.run(work)
        print(name, json.dumps(figures[name]), flush=True)
    print("written to", write_results("faults", figures))


if __name__ == "__main__":
    main()
