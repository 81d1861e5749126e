"""All that memory holds: records, totals and indexes. A fold over the events changes it, and nothing else.

The persisted part is `StateImage`; the indexes are made anew from it when it is loaded. Nothing here depends on the
configuration: what a decision took from it stands in the event.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from coordinator.core import fold, snapshots
from coordinator.core.cost import CostModel
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import Event
from coordinator.core.ready import ReadyIndex
from coordinator.core.records import (
    OPERATION_OVERHEAD_BYTES,
    Agent,
    Batch,
    Breaker,
    Operation,
    Orphans,
    OutcomeBucket,
    SlashRecord,
    Task,
)
from coordinator.core.snapshots import Assumed
from coordinator.core.states import (
    IN_BATCH,
    BatchState,
    ConnectionStatus,
    Denial,
    FailureCode,
    Latch,
    OperationState,
    ReturnReason,
    RevertReason,
    RollbackReason,
)

#: Ended operations that memory keeps whole; of older confirmed ones it keeps id, output, task and nullifier.
RETAINED_OPERATIONS: Final = 100_000


class Totals(msgspec.Struct):
    """Counters and running estimates since the log began; the estimates are exponential averages."""

    treasury_lamports: int = 0
    deposited_lamports: int = 0
    withdrawn_lamports: int = 0
    admitted: int = 0
    confirmed: int = 0
    rolled_back: int = 0
    failed: int = 0
    batches_started: int = 0
    batches_confirmed: int = 0
    last_batch_number: int = 0
    last_group: int = 0
    slashes: int = 0
    good: int = 0
    bad: int = 0
    last_event_at_ms: int = 0
    paused_ms: int = 0
    disconnected_since_ms: int | None = None
    connection: ConnectionStatus = ConnectionStatus.CONNECTED
    latch: Latch | None = None
    drain_until_ms: int | None = None
    latency_ema_ms: float | None = None
    settle_ema_ms: float | None = None
    cost: CostModel = msgspec.field(default_factory=CostModel)
    rollbacks_by_reason: dict[RollbackReason, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(RollbackReason, 0)
    )
    denials_by_reason: dict[Denial, int] = msgspec.field(default_factory=lambda: dict.fromkeys(Denial, 0))
    slashed_by_reason: dict[FailureCode, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(FailureCode, 0)
    )
    failures_by_code: dict[FailureCode, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(FailureCode, 0)
    )
    returns_by_reason: dict[ReturnReason, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(ReturnReason, 0)
    )
    reverts_by_reason: dict[RevertReason, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(RevertReason, 0)
    )


class ConfirmedColumns(msgspec.Struct):
    """All that was ever confirmed, by column, since it is most of a long history; an entry of each an operation.

    `outputs` and `nullifiers` are digests of 32 bytes, one after the other. The owners of tasks and nullifiers are the
    operations, in their order, where no list says otherwise.
    """

    operation_ids: list[str]
    outputs: bytes
    task_ids: list[str]
    nullifiers: bytes
    task_owners: list[str] | None = None
    nullifier_owners: list[str] | None = None


class StateImage(msgspec.Struct):
    """The persisted part of the state, as a snapshot holds it."""

    agents: dict[str, Agent]
    tasks: dict[str, Task]
    live: dict[str, Operation]
    ended: dict[str, Operation]
    batches: dict[str, Batch]
    ended_batches: dict[str, Batch]
    confirmed: ConfirmedColumns
    overrides: dict[str, bool | int | float | str]
    slashes: dict[str, SlashRecord]
    orphans: dict[str, Orphans]
    held: dict[str, None]
    outcomes: list[OutcomeBucket]
    rollback_minutes: dict[int, dict[RollbackReason, int]]
    breaker: Breaker
    totals: Totals
    retained: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(StateImage)
_DIGEST = struct.Struct("32s")

#: Raised when the fold comes to give another state for the same events: snapshots of before are not used any more.
FOLD_VERSION = 1


def _state_schema() -> str:
    fields = json.dumps(msgspec.json.schema(StateImage), sort_keys=True)
    return f"{FOLD_VERSION}:{hashlib.sha256(fields.encode()).hexdigest()[:16]}"


#: Names the format of `CoreState.dump`; it changes with the fields of the records by itself.
STATE_SCHEMA = _state_schema()


class CoreState:
    """The state of everything; read it freely, change it only by `apply`.

    `live`: operations that have not ended, in order of admission; `ended`: the latest that have. `batches`: those in
    flight; `ended_batches`: the latest others. `held`: operations that a cleared queue holds back until the next
    tick. `counts`: live operations by state. `due`: batches to submit, oldest first. `submitted`: batches whose
    confirmation clock runs, in order of its start. `ready`: what may be proved.
    """

    def __init__(self, *, retained: int = RETAINED_OPERATIONS) -> None:
        self.agents: dict[str, Agent] = {}
        self.tasks: dict[str, Task] = {}
        self.live: dict[str, Operation] = {}
        self.ended: dict[str, Operation] = {}
        self.batches: dict[str, Batch] = {}
        self.ended_batches: dict[str, Batch] = {}
        self.confirmed_outputs: dict[str, bytes] = {}
        self.confirmed_tasks: dict[str, str] = {}
        self.spent_nullifiers: dict[bytes, str] = {}
        self.overrides: dict[str, bool | int | float | str] = {}
        self.slashes: dict[str, SlashRecord] = {}
        self.orphans: dict[str, Orphans] = {}
        self.held: dict[str, None] = {}
        self.outcomes: list[OutcomeBucket] = []
        self.rollback_minutes: dict[int, dict[RollbackReason, int]] = {}
        self.breaker = Breaker()
        self.totals = Totals()
        self.retained = retained
        self._reset_indexes()

    def _reset_indexes(self) -> None:
        self.counts: dict[OperationState, int] = dict.fromkeys(OperationState, 0)
        self.live_nullifiers: dict[bytes, str] = {}
        self.task_live: dict[str, tuple[str, ...]] = {}
        self.task_in_flight: dict[str, str] = {}
        self.ready = ReadyIndex()
        self.due: dict[str, None] = {}
        self.reposting: dict[str, None] = {}
        self.submitted: dict[str, None] = {}
        self.commitments = 0
        self.snapshots = 0
        self.assumed: dict[str, Assumed] = {}
        self.branches = 0
        self.locked_lamports = 0
        self.open_bytes = 0
        self.queued_rows = 0
        self.depth_counts: dict[int, int] = {}
        self.ended_batch_operations = 0
        self.depth_cache: dict[str, int] = {}
        self.lineage_cache: dict[str, Mapping[tuple[str, str], int]] = {}

    def apply(self, event: Event) -> None:
        """Fold one event in.

        Raises:
            AssertionError: the event does not follow from the state (a defect, or a log that is not ours).
        """
        fold.apply(self, event)

    # -- what others ask ------------------------------------------------------------------------------------------

    def operation(self, operation_id: str) -> Operation:
        """The record of a live or recently ended operation.

        Raises:
            CoreError: `unknown_operation`.
        """
        found = self.live.get(operation_id) or self.ended.get(operation_id)
        if found is None:
            raise CoreError(ErrorCode.UNKNOWN_OPERATION, f"no operation {operation_id!r} is kept")
        return found

    def batch(self, batch_id: str) -> Batch:
        """The record of a batch in flight or recently ended.

        Raises:
            CoreError: `not_found`.
        """
        found = self.batches.get(batch_id) or self.ended_batches.get(batch_id)
        if found is None:
            raise CoreError(ErrorCode.NOT_FOUND, f"no batch {batch_id!r} is kept")
        return found

    def commitment_of(self, operation_id: str) -> bytes | None:
        """The output commitment of a live or confirmed operation, None for any other."""
        operation = self.live.get(operation_id)
        return self.confirmed_outputs.get(operation_id) if operation is None else operation.output_commitment

    def members(self, batch: Batch) -> Iterator[Operation]:
        """The operations that a batch in flight still holds, ancestors first."""
        live = self.live
        for operation_id in batch.operation_ids:
            operation = live.get(operation_id)
            if operation is not None and operation.batch_id == batch.batch_id:
                yield operation

    @property
    def queued(self) -> int:
        """Operations in QUEUED, the proof queue."""
        return self.counts[OperationState.QUEUED]

    @property
    def open_operations(self) -> int:
        """Unconfirmed operations of every kind."""
        return len(self.live)

    @property
    def current_depth(self) -> int:
        """The greatest depth (at admission) among the speculative operations."""
        return max(self.depth_counts, default=0)

    def confirmation_clock_ms(self, now_ms: int) -> int:
        """A clock that stands still while the chain is disconnected."""
        since = self.totals.disconnected_since_ms
        return (now_ms if since is None else since) - self.totals.paused_ms

    def depth_of(self, operation: Operation) -> int:
        """The depth now: 0 when all parents are confirmed, else 1 + the greatest among the unconfirmed ones.

        Confirmations lower it, so answers are remembered only until the next one. Walks with its own stack: a chain
        of held operations may be longer than Python's.
        """
        cache, live = self.depth_cache, self.live
        remembered = cache.get(operation.operation_id)
        if remembered is not None:
            return remembered
        stack = [operation]
        while stack:
            top = stack[-1]
            if not top.unconfirmed:
                cache[top.operation_id] = 0
                stack.pop()
                continue
            depth, missing = 0, False
            for parent_id in top.parents:
                parent = live.get(parent_id)
                if parent is None:
                    continue
                known = cache.get(parent_id)
                if known is None:
                    stack.append(parent)
                    missing = True
                elif known >= depth:
                    depth = known
            if not missing:
                cache[top.operation_id] = depth + 1
                stack.pop()
        return cache[operation.operation_id]

    # -- snapshots ------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """The persisted part as MessagePack; states that events made equal give equal bytes."""
        fields = {name: getattr(self, name) for name in StateImage.__struct_fields__ if name != "confirmed"}
        return _ENCODER.encode(StateImage(confirmed=self._columns(), **fields))

    def _columns(self) -> ConfirmedColumns:
        operation_ids = list(self.confirmed_outputs)
        task_owners, nullifier_owners = (
            list(self.confirmed_tasks.values()),
            list(self.spent_nullifiers.values()),
        )
        return ConfirmedColumns(
            operation_ids=operation_ids,
            outputs=b"".join(self.confirmed_outputs.values()),
            task_ids=list(self.confirmed_tasks),
            nullifiers=b"".join(self.spent_nullifiers),
            task_owners=None if task_owners == operation_ids else task_owners,
            nullifier_owners=None if nullifier_owners == operation_ids else nullifier_owners,
        )

    @classmethod
    def load(cls, body: bytes | memoryview) -> "CoreState":
        """The state that `dump` wrote, its indexes made anew.

        Raises:
            msgspec.DecodeError: the bytes are not a state.
        """
        image = _DECODER.decode(body)
        state = cls(retained=image.retained)
        for name in StateImage.__struct_fields__:
            if name != "confirmed":
                setattr(state, name, getattr(image, name))
        state._load_confirmed(image.confirmed)
        state._index()
        return state

    def _load_confirmed(self, columns: ConfirmedColumns) -> None:
        ids = columns.operation_ids
        task_owners = ids if columns.task_owners is None else columns.task_owners
        nullifier_owners = ids if columns.nullifier_owners is None else columns.nullifier_owners
        try:
            self.confirmed_outputs = dict(zip(ids, _digests(columns.outputs), strict=True))
            self.confirmed_tasks = dict(zip(columns.task_ids, task_owners, strict=True))
            self.spent_nullifiers = dict(zip(_digests(columns.nullifiers), nullifier_owners, strict=True))
        except (ValueError, struct.error) as error:
            raise msgspec.DecodeError(f"the columns of what was confirmed do not fit: {error}") from error

    def _index(self) -> None:
        self._reset_indexes()
        for operation in self.live.values():
            self._index_operation(operation)
        for batch in self.batches.values():
            if batch.state in (BatchState.PROVED, BatchState.AWAITING_ANCESTORS) and not batch.waits_on:
                self.due[batch.batch_id] = None
        clocks = [
            (batch.submitted_clock_ms, batch.number, batch.batch_id)
            for batch in self.batches.values()
            if batch.submitted_clock_ms is not None
        ]
        self.submitted = dict.fromkeys(batch_id for _, _, batch_id in sorted(clocks))
        for batch in self.ended_batches.values():
            self.ended_batch_operations += len(batch.operation_ids)
            if batch.reposting:
                self.reposting[batch.batch_id] = None
            if batch.repost_due:
                self.due[batch.batch_id] = None
        self.branches = sum(agent.branches for agent in self.agents.values())
        self.count_ends()

    def count_ends(self) -> None:
        """Take the counts of ended operations from the totals, since the records do not last."""
        self.counts[OperationState.CONFIRMED] = self.totals.confirmed
        self.counts[OperationState.ROLLED_BACK] = self.totals.rolled_back
        self.counts[OperationState.FAILED] = self.totals.failed

    def _index_operation(self, operation: Operation) -> None:
        self.counts[operation.state] += 1
        self.live_nullifiers[operation.nullifier] = operation.operation_id
        rivals = self.task_live.get(operation.task_id, ())
        self.task_live[operation.task_id] = (*rivals, operation.operation_id)
        self.commitments += operation.committed
        self.locked_lamports += operation.bond_lamports
        self.open_bytes += operation.output_bytes + OPERATION_OVERHEAD_BYTES
        if operation.speculative:
            self.snapshots += operation.snapshot
            if operation.snapshot:
                snapshots.take(self, operation)
            self.depth_counts[operation.depth] = self.depth_counts.get(operation.depth, 0) + 1
        if operation.state in IN_BATCH:
            self.task_in_flight[operation.task_id] = operation.operation_id
        elif operation.state is OperationState.QUEUED:
            self.queued_rows += operation.rows
            if operation.group or not operation.blocked:
                self.ready.add(operation)


def _digests(joined: bytes) -> Iterator[bytes]:
    return (digest for (digest,) in _DIGEST.iter_unpack(joined))


def replay(events: Iterable[Event], *, retained: int = RETAINED_OPERATIONS) -> CoreState:
    """The state that a log's events make, from nothing."""
    state = CoreState(retained=retained)
    for event in events:
        state.apply(event)
    return state


def rollout_position(agent_id: str) -> float:
    """Where an agent stands in [0, 100): in rollout while that is below the percentage, so raising it only adds."""
    head = hashlib.sha256(agent_id.encode()).digest()[:8]
    return int.from_bytes(head, "big") / 2**64 * 100
