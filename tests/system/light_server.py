"""A server that starts in a moment, to be killed often: `python -m tests.system.light_server FOLDER`.

It is the real one (HTTP, service, shell, core, log, chain, disk), but for Ray: the proof workers, which make mock
proofs, live in its own process. Everything is loaded once; a line on standard input starts a server in a fork, and a
line on standard output says that it is ready, and another one that it has ended.
"""

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from coordinator import logs
from coordinator.chain.faults import NO_FAULTS
from coordinator.cli.serving import ENDPOINTS_FILE, serve
from coordinator.settings import Settings
from coordinator.shell.machine import Machine
from coordinator.sim.cluster import SimulatedRuntime
from coordinator.sim.faults import NONE, Fault
from workers.messages import BatchResult
from workers.pool import PoolConfig, ProofPool
from workers.statement import agent_key

WORKERS = 2


class Timers:
    """The running loop's."""

    def delay_s(self) -> float:
        return 0.001

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object:
        return asyncio.get_running_loop().call_later(delay, callback, *args)


class NoHand:
    """Workers without faults."""

    faults = NONE

    def injected(self, fault: Fault, **_facts: Any) -> None:
        raise AssertionError(f"{fault} was not asked for")

    def poisoned(self, _task_id: str) -> bool:
        return False

    def keep_result(self, result: BatchResult) -> None:
        raise AssertionError(f"{result.batch_id} was not asked for again")


class LightMachine(Machine):
    """The real machine, but for Ray."""

    def new_pool(self, _settings: Settings, on_change: Callable[[], None]) -> ProofPool:
        config = PoolConfig(desired=WORKERS, generator="mock", kernel_threads=1)
        runtime = SimulatedRuntime(Timers(), Random(os.getpid()), NoHand(), slots=WORKERS)
        return ProofPool(config, runtime=runtime, on_change=on_change)


def run_server(folder: Path) -> None:
    """In the fork: serves until it is killed or told to stop."""
    sys.stdout = sys.stderr  # standard output is the parent's
    logs.configure("error")
    environment = {
        "AGENC_DATA_DIR": str(folder),
        "AGENC_ADMIN_PORT": "0",
        "AGENC_ADMIN_WORKERS_PORT": "0",
        "AGENC_AGENTS_OPEN_REGISTRATION": "true",
        "AGENC_CHAIN_SLOT_MS": "20",
        "AGENC_SPECULATION_ENABLED": "true",
        "AGENC_SPECULATION_MODE": "aggressive",
        "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
        "AGENC_SPECULATION_LIMITS_MAX_STATE_SNAPSHOTS": "1000",
        "AGENC_STORE_SNAPSHOT_AFTER": "1000",
        "AGENC_STORE_COMPACT_AFTER": "1000",
    }
    asyncio.run(serve(Settings.load("test", None, environment), NO_FAULTS, {}, machine=LightMachine()))


def main(folder: Path) -> None:
    agent_key(bytes(24))  # loads the kernels, so that no fork has to
    say("loaded")
    for _line in sys.stdin:
        (folder / ENDPOINTS_FILE).unlink(missing_ok=True)
        child = os.fork()
        if not child:
            code = 1
            try:
                run_server(folder)
                code = 0
            except BaseException:  # a fork ends here, whatever it was
                traceback.print_exc()
            os._exit(code)
        while not (folder / ENDPOINTS_FILE).exists():
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                sys.exit(f"the server ended before it was ready: {status}")
            time.sleep(0.005)
        say(json.loads((folder / ENDPOINTS_FILE).read_text())["url"], child)
        _, status = os.waitpid(child, 0)
        say("ended", os.waitstatus_to_exitcode(status))


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
