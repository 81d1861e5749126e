"""`kill -9` at random instants, while the log is compacted too: what was acknowledged is there, with its witnesses."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator.store.archive import Archive
from coordinator.store.log import EventLog

REPOSITORY = Path(__file__).resolve().parents[3]

CHILD = """
import random, sys, threading
from pathlib import Path
from coordinator.core.events import BatchAwaiting
from coordinator.store.log import EventLog
from coordinator.store.proofs import ProofRecord
from coordinator.store.witnesses import Witness

log = EventLog.open(Path(sys.argv[1]))
sizes = random.Random(int(sys.argv[2]))
events = [stored.event for stored in log.replay()]
number = len(events)
log.witnesses.drop_orphans({event.batch_id for event in events}.__contains__)
log.proofs.drop_orphans({event.batch_id for event in events})


def keep_small():
    while True:
        log.compact(max(log.head.seq - 20, 0))


threading.Thread(target=keep_small, daemon=True).start()
print("ready", number, flush=True)
waiting = []
while True:
    group = [BatchAwaiting(at_ms=n, batch_id=f"b{n}") for n in range(number, number + sizes.randrange(1, 40))]
    number += len(group)
    future = log.append(
        group,
        witnesses=[Witness(event.batch_id, b"output " * 30, b"s" * 24, b"k" * 24) for event in group],
        proofs=[ProofRecord(group[-1].batch_id, b"proof " * 500, bytes(32), "standard", 10)],
    )
    waiting.append((number, future))
    while len(waiting) > 3 or waiting and waiting[0][1].done():
        end, future = waiting.pop(0)
        assert future.result() == end
        print(end, flush=True)
"""


def run_and_kill(folder: Path, seed: int, after_s: float) -> int:
    """Runs the child, kills it `after_s` after it is ready; the last event that it said was acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(seed)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    ready = child.stdout.readline().split()
    try:
        time.sleep(after_s)
    finally:
        child.kill()
    said, errors = child.communicate(timeout=30)
    assert ready[:1] == ["ready"], errors
    assert child.returncode == -signal.SIGKILL, errors
    # The pipe may end within a line: that one was not heard.
    heard = said[: said.rfind("\n") + 1].split()
    return int(heard[-1]) if heard else int(ready[1])


def check(folder: Path, acknowledged: int) -> int:
    """Everything that was acknowledged is there, and nothing but what was written; how much there is."""
    log = EventLog.open(folder)
    assert log.verify().ok
    events = [stored.event for stored in log.replay()]
    assert len(events) >= acknowledged
    assert [(event.at_ms, event.batch_id) for event in events] == [(n, f"b{n}") for n in range(len(events))]
    logged = {event.batch_id for event in events}
    stored = log.witnesses.get([f"b{n}" for n in range(len(events))])
    assert stored.keys() == logged, "no event without its witness"
    assert {witness.output for witness in stored.values()} <= {b"output " * 30}
    if events:
        assert log.proofs.get(events[-1].batch_id) is not None, (
            "groups are whole, so the last event has its proof"
        )
    log.close()
    return len(events)


def kill_often(folder: Path, *, times: int, seed: int) -> int:
    instants = random.Random(seed)
    total = 0
    for kill in range(times):
        acknowledged = run_and_kill(folder, seed + kill, instants.uniform(0, 0.15))
        assert acknowledged >= total
        total = check(folder, acknowledged)
    return total


def test_what_was_acknowledged_survives_a_few_kills(tmp_path: Path) -> None:
    assert kill_often(tmp_path, times=4, seed=1) > 0
    assert Archive(tmp_path).segments(), "some of it was archived"


@pytest.mark.long
def test_what_was_acknowledged_survives_a_hundred_kills(tmp_path: Path) -> None:
    for run in range(10):  # a fresh log each, since checking it takes longer the longer it is
        assert kill_often(tmp_path / str(run), times=10, seed=1000 * run) > 0
