"""What does a scrape of port 9090 cost with 10,000 agents?

Registers the agents, admits three operations of each, and renders the page as the handler does, from the state to the
bytes. Seconds are of the processor, since the page is made in one go on the coordinator's one thread. Prints a line of
JSON.
"""

import argparse
import json
import statistics
import time

import msgspec

from bench.coordinator_core import submissions
from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
from coordinator.core.state import CoreState
from coordinator.metrics import Metrics
from coordinator.metrics_samples import Reading

SCRAPES = 20
OPERATIONS_PER_AGENT = 3
NOW_MS = 1_700_000_000_000


def busy_metrics(agents: int) -> tuple[Metrics, Reading]:
    """Metrics that have heard everything, and what a scrape reads."""
    config = CoreConfig(
        enabled=True,
        max_depth=20,
        max_parallel_branches=1 << 20,
        max_state_snapshots=1 << 30,
        max_pending_operations=1 << 30,
        queue_size=1 << 30,
        stake_max_lamports=1 << 50,
    )
    engine = Engine(CoreState(), config)
    metrics = Metrics(engine, proof_type="stark")
    for number in range(agents):
        engine.register_agent(
            f"agent-{number}",
            agent_key=bytes(32),
            token_hash=bytes(32),
            deposit_lamports=1 << 45,
            now_ms=NOW_MS,
        )
    items = submissions(OPERATIONS_PER_AGENT * agents, agents=agents, chain=OPERATIONS_PER_AGENT)
    typed = [
        msgspec.structs.replace(item, operation_type=f"type-{number % OPERATIONS_PER_AGENT}")
        for number, item in enumerate(items)
    ]
    engine.submit(typed, now_ms=NOW_MS)
    metrics.observe(0, engine.take_events())
    reading = Reading(
        engine=engine,
        now_ms=NOW_MS,
        memory_bytes=1 << 28,
        writable=True,
        workers_running=1,
        workers_target=1,
        utilizations={"w-1": 0.5},
        loop_failures={},
    )
    return metrics, reading


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    options = parser.parse_args()
    metrics, reading = busy_metrics(options.agents)
    seconds = []
    page = b""
    for _ in range(SCRAPES):
        at = time.process_time()
        page = metrics.render(reading)
        seconds.append(time.process_time() - at)
    print(
        json.dumps(
            {
                "question": "processor time of one scrape of /metrics",
                "agents": options.agents,
                "open_operations": reading.state.open_operations,
                "series": sum(not line.startswith(b"#") for line in page.splitlines()),
                "bytes": len(page),
                "median_ms": round(statistics.median(seconds) * 1000, 1),
                "slowest_ms": round(max(seconds) * 1000, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
