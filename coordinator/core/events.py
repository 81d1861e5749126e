"""Every event of the log, in one place. State is a fold over them; nothing else changes it.

Encoded as MessagePack arrays tagged by the class's name; a field may be appended with a default, never removed,
renamed or reordered (the log keeps old ones). From admission on, one event moves a whole batch.
Digests are 32 bytes; stake is in lamports; times are milliseconds since the epoch, injected.
"""

from typing import TypeAlias

import msgspec

from coordinator.core.states import (
    BreakerState,
    ConnectionStatus,
    Denial,
    FailureCode,
    Latch,
    OperationState,
    ReturnReason,
    RevertReason,
    RollbackReason,
)


class _Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    at_ms: int


class AgentRegistered(_Event, frozen=True):
    """An agent joined with its key, its token's hash and a first deposit."""

    agent_id: str
    agent_key: bytes
    token_hash: bytes
    deposit_lamports: int


class StakeDeposited(_Event, frozen=True):
    """Lamports came into an agent's balance from outside."""

    agent_id: str
    lamports: int


class StakeWithdrawn(_Event, frozen=True):
    """Lamports left an agent's free balance; never of bonded stake."""

    agent_id: str
    lamports: int


class TaskRegistered(_Event, frozen=True):
    """A task is known, with the constraint hash it enforces where it has one."""

    task_id: str
    constraint_hash: bytes | None
    depends_on: tuple[str, ...]
    claim_ttl_ms: int | None


class TaskClaimed(_Event, frozen=True):
    """An agent holds a task until the claim expires."""

    task_id: str
    agent_id: str
    expires_at_ms: int


class StakeDelegated(_Event, frozen=True):
    """A delegator lets another agent bond up to a cap of its balance, and bears the slash; 0 revokes."""

    delegator_id: str
    agent_id: str
    cap_lamports: int


class Decision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The numbers the speculation decision saw and the rule that decided it.

    The limits are those in force at admission, so that the invariants can be checked after they were changed:
    `branches` and `bonded_lamports` count this operation in, `claim_margin_ms` is the time left of the shortest
    claim among the operation's task and its unconfirmed ancestors' (None where nobody holds one).
    """

    rule: str
    denial: Denial | None
    probability: float
    gain_ms: float
    loss_ms: float
    stake_lamports: int
    max_depth: int = 0
    branches: int = 0
    max_branches: int = 0
    bonded_lamports: int = 0
    max_stake_lamports: int = 0
    claim_margin_ms: int | None = None
    claim_buffer_ms: int = 0


class AdmittedOperation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that the log keeps of an admitted operation; its witness lies beside the log.

    `committed`: a bond (perhaps of 0 lamports) is locked until the operation ends, on `bonded_by`'s balance, or on
    its own agent's when that is None. `snapshot`: the state before it is kept to return to.
    """

    operation_id: str
    agent_id: str
    task_id: str
    operation_type: str
    parents: tuple[str, ...]
    content_digest: bytes
    constraint_hash: bytes
    output_commitment: bytes
    nullifier: bytes
    agent_key: bytes
    public_digest: bytes
    statement: bytes
    binding: bytes
    output_bytes: int
    rows: int
    state: OperationState
    depth: int
    bond_lamports: int
    decision: Decision | None
    priority: int = 0
    deadline_ms: int | None = None
    retry_of: str | None = None
    committed: bool = False
    snapshot: bool = False
    bonded_by: str | None = None


class OperationsAdmitted(_Event, frozen=True):
    """Operations were admitted, bonds locked, nullifiers reserved; parents stand before children."""

    operations: tuple[AdmittedOperation, ...]


class OperationsQueued(_Event, frozen=True):
    """Held operations may be proved now: their parents are confirmed, or speculation lets them."""

    operation_ids: tuple[str, ...]
    reason: str


class BatchStarted(_Event, frozen=True):
    """A worker was given a batch; ancestors stand before descendants."""

    batch_id: str
    operation_ids: tuple[str, ...]
    worker_id: str
    attempt: int
    reason: str


class BatchReturned(_Event, frozen=True):
    """A batch gave its live operations back to the queue. `isolate`: its halves must be proved apart, or, where
    `isolate_index` names one operation of the batch, that one apart from the others."""

    batch_id: str
    reason: ReturnReason
    detail: str
    isolate: bool
    isolate_index: int | None = None


class QueueCleared(_Event, frozen=True):
    """An operator discarded batches; operations went back to (SPECULATING ids, DEFERRED ids), none was dropped."""

    batch_ids: tuple[str, ...]
    speculating_ids: tuple[str, ...]
    deferred_ids: tuple[str, ...]


class BatchProved(_Event, frozen=True):
    """A verified proof of the batch is stored."""

    batch_id: str
    root: bytes
    proof_digest: bytes
    proof_bytes: int
    worker_id: str
    backend: str
    prove_ms: int
    permutations: int
    rows: int


class BatchAwaiting(_Event, frozen=True):
    """A proved batch waits until ancestors outside it are confirmed (invariant 1)."""

    batch_id: str


class BatchSubmitted(_Event, frozen=True):
    """Logged before the transaction is sent, which is named by the batch and the try: a resend is the same one."""

    batch_id: str
    transaction: str
    valid_until_slot: int


