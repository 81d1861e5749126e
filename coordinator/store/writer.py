"""The one thread that writes the log: it takes all that waits, makes it durable as one group, then says so.

Witnesses and proofs are committed before the events that name them. A crash between the commits leaves
orphans, which the next start drops; it never leaves an event without its witness.
"""

import threading

from coordinator.store.database import Database
from coordinator.store.errors import LogUnwritable, StoreError
from coordinator.store.hashing import Head, HeadMark, link
from coordinator.store.proofs import ProofStore
from coordinator.store.witnesses import WitnessStore
from coordinator.store.write_queue import WriteQueue, WriteRequest

_Row = tuple[int, int, str, bytes, bytes]


class LogWriter:
    """Runs from construction to `close`. `head` is the last durable event."""

    def __init__(
        self,
        *,
        log: Database,
        log_id: bytes,
        head: Head,
        mark: HeadMark,
        witnesses: WitnessStore,
        proofs: ProofStore,
        queue: WriteQueue,
    ) -> None:
        self._log = log
        self._log_id = log_id
        self._mark = mark
        self._witnesses = witnesses
        self._proofs = proofs
        self._queue = queue
        self.head = head
        self.failure: LogUnwritable | None = None
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits until what is queued is durable, or has failed."""
        self._queue.close("the log is closed")
        self._thread.join()

    def _run(self) -> None:
        while group := self._queue.take():
            try:
                ends = self._commit(group)
            except Exception as error:  # whatever it is, it must not leave a caller waiting for ever
                self._fail(group, error)
                return
            for request, end in zip(group, ends, strict=True):
                request.done.set_result(end)

    def _commit(self, group: list[WriteRequest]) -> list[int]:
        """The sequence number of each request's last event."""
        witnesses = [witness for request in group for witness in request.witnesses]
        if witnesses:
            self._witnesses.put(witnesses)
        proofs = [record for request in group for record in request.proofs]
        if proofs:
            self._proofs.put(proofs)

        head, rows, ends = self.head, list[_Row](), list[int]()
        for request in group:
            for at_ms, kind, body in request.events:
                seq = head.seq + 1
                head = Head(seq, link(head.hash, seq, at_ms, kind, body))
                rows.append((seq, at_ms, kind, body, head.hash))
            ends.append(head.seq)
        if rows:
            with self._log.write() as connection:
                connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows)
                connection.execute("UPDATE ends SET head_seq = ?, head_hash = ?", head)
            self._mark.write(self._log_id, head)
            self.head = head
        return ends

    def _fail(self, group: list[WriteRequest], error: Exception) -> None:
        """Read-only from here on: memory may be ahead of the log, so only a restart makes them agree."""
        detail = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        self.failure = LogUnwritable(detail)
        self._queue.close(detail)
        while group:
            for request in group:
                request.done.set_exception(self.failure)
            group = self._queue.take()
