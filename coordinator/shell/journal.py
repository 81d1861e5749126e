"""From a decision to a durable fact: the one way in which events reach the log and then everyone who waits for them.

The core applies its events to memory at once; nobody outside is told before they are on disk. After a failed write
memory is ahead of the disk, so the journal is read-only until the state was read from the disk again (recovery.py).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import (
    Event,
    OperationFailed,
    OperationsAdmitted,
    OperationsQueued,
    OperationsRolledBack,
    QueueCleared,
    RollbackPending,
)
from coordinator.logs import get_logger
from coordinator.store.errors import LogBusy, LogUnwritable
from coordinator.store.log import EventLog
from coordinator.store.proofs import ProofRecord
from coordinator.store.witnesses import Witness

#: Events kept in memory for subscribers that resume; older ones are read from the log.
RECENT_EVENTS = 20_000
#: A subscriber this far behind is ended: it resumes from the log with its last id.
SUBSCRIBER_EVENTS = 10_000

_log = get_logger("journal")

Listener = Callable[[int, Sequence[Event]], None]


class SubscriberTooSlow(Exception):
    """The subscriber's buffer is full; it should connect again and resume from its last id."""


class _Group(NamedTuple):
    """What one commit makes durable together."""

    events: Sequence[Event]
    witnesses: Sequence[Witness]
    proofs: Sequence[ProofRecord]
    durable: "asyncio.Future[None]"


def _refuse(group: _Group, reason: str) -> None:
    group.durable.set_exception(CoreError(ErrorCode.READ_ONLY, reason))
    group.durable.exception()  # marked as seen: whoever committed may be gone


