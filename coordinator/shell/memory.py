"""Where the coordinator's memory is, and the collection that gives back what is not needed any more.

The total is what the operating system counts as resident. Of it, what the engine keeps is measured: proofs are counted
byte by byte; of open operations and of snapshots a sample is weighed and multiplied. All else (the interpreter, the
libraries, ended operations, SQLite's caches) is the rest, so that the parts always sum to the total.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from coordinator.core.engine import Engine
from coordinator.core.snapshots import estimated_bytes
from coordinator.core.state import CoreState
from coordinator.logs import get_logger
from coordinator.shell.machine import Machine
from coordinator.store.log import EventLog

_SAMPLE = 200
#: What a dictionary's entry takes beside its key and value, at the usual load: hash, two pointers and the index.
_ENTRY_BYTES = 104 * 2 // 3
#: Index entries of an open operation: by id, by nullifier, by task (with its list), in the queue.
_INDEX_ENTRIES = 4
_TASK_LIST_BYTES = 64
_LOOK_S = 1.0
#: So many collections at the interval, one looks at everything.
_THOROUGH_EVERY = 20

_log = get_logger("memory")


class MemoryUse(NamedTuple):
    """Bytes; the parts sum to the total."""

    total: int
    state_snapshots: int
    pending_operations: int
    proof_cache: int
    other: int


class Collected(NamedTuple):
    """A collection: memory before and after, how long it took, and how many objects it freed."""

    before: MemoryUse
    after: MemoryUse
    took_s: float
    objects: int


class Memory:
    """Measures, and collects: at `speculation.limits.gc_interval_ms`, and when it is asked to."""

    def __init__(
        self,
        *,
        engine: Engine,
        log: EventLog,
        machine: Machine,
        interval_ms: Callable[[], int],
        clock_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._store = log
        self._machine = machine
        self._interval_ms = interval_ms
        self._clock_ms = clock_ms
        self.on_collected: Callable[[float], None] | None = None
        """Told the seconds that a collection took."""

    def use(self) -> MemoryUse:
        """Where the memory is now."""
        total = self._machine.memory_bytes()
        state = self._engine.state
        # What was weighed by sample can come out heavier than all there is, in a process that holds little.
        snapshots = min(estimated_bytes(state), total)
        pending = min(pending_bytes(state), total - snapshots)
        proofs = min(self._store.proofs.cached_bytes + self._store.queued_bytes, total - snapshots - pending)
        return MemoryUse(total, snapshots, pending, proofs, total - snapshots - pending - proofs)

    def collect(self, *, thorough: bool = True) -> Collected:
        """Drops caches, and frees what nothing refers to. Holds up the loop meanwhile, the longer the more there is:
        unless `thorough`, what survived an earlier collection is not looked at again.
        """
        before, began_s = self.use(), time.perf_counter()
        self._store.proofs.drop_cache()
        objects = self._machine.collect_garbage(thorough=thorough)
        took_s = time.perf_counter() - began_s
        if self.on_collected is not None:
            self.on_collected(took_s)
        return Collected(before, self.use(), took_s, objects)

    async def run(self) -> None:
        """Collects at the interval, which may change meanwhile, until cancelled."""
        last_ms, collections = self._clock_ms(), 0
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._clock_ms() - last_ms >= self._interval_ms():
                collections += 1
                collected = self.collect(thorough=not collections % _THOROUGH_EVERY)
                last_ms = self._clock_ms()
                _log.debug("collected", took_s=collected.took_s, objects=collected.objects)


def pending_bytes(state: CoreState) -> int:
    """What the open operations take, records and index entries."""
    count = len(state.live)
    if not count:
        return 0
    step = max(count // _SAMPLE, 1)
    sample = list(islice(state.live.values(), 0, None, step))
    each = sum(weigh(operation) for operation in sample) / len(sample)
    return round(count * (each + _INDEX_ENTRIES * _ENTRY_BYTES + _TASK_LIST_BYTES))


def weigh(root: object) -> int:
    """The bytes of an object and of all that it holds, each once; enums and small constants are everybody's."""
    seen: set[int] = set()
    stack: list[object] = [root]
    total = 0
    while stack:
        one = stack.pop()
        if one is None or id(one) in seen or isinstance(one, bool | type):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        stack += _held(one)
    return total


def _held(one: Any) -> Iterable[object]:
    if isinstance(one, msgspec.Struct):
        return [getattr(one, name) for name in one.__struct_fields__]
    if isinstance(one, dict):
        return [*one.keys(), *one.values()]
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)
    return ()
