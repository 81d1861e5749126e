"""The core with its store, in this process, without HTTP: throughput, a cascade, a restart, memory, dispatch.

`python -m bench.coordinator_store PART FOLDER [COUNT]` is one part in a process of its own; prints one line of JSON.
Parts: `throughput`, `cascade`, `history` (writes the log that `restart` opens), `restart`, `memory`, `dispatch`,
`fsync`.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.coordinator_core import CONFIG, NOW_MS, Driver, new_engine, submissions
from coordinator.core.commands import Submission
from coordinator.core.engine import Engine
from coordinator.core.events import Event
from coordinator.core.planner import PlannerView, plan
from coordinator.store.log import EventLog
from coordinator.store.restart import restore
from coordinator.store.snapshotter import make_snapshot
from coordinator.store.witnesses import Witness

CALL = 4_000
AGENTS, CHAIN = 100, 10
OUTPUT_BYTES = 100
#: Groups that may wait for the writer, as calls of agents do.
IN_FLIGHT = 4


class Store:
    """Makes every step's events durable, with the witnesses of what was admitted; a few groups at a time."""

    def __init__(self, log: EventLog, *, witnesses: bool) -> None:
        self._log = log
        self._witnesses = witnesses
        self._waiting: list[Future[int]] = []
        self._output = os.urandom(OUTPUT_BYTES)

    def __call__(self, events: Sequence[Event], items: Sequence[Submission]) -> None:
        kept = (
            [Witness(item.operation_id, self._output, bytes(24), bytes(24)) for item in items]
            if self._witnesses
            else []
        )
        self._waiting.append(self._log.append(events, witnesses=kept))
        if len(self._waiting) >= IN_FLIGHT:
            self._waiting.pop(0).result()

    def finish(self) -> None:
        """Returns once everything is durable."""
        for waiting in self._waiting:
            waiting.result()
        self._waiting.clear()


def throughput(folder: Path, count: int) -> dict[str, Any]:
    """Admitted to confirmed with every event durable, by the clock; the core alone for comparison, by the processor."""
    alone = Driver(new_engine(CONFIG, agents=AGENTS))
    for items in _calls(count):
        alone.take(items)
    figures: dict[str, Any] = {"core_alone_per_cpu_s": round(count / sum(alone.seconds.values()))}
    del alone
    for name, witnesses in (("events", False), ("events_and_witnesses", True)):
        log = EventLog.open(folder / name)
        store = Store(log, witnesses=witnesses)
        calls = _calls(count)
        driver = Driver(new_engine(CONFIG, agents=AGENTS), sink=store)
        gc.collect()
        gc.freeze()
        wall, cpu = time.perf_counter(), time.process_time()
        for items in calls:
            driver.take(items)
        store.finish()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert driver.engine.state.totals.confirmed == count
        figures[name] = {"per_s": round(count / wall), "per_cpu_s": round(count / cpu)}
        log.close()
        gc.unfreeze()
    return figures


def _calls(count: int, *, chain: int = CHAIN) -> list[list[Submission]]:
    return [
        list(submissions(first, min(first + CALL, count), agents=AGENTS, chain=chain))
        for first in range(0, count, CALL)
    ]


def cascade(folder: Path, count: int) -> dict[str, Any]:
    """Cancels an operation with `count` descendants, all in one proof queue, until that is durable; five times."""
    log = EventLog.open(folder)
    times = []
    for _ in range(5):
        engine = new_engine(CONFIG, agents=AGENTS)
        root, *rest = submissions(0, count + 1, agents=1, chain=1)
        # A tree, ten children each: as wide and as deep as speculation admits.
        children = [_child(item, place) for place, item in enumerate(rest)]
        verdicts = engine.submit([root, *children], now_ms=NOW_MS)
        assert all(verdict.created for verdict in verdicts)
        log.append(engine.take_events()).result()
        start_s = time.perf_counter()
        ended = engine.cancel(root.operation_id, now_ms=NOW_MS)
        log.append(engine.take_events()).result()
        times.append(time.perf_counter() - start_s)
        assert len(ended) == count + 1
    log.close()
    return {"descendants": count, "median_ms": round(1e3 * median(times), 2)}


def _child(item: Submission, place: int) -> Submission:
    values = {name: getattr(item, name) for name in Submission.__struct_fields__}
    return Submission(**(values | {"parents": (f"op-{place // 10}",)}))


