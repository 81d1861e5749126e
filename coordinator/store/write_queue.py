"""What waits for the log's writer: groups of events with what must be durable before them; bounded."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from coordinator.store.errors import LogBusy, LogUnwritable
from coordinator.store.proofs import ProofRecord
from coordinator.store.witnesses import Witness

EncodedEvent = tuple[int, str, bytes]
"""(at_ms, kind, body)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WriteRequest:
    """One call of `append`; `done` gives the sequence number of its last event once all of it is durable."""

    events: Sequence[EncodedEvent]
    witnesses: Sequence[Witness]
    proofs: Sequence[ProofRecord]
    done: Future[int] = field(default_factory=Future)

    @property
    def num_bytes(self) -> int:
        """What the request holds in memory until it is written, without the small parts."""
        events = sum(len(body) for _, _, body in self.events)
        witnesses = sum(len(witness.output) for witness in self.witnesses)
        return events + witnesses + sum(len(record.proof) for record in self.proofs)


class WriteQueue:
    """First in, first out; the consumer takes everything at once."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._requests: deque[WriteRequest] = deque()
        self._events = 0
        self._bytes = 0
        self._closed: str | None = None
        self._waiting: list[Future[None]] = []
        self._changed = threading.Condition()

    def put(self, request: WriteRequest) -> None:
        """Queues a request. One that is larger than the bounds is taken when nothing else waits.

        Raises:
            LogBusy: the queue is full.
            LogUnwritable: the queue was closed.
        """
        num_bytes = request.num_bytes
        with self._changed:
            if self._closed is not None:
                raise LogUnwritable(self._closed)
            if self._requests and not self._fits(len(request.events), num_bytes):
                raise LogBusy(self._events)
            # A future that somebody cancelled could not be resolved: from here on it cannot be cancelled.
            request.done.set_running_or_notify_cancel()
            self._requests.append(request)
            self._events += len(request.events)
            self._bytes += num_bytes
            self._changed.notify()

    def take(self) -> list[WriteRequest]:
        """Waits for requests and takes all there are; an empty list: the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._closed is not None)
            requests = list(self._requests)
            self._requests.clear()
            self._events = self._bytes = 0
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)
        return requests

    def room(self) -> Future[None]:
        """Resolved once less than half of the bounds is in use, or the queue is closed."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            half_full = 2 * self._events > self._max_events or 2 * self._bytes > self._max_bytes
            if half_full and self._closed is None:
                self._waiting.append(future)
                return future
        future.set_result(None)
        return future

    def close(self, reason: str) -> None:
        """Takes no more requests; those that wait can still be taken."""
        with self._changed:
            if self._closed is None:
                self._closed = reason
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
        for future in waiting:
            future.set_result(None)

    @property
    def queued_events(self) -> int:
        """Events that wait for the writer now."""
        return self._events

    @property
    def queued_bytes(self) -> int:
        """What they hold in memory, without the small parts."""
        return self._bytes

    def _fits(self, events: int, num_bytes: int) -> bool:
        return self._events + events <= self._max_events and self._bytes + num_bytes <= self._max_bytes
