"""How fast is the coordinator without proving? `python -m bench.coordinator` (see --help).

The core alone, the core with its store, and the whole server over HTTP with the **mock prover** (it proves nothing:
what is measured is everything around the proof). Each part runs in a process of its own. Writes `coordinator.json`:

    core_operations_per_s     admitted to confirmed through core and store: every event durable (of chains of ten, in
                              calls of 4,000, speculating)
    batch_operations_per_s    acknowledged through `POST /v1/operations/batch`, 10,000 a call, the client beside it
    admission_p99_ms          of single submissions at 1,000 a second, from when each was due
    rollback_1000_ms          an operation with 1,000 descendants cancelled, until that is durable
    restart_1m_s              until the core is ready with 1,000,000 operations in history
    bytes_per_pending         resident memory of a queued operation beside its output

and, under `details`, what these came from.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import children
from bench.coordinator_http import measure_batches, measure_scrape, measure_single
from coordinator.cli.measure import write_results


def part(name: str, folder: Path, *, count: int | None = None) -> dict[str, Any]:
    """One part of `coordinator_store`, in a process of its own."""
    command = [sys.executable, "-m", "bench.coordinator_store", name, str(folder)]
    (line,) = children.run([*command, *([] if count is None else [str(count)])], environment={}).lines
    print(name, json.dumps(line), flush=True)
    return line


def shown(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, printed."""
    print(name, json.dumps(figures), flush=True)
    return figures


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--history", type=int, default=1_000_000, help="operations in history for the restart"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        details = {
            "disk": part("fsync", folder / "fsync"),
            "throughput": part("throughput", folder / "throughput"),
            "dispatch": part("dispatch", folder / "dispatch"),
            "cascade": part("cascade", folder / "cascade"),
            "memory": part("memory", folder / "memory"),
            "history": part("history", folder / "history", count=options.history),
            "restart": part("restart", folder / "history", count=options.history),
        }
    details["batch"] = shown(
        "batch", asyncio.run(measure_batches(calls=6, size=10_000, chain=10, agents=1_000))
    )
    details["single"] = shown("single", asyncio.run(measure_single(rate_per_s=1_000, seconds=10, agents=100)))
    details["scrape"] = shown("scrape", asyncio.run(measure_scrape(agents=10_000)))
    figures = {
        "core_operations_per_s": details["throughput"]["events"]["per_s"],
        "batch_operations_per_s": details["batch"]["admitted_per_s"],
        "admission_p99_ms": details["single"]["p99_ms"],
        "rollback_1000_ms": details["cascade"]["median_ms"],
        "restart_1m_s": details["restart"]["ready_s"],
        "bytes_per_pending": details["memory"]["bytes_per_pending"],
        "prover": "mock",
        "client": "one process on the same machine",
        "disk_fsync_ms": details["disk"]["median_ms"],
        "details": details,
    }
    print(write_results("coordinator", figures))


if __name__ == "__main__":
    main()
