"""The judge of a run: a second state that only the log's events feed, and what must hold of it after every event.

After every event all eight invariants are checked over the whole living state; of the ended operations, which do not
change any more, those that ended since the last check (all of them after a crash and at the end). What an operation may
end by is checked against what the simulator knows it did: nobody is slashed who did nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from coordinator.core import events as ev
from coordinator.core.events import Event, decode_event, encode_event
from coordinator.core.graph import unconfirmed_ancestors
from coordinator.core.invariants import check
from coordinator.core.records import Operation
from coordinator.core.state import CoreState
from coordinator.core.states import SLASHING, FailureCode
from coordinator.sim.coverage import Coverage
from coordinator.sim.history import History


class Violation(Exception):
    """Something that must hold does not."""


class Guilt:
    """What agents and chain did that an operation may fail by, told before it can happen."""

    def __init__(self) -> None:
        self._demands: dict[str, dict[bytes, None]] = {}
        self._tasks: dict[str, dict[FailureCode, None]] = {}
        self._operations: dict[str, dict[FailureCode, None]] = {}
        self.finality_violated = False

    def demand(self, task_id: str, constraint_hash: bytes) -> None:
        """Somebody told the coordinator or the chain that the task asks for this output."""
        self._demands.setdefault(task_id, {})[constraint_hash] = None

    def accuse_task(self, task_id: str, code: FailureCode) -> None:
        """Whoever does this task may fail by this code."""
        self._tasks.setdefault(task_id, {})[code] = None

    def accuse(self, operation_id: str, code: FailureCode) -> None:
        """This operation may fail by this code."""
        self._operations.setdefault(operation_id, {})[code] = None

    def deserves(self, operation: Operation, code: FailureCode) -> bool:
        """Whether the simulator knows why."""
        demands = self._demands.get(operation.task_id, {})
        if code is FailureCode.CONSTRAINT_MISMATCH and any(
            demand != operation.constraint_hash for demand in demands
        ):
            return True
        return code in self._tasks.get(operation.task_id, {}) or code in self._operations.get(
            operation.operation_id, {}
        )


class _Fresh(Mapping[str, Operation]):
    """The ended operations, of which `values` gives only the newest."""

    def __init__(self, ended: Mapping[str, Operation], newest: Iterable[str]) -> None:
        self._ended = ended
        self._newest = [ended[one] for one in newest if one in ended]

    def __getitem__(self, key: str) -> Operation:
        return self._ended[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ended)

    def __len__(self) -> int:
        return len(self._ended)

    def values(self) -> Any:
        return self._newest


def _without_old_ends(state: CoreState, newest: Iterable[str]) -> CoreState:
    """The same state (the very same records), but for the old ended operations."""
    view = object.__new__(CoreState)
    view.__dict__.update(state.__dict__)
    view.__dict__["ended"] = _Fresh(state.ended, newest)
    return view


class Oracle:
    """Hears events when their write begins, and when it has ended; `state` is of the former."""

    def __init__(self, history: History, coverage: Coverage, guilt: Guilt) -> None:
        self.state = CoreState()
        self.events = 0
        self.admitted: dict[str, bool] = {}
        """Every operation that was ever admitted, and whether that is durable."""

        self.rebuilt = 0
        """How often the state was rebuilt from the chain."""

        self._history = history
        self._coverage = coverage
        self._guilt = guilt
        self._kept = CoreState().dump()
        self._durable: list[Event] = []

    def heard(self, events: Sequence[Event]) -> None:
        """Events whose write begins: folded in and checked, one by one."""
        for event in events:
            body = encode_event(event)
            again = decode_event(body)
            if again != event:
                raise Violation(f"{type(event).__name__} does not survive the log")
            self._apply(again)
            self.events += 1
            self._history.add("event", kind=type(event).__name__, event=event)
            self._coverage.event(event)

    def _apply(self, event: Event) -> None:
        if isinstance(event, ev.StateRebuilt):
            self._begin_anew()
        ended = _ended_by(self.state, event)
        if isinstance(event, ev.OperationFailed):
            self._judge(event)
        if isinstance(event, ev.FinalityViolated):
            self._guilt.finality_violated = True
        try:
            self.state.apply(event)
        except AssertionError as error:
            raise Violation(f"{type(event).__name__} does not follow from the state: {error}") from error
        if isinstance(event, ev.OperationsAdmitted):
            self.admitted.update((one.operation_id, False) for one in event.operations)
            self._require_claims(event)
        for operation_id in ended:
            self._coverage.ended(self.state.ended[operation_id])
        require_invariants(_without_old_ends(self.state, ended))

    def _begin_anew(self) -> None:
        """The log was lost: a new one begins with what the chain holds."""
        self.state = CoreState()
        self.admitted.clear()
        self.rebuilt += 1

    def _require_claims(self, event: ev.OperationsAdmitted) -> None:
        """Invariant 6 from the tasks themselves, at the only instant at which it can be told: a decision that did not
        look at the claims would not have recorded them either.
        """
        for admitted in event.operations:
            operation = self.state.live[admitted.operation_id]
            decision = operation.decision
            if not operation.speculative or decision is None:
                continue
            for one in unconfirmed_ancestors(self.state, [operation]):
                task = self.state.tasks.get(one.task_id)
                if task is None or task.claimed_by != one.agent_id:
                    continue
                if task.claim_expires_ms - event.at_ms <= decision.claim_buffer_ms:
                    raise Violation(
                        f"{operation.operation_id} speculates while the claim of {one.task_id} ends"
                    )

    def _judge(self, event: ev.OperationFailed) -> None:
        operation = self.state.live.get(event.operation_id)
        if operation is None or self._guilt.deserves(operation, event.code):
            return
        if event.code in SLASHING or not self._guilt.finality_violated:
            raise Violation(f"{event.operation_id} failed by {event.code} and did nothing: {event.detail}")

    def durable(self, events: Sequence[Event]) -> None:
        """Events that are on the disk."""
        self._durable += events
        for event in events:
            if isinstance(event, ev.StateRebuilt):
                self._kept, self._durable = CoreState().dump(), list(events)
            if isinstance(event, ev.OperationsAdmitted):
                self.admitted.update((one.operation_id, True) for one in event.operations)

    def acknowledged(self, operation_id: str) -> None:
        """An agent was told that its operation is admitted, or known."""
        if not self.admitted.get(operation_id):
            raise Violation(f"{operation_id} was acknowledged before it was on the disk")

    def crashed(self) -> None:
        """The process died: what was not durable never happened."""
        state = CoreState.load(self._kept)
        for event in self._durable:
            state.apply(event)
        self._kept, self._durable = state.dump(), []
        self.state = CoreState.load(self._kept)
        self.admitted = {one: True for one, durable in self.admitted.items() if durable}

    def compare(self, state: CoreState, *, when: str) -> None:
        """The coordinator's state is the one that the log tells, and all of it holds."""
        if state.dump() != self.state.dump():
            raise Violation(f"{when}, memory is not what the log tells")
        require_invariants(self.state)


def _ended_by(state: CoreState, event: Event) -> Sequence[str]:
    match event:
        case ev.BatchConfirmed():
            batch = state.batches.get(event.batch_id)
            return () if batch is None else batch.operation_ids
        case ev.OperationsRolledBack():
            return event.operation_ids
        case ev.OperationFailed():
            return (event.operation_id,)
    return ()


def require_invariants(state: CoreState) -> None:
    """All eight.

    Raises:
        Violation: one does not hold.
    """
    for report in check(state):
        if not report.ok:
            raise Violation(f"invariant {report.name}: {report.detail}")