class BatchReverted(_Event, frozen=True):
    """The transaction is dead (dropped, expired, refused, or reorganised away): the batch is PROVED again."""

    batch_id: str
    reason: RevertReason
    detail: str


class BatchConfirmed(_Event, frozen=True):
    """The batch is final: bonds return, nullifiers and tasks are spent."""

    batch_id: str
    transaction: str
    slot: int


class RollbackPending(_Event, frozen=True):
    """A rollback waits for a transaction to die (invariant 8); inclusion wins. With `failure` the operations then
    end FAILED with that code, by their own fault, and `reason` is without effect."""

    operation_ids: tuple[str, ...]
    reason: RollbackReason
    failure: FailureCode | None = None
    detail: str = ""
    commanded: bool = False


class OperationsRolledBack(_Event, frozen=True):
    """Operations ended through no fault of their own, descendants before ancestors; bonds return whole.

    `commanded`: an operator or the agent asked for it, which the breaker and the rollback rate leave out.
    `orphans_until_ms`: the policy lets their live children wait that long for a replacement (None: they have none).
    """

    operation_ids: tuple[str, ...]
    reasons: tuple[RollbackReason, ...]
    cause: str
    commanded: bool = False
    orphans_until_ms: int | None = None


class Slash(msgspec.Struct, frozen=True, array_like=True):
    """What a fault took from a bond and where it went; `lamports` = sum of shares + treasury.

    `victims` are (agent id, lamports), one entry an agent, in the order of the ids; the lamports came from
    `bonded_by`'s bond, which is the guilty agent's own but for delegation.
    """

    slash_id: str
    lamports: int
    victims: tuple[tuple[str, int], ...]
    treasury_lamports: int
    cooldown_until_ms: int
    agent_id: str = ""
    bonded_by: str = ""


class OperationFailed(_Event, frozen=True):
    """An operation ended by its own fault. Its descendants were rolled back by the event before this one."""

    operation_id: str
    code: FailureCode
    detail: str
    slash: Slash | None


class ConfigChanged(_Event, frozen=True):
    """Runtime configuration; a value of None removes the override. Values are JSON scalars."""

    changes: dict[str, bool | int | float | str | None]
    by: str


class LatchChanged(_Event, frozen=True):
    """An operator's stop was set or cleared (None)."""

    latch: Latch | None
    drain_until_ms: int | None
    by: str


class BreakerChanged(_Event, frozen=True):
    """The circuit breaker moved, and why."""

    state: BreakerState
    reason: str
    until_ms: int | None


class ChainConnectionChanged(_Event, frozen=True):
    """The chain became reachable or not; confirmation timeouts leave out the `paused_ms` that end with it."""

    status: ConnectionStatus
    paused_ms: int


class FinalityViolated(_Event, frozen=True):
    """The chain undid confirmed batches; state is kept, they are posted again."""

    batch_ids: tuple[str, ...]
    slot: int


class RebuiltAgent(msgspec.Struct, frozen=True, array_like=True):
    """An agent as a rebuild found it: everything it owns is free."""

    agent_id: str
    agent_key: bytes
    token_hash: bytes
    balance_lamports: int


class RebuiltOperation(msgspec.Struct, frozen=True, array_like=True):
    """A confirmed statement as a rebuild found it on the chain."""

    operation_id: str
    task_id: str
    output_commitment: bytes
    nullifier: bytes


class StateRebuilt(_Event, frozen=True):
    """The log was lost and the chain is the source: a new log starts from this. Batch numbers go on after
    `last_batch_number`, so that no transaction's name is used twice."""

    agents: tuple[RebuiltAgent, ...]
    treasury_lamports: int
    confirmed: tuple[RebuiltOperation, ...]
    last_batch_number: int


class AgentTokenIssued(_Event, frozen=True):
    """An agent got another token in place of its own, which was lost; with its key, where that was lost too."""

    agent_id: str
    agent_key: bytes
    token_hash: bytes


class AdminActed(_Event, frozen=True):
    """An admin write: who (the token's name), what, before and after."""

    by: str
    action: str
    before: str
    after: str


Event: TypeAlias = (
    AgentRegistered
    | StakeDeposited
    | StakeWithdrawn
    | StakeDelegated
    | TaskRegistered
    | TaskClaimed
    | OperationsAdmitted
    | OperationsQueued
    | BatchStarted
    | BatchReturned
    | QueueCleared
    | BatchProved
    | BatchAwaiting
    | BatchSubmitted
    | BatchReverted
    | BatchConfirmed
    | RollbackPending
    | OperationsRolledBack
    | OperationFailed
    | ConfigChanged
    | LatchChanged
    | BreakerChanged
    | ChainConnectionChanged
    | FinalityViolated
    | StateRebuilt
    | AgentTokenIssued
    | AdminActed
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """MessagePack bytes of one event."""
    return _ENCODER.encode(event)


def decode_event(body: bytes) -> Event:
    """The event of `encode_event`'s bytes.

    Raises:
        msgspec.DecodeError: the bytes are not one of the events.
    """
    return _DECODER.decode(body)