class Journal:
    """Commits the engine's events in order and publishes them once they are durable. Lives on one event loop."""

    def __init__(self, engine: Engine, log: EventLog, *, read_only: str | None = None) -> None:
        self._engine = engine
        self._log = log
        self._drain: asyncio.Task[None] | None = None
        self._waiting_groups: deque[_Group] = deque()
        self._last: asyncio.Future[None] | None = None
        self._recent: deque[tuple[int, Event]] = deque(maxlen=RECENT_EVENTS)
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._subscribers: set[asyncio.Queue[tuple[int, Event]]] = set()
        self._listeners: list[Listener] = []
        self.read_only = read_only
        """Why nothing can be written, or None."""

    def listen(self, listener: Listener) -> None:
        """Calls `listener(last_seq, events)` on the loop for every durable group, in order."""
        self._listeners.append(listener)

    def require_writable(self) -> None:
        """Raises:
        CoreError: read_only.
        """
        if self.read_only is not None:
            raise CoreError(ErrorCode.READ_ONLY, self.read_only)

    def stop(self, reason: str) -> None:
        """Takes nothing more until `resume`; what was handed to the log is still written."""
        self._fail(reason)

    @property
    def pending(self) -> bool:
        """Whether something that memory holds is not on the disk yet."""
        return self._last is not None and not self._last.done()

    async def settled(self) -> None:
        """Returns once every group that was committed is durable or refused."""
        if self._last is not None:
            await asyncio.wait([self._last])

    def resume(self) -> None:
        """Takes events again. The log is writable, the engine's state is the log's, and everything has `settled`."""
        assert self._drain is None, "a group waits for the log that was"
        self._last = None
        self.read_only = None

    async def commit(self, *, witnesses: Sequence[Witness] = (), proofs: Sequence[ProofRecord] = ()) -> None:
        """Returns once everything the engine has decided so far is durable and published.

        Call it right after the engine, without awaiting in between. A caller that is cancelled takes nothing back: its
        events are in memory, so they are written all the same.

        Raises:
            CoreError: read_only; the decision may be in memory but is not acknowledged.
        """
        events = self._engine.take_events()
        if events:
            # From here to the queue without a wait: the order of the decisions is the order of the log.
            group = _Group(events, witnesses, proofs, asyncio.get_running_loop().create_future())
            self._last = group.durable
            if self._drain is not None or not self._append(group):
                self._waiting_groups.append(group)
                if self._drain is None:
                    self._drain = asyncio.create_task(self._drain_groups(), name="journal")
        if self._last is not None:
            await asyncio.shield(self._last)

    def _append(self, group: "_Group") -> bool:
        """Hands a group to the log's writer; False while its queue is full."""
        loop = asyncio.get_running_loop()
        try:
            if self.read_only is not None:
                raise LogUnwritable(self.read_only)
            written = self._log.append(group.events, witnesses=group.witnesses, proofs=group.proofs)
        except LogBusy:
            return False
        except LogUnwritable as error:
            self._fail(str(error))
            _refuse(group, str(error))
            return True

        def done(future: "Future[int]") -> None:
            loop.call_soon_threadsafe(self._settle, future, group)

        written.add_done_callback(done)
        return True

    async def _drain_groups(self) -> None:
        """Appends the groups that found the queue full, in their order."""
        try:
            while self._waiting_groups:
                if self._append(self._waiting_groups[0]):
                    self._waiting_groups.popleft()
                else:
                    await asyncio.wrap_future(self._log.room())
        finally:
            self._drain = None

    def _settle(self, written: "Future[int]", group: "_Group") -> None:
        error = written.exception()
        if error is not None:
            self._fail(str(error))
            _refuse(group, str(error))
            return
        self._publish(written.result(), group.events)
        group.durable.set_result(None)

    def _fail(self, reason: str) -> None:
        if self.read_only is None:
            self.read_only = reason
            _log.error("read_only", reason=reason)
            for operation_id in list(self._waiting):
                self._wake(operation_id)

    def _publish(self, last_seq: int, events: Sequence[Event]) -> None:
        first_seq = last_seq - len(events) + 1
        for seq, event in enumerate(events, first_seq):
            self._recent.append((seq, event))
            for queue in list(self._subscribers):
                try:
                    queue.put_nowait((seq, event))
                except asyncio.QueueFull:
                    self._subscribers.discard(queue)
            if self._waiting:
                for operation_id in self.operations_of(event):
                    self._wake(operation_id)
        for listener in self._listeners:
            listener(last_seq, events)

    def operations_of(self, event: Event) -> Sequence[str]:
        """Ids of the operations that an event moved."""
        match event:
            case OperationsAdmitted():
                return [operation.operation_id for operation in event.operations]
            case OperationsQueued() | OperationsRolledBack() | RollbackPending():
                return event.operation_ids
            case OperationFailed():
                return (event.operation_id,)
            case QueueCleared():
                return event.speculating_ids + event.deferred_ids
        batch_id = getattr(event, "batch_id", None)
        state = self._engine.state
        batch = None if batch_id is None else state.batches.get(batch_id) or state.ended_batches.get(batch_id)
        return batch.operation_ids if batch is not None else ()

    def _wake(self, operation_id: str) -> None:
        for future in self._waiting.pop(operation_id, ()):
            if not future.done():
                future.set_result(None)

    async def changed(self, operation_id: str, *, timeout_s: float) -> bool:
        """Waits until the operation moved (True) or the time is over (False)."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(operation_id, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            waiters = self._waiting.get(operation_id)
            if waiters is not None and future in waiters:
                waiters.remove(future)
                if not waiters:
                    del self._waiting[operation_id]
        return True

    async def events(self, after: int | None) -> AsyncIterator[tuple[int, Event]]:
        """Durable events as they come; with `after`, first all that follow that sequence number.

        Raises:
            SubscriberTooSlow: the reader is more than `SUBSCRIBER_EVENTS` behind.
        """
        queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue(maxsize=SUBSCRIBER_EVENTS)
        self._subscribers.add(queue)
        try:
            last = after
            if after is not None:
                async for seq, event in self._past(after):
                    last = seq
                    yield seq, event
            while True:
                if queue not in self._subscribers and queue.empty():
                    raise SubscriberTooSlow
                seq, event = await queue.get()
                if last is None or seq > last:
                    last = seq
                    yield seq, event
        finally:
            self._subscribers.discard(queue)

    async def _past(self, after: int) -> AsyncIterator[tuple[int, Event]]:
        if self._recent and self._recent[0][0] <= after + 1:
            for seq, event in [item for item in self._recent if item[0] > after]:
                yield seq, event
            return
        while True:
            page = await asyncio.to_thread(self._log.read, after, limit=1_000)
            for stored in page:
                after = stored.seq
                yield stored.seq, stored.event
            if len(page) < 1_000:
                return
