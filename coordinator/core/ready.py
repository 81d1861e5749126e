"""What may be proved: queued operations that no queued or held parent blocks, in order, agent by agent.

An index over the state, made anew when the state is loaded: the planner reads it without scanning the queue.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import TypeAlias

from coordinator.core.records import Operation

#: (deadline_ms, -priority, rank, operation_id): the order in which an agent's operations are proved.
ReadyKey: TypeAlias = tuple[int, int, int, str]

NO_DEADLINE = 1 << 62
_SLACK = 64


def ready_key(operation: Operation) -> ReadyKey:
    """Earliest deadline first, then the greatest priority, then the order of admission."""
    deadline_ms = operation.deadline_ms
    return (
        NO_DEADLINE if deadline_ms is None else deadline_ms,
        -operation.priority,
        operation.rank,
        operation.operation_id,
    )


class ReadyQueue:
    """A sorted list with lazy deletion: appending in order and taking from the front, the usual case, are O(1)."""

    __slots__ = ("_entries", "_live", "_start")

    def __init__(self) -> None:
        self._entries: list[ReadyKey] = []
        self._start = 0
        self._live: set[str] = set()

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._live

    def __iter__(self) -> Iterator[str]:
        live = self._live
        for at in range(self._start, len(self._entries)):
            operation_id = self._entries[at][3]
            if operation_id in live:
                yield operation_id

    def scan(self, position: int) -> tuple[int, ReadyKey] | None:
        """The first live entry at or after a position (0 is the front), and where it is; None at the end.

        Positions hold until the queue changes.
        """
        entries, live = self._entries, self._live
        for at in range(max(position, self._start), len(entries)):
            if entries[at][3] in live:
                return at, entries[at]
        return None

    def add(self, key: ReadyKey) -> None:
        """Put an operation at its place; one that is there stays."""
        if key[3] in self._live:
            return
        self._live.add(key[3])
        entries = self._entries
        if not entries or key > entries[-1]:
            entries.append(key)
            return
        at = bisect_left(entries, key, lo=self._start)
        # Trap: a removed operation may still have its entry; it counts again, and must not stand there twice.
        if at < len(entries) and entries[at] == key:
            return
        if at == self._start > 0:
            self._start -= 1
            entries[self._start] = key
        else:
            entries.insert(at, key)

    def discard(self, operation_id: str) -> bool:
        """Take an operation out; says whether it was there."""
        if operation_id not in self._live:
            return False
        self._live.remove(operation_id)
        entries, live = self._entries, self._live
        while self._start < len(entries) and entries[self._start][3] not in live:
            self._start += 1
        if len(entries) > 2 * len(live) + _SLACK:
            self._entries = [entry for entry in entries[self._start :] if entry[3] in live]
            self._start = 0
        return True


class ReadyIndex:
    """The ready operations by agent, least recently served agent first, and the isolation groups' queued members.

    `closed` operations have no unconfirmed parent, `dependent` ones have some, all of them in flight.
    """

    __slots__ = ("closed", "dependent", "groups")

    def __init__(self) -> None:
        self.closed: dict[str, ReadyQueue] = {}
        self.dependent: dict[str, ReadyQueue] = {}
        self.groups: dict[int, dict[str, None]] = {}

    def add(self, operation: Operation) -> None:
        """An operation became QUEUED with nothing blocking it (a group's member: QUEUED, blocked or not)."""
        if operation.group:
            self.groups.setdefault(operation.group, {})[operation.operation_id] = None
            return
        queues = self.dependent if operation.unconfirmed else self.closed
        queue = queues.get(operation.agent_id)
        if queue is None:
            queue = queues[operation.agent_id] = ReadyQueue()
        queue.add(ready_key(operation))

    def discard(self, operation: Operation) -> None:
        """An operation left the queue, or became blocked; not an error where it was not ready."""
        if operation.group:
            members = self.groups.get(operation.group, {})
            members.pop(operation.operation_id, None)
            if not members:
                self.groups.pop(operation.group, None)
        elif not _discard(self.closed, operation):
            _discard(self.dependent, operation)

    def close(self, operation: Operation) -> None:
        """The last unconfirmed parent of a ready operation was confirmed: it is closed now."""
        if not operation.group and _discard(self.dependent, operation):
            self.add(operation)

    def served(self, agent_id: str) -> None:
        """A batch took operations of this agent: the others go first next time."""
        for queues in (self.closed, self.dependent):
            queue = queues.pop(agent_id, None)
            if queue is not None:
                queues[agent_id] = queue


def _discard(queues: dict[str, ReadyQueue], operation: Operation) -> bool:
    queue = queues.get(operation.agent_id)
    if queue is None or not queue.discard(operation.operation_id):
        return False
    if not queue:
        del queues[operation.agent_id]
    return True