def history(folder: Path, count: int) -> dict[str, Any]:
    """Writes a log of `count` confirmed operations, a snapshot at 99 % of it, and the rest as its tail."""
    log = EventLog.open(folder)
    store = Store(log, witnesses=False)
    driver = Driver(new_engine(CONFIG, agents=AGENTS), sink=store)
    snapshot_at = count * 99 // 100 // CALL * CALL
    for first in range(0, count, CALL):
        if first == snapshot_at:
            store.finish()
            make_snapshot(folder)
        driver.take(list(submissions(first, min(first + CALL, count), agents=AGENTS, chain=CHAIN)))
    store.finish()
    log.close()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "operations": count,
        "bytes_on_disk_per_operation": round(size / count),
        "rss_mb": psutil.Process().memory_info().rss >> 20,
    }


def restart(folder: Path, count: int) -> dict[str, Any]:
    """Seconds until the core is ready: the log opened, the newest snapshot loaded and the tail folded in."""
    start_s = time.perf_counter()
    log = EventLog.open(folder)
    restored = restore(log)
    ready_s = time.perf_counter() - start_s
    assert restored.corruption is None
    assert restored.state.totals.confirmed == count
    log.close()
    return {
        "operations": count,
        "ready_s": round(ready_s, 2),
        "tail_events": restored.head.seq - restored.snapshot_seq,
        "rss_mb": psutil.Process().memory_info().rss >> 20,
    }


def memory(_folder: Path, count: int) -> dict[str, Any]:
    """Resident bytes that a queued operation takes in the core, its ids and digests included: one that waits for
    nobody, and one that speculates in a chain, with its snapshot.
    """
    process = psutil.Process()
    taken = {}
    for name, chain in (("bytes_per_pending", 1), ("bytes_per_speculating", CHAIN)):
        engine = new_engine(CONFIG, agents=AGENTS)
        gc.collect()
        before = process.memory_info().rss
        for first in range(0, count, CALL):
            engine.submit(list(submissions(first, first + CALL, agents=AGENTS, chain=chain)), now_ms=NOW_MS)
            engine.take_events()
        gc.collect()
        taken[name] = round((process.memory_info().rss - before) / count)
        assert engine.state.queued == count
        _kept.append(engine)  # else its memory would be taken again, and not be counted
    return {"operations": count, **taken}


_kept: list[Engine] = []


def dispatch(_folder: Path, count: int) -> dict[str, Any]:
    """Microseconds an operation to plan and start batches of 64, with 10² to `count` operations queued."""
    config = replace(CONFIG, batch_size=64)
    figures = {}
    queued = 100
    while queued <= count:
        engine = new_engine(config, agents=AGENTS)
        engine.submit(list(submissions(0, queued, agents=AGENTS, chain=CHAIN)), now_ms=NOW_MS)
        engine.take_events()
        view = PlannerView(state=engine.state, config=config, idle_workers=["w0"], worker_ids=["w0"])
        samples = [_dispatch(view, engine) for _ in range(max(1, min(30, queued // 128)))]
        figures[str(queued)] = round(1e6 * median(samples), 1)
        queued *= 10
    return {"microseconds_per_operation": figures}


def _dispatch(view: PlannerView, engine: Engine) -> float:
    """The processor's seconds an operation that planning and starting the next batch take."""
    start_s = time.process_time()
    (one,) = plan(view, now_ms=NOW_MS)
    engine.start_batch(one, now_ms=NOW_MS)
    return (time.process_time() - start_s) / len(one.operation_ids)


def fsync(folder: Path, count: int) -> dict[str, Any]:
    """The disk's own time for a small durable write."""
    folder.mkdir(parents=True, exist_ok=True)
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4_096))
            start_s = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start_s)
    return {"median_ms": round(1e3 * median(times), 3)}


PARTS = {
    "throughput": (throughput, 100_000),
    "cascade": (cascade, 1_000),
    "history": (history, 1_000_000),
    "restart": (restart, 1_000_000),
    "memory": (memory, 100_000),
    "dispatch": (dispatch, 100_000),
    "fsync": (fsync, 100),
}

if __name__ == "__main__":
    part, default = PARTS[sys.argv[1]]
    print(json.dumps(part(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else default)))
