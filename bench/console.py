"""What does one open console cost the coordinator? `python -m bench.console`: its processor time with and without.

A server with the mock prover and 500 operations pending (the chain is away, so they stay); then the requests of one
open page: `/admin/console` every second, `/admin/graph`, an operation and its timeline every other one, the audit every
tenth. Writes `console.json`.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from bench.coordinator_http import (
    ENVIRONMENT,
    TOKEN,
    batch_requests,
    batches,
    cpu_s,
    register,
    server_process,
)
from bench.http_load import Connection, request
from coordinator.cli.measure import write_results
from coordinator.replay.embedded import Embedded

PENDING = 500
SECONDS = 30
#: Once how many seconds the page asks for what.
EVERY_S = {
    "/admin/console": 1,
    "/admin/graph": 2,
    "/admin/operation/b-7": 2,
    "/admin/operation/b-7/timeline": 2,
    "/admin/audit?limit=8": 10,
}


async def watch(url: str, *, seconds: int) -> int:
    """The requests of one page for so long; how many bytes came."""
    received = 0
    async with await Connection.open(url) as connection:
        for second in range(seconds):
            for path, every_s in EVERY_S.items():
                if second % every_s == 0:
                    answer = await connection.ask(request("GET", path, token=TOKEN))
                    assert answer.status == 200, answer.body[:300]
                    received += len(answer.body)
            await asyncio.sleep(1)
    return received


async def measure() -> dict[str, Any]:
    """The server's processor time a second, without a page and with one."""
    environment = ENVIRONMENT | {"AGENC_SPECULATION_CONFIRMATION_TIMEOUT_MS": "300000"}
    faults = {"faults": ["outage@t:0:600"]}
    with tempfile.TemporaryDirectory() as folder:
        async with Embedded(Path(folder), environment=environment, faults=faults) as server:
            url = server.endpoints.url
            await register(url, 20)
            await batches(url, batch_requests(1, size=PENDING, chain=10, agents=20, run="b"), connections=1)
            await watch(url, seconds=3)
            process = server_process(Path(folder))
            before_s = cpu_s(process)
            await asyncio.sleep(SECONDS)
            between_s = cpu_s(process)
            received = await watch(url, seconds=SECONDS)
            after_s = cpu_s(process)
    idle, watched = (between_s - before_s) / SECONDS, (after_s - between_s) / SECONDS
    return {
        "pending": PENDING,
        "idle_core_share": round(idle, 4),
        "watched_core_share": round(watched, 4),
        "console_core_share": round(watched - idle, 4),
        "bytes_per_s": received // SECONDS,
    }


def main() -> None:
    """Measure, print, write."""
    figures = asyncio.run(measure())
    print(json.dumps(figures, indent=2))
    print("written to", write_results("console", figures))


if __name__ == "__main__":
    main()
