"""The records that memory keeps: agents, tasks, operations, batches and what was slashed. Only the fold changes them.

Mutable msgspec structs without garbage-collector tracking: they refer to each other by id, so that no cycle can form.
"""

from typing import TypeAlias

import msgspec

from coordinator.core.events import Decision
from coordinator.core.states import (
    TERMINAL,
    BatchState,
    BreakerState,
    FailureCode,
    OperationState,
    RollbackReason,
)

_EMA_WEIGHT = 0.2


def ema(old: float | None, sample: float, *, weight: float = _EMA_WEIGHT) -> float:
    """Exponential average; the first sample stands for itself."""
    return float(sample) if old is None else old + weight * (sample - old)


#: (at_ms, state, reason)
TimelineEntry: TypeAlias = tuple[int, OperationState, str]

#: Types an agent may have counted apart; later ones are counted together, so that labels and memory stay bounded.
MAX_TYPES_PER_AGENT = 64
OTHER_TYPE = "other"
#: Memory that an open operation takes besides its output: its records and its index entries.
OPERATION_OVERHEAD_BYTES = 2_048


class TypeCounts(msgspec.Struct, gc=False):
    """What became of one agent's operations of one type; `good` and `bad` fade, for the risk rule.

    `company`: of those confirmed lately, the share that had a child before (None: none was confirmed); `gap_ms`: how
    long after an operation its first child came, lately.
    """

    admitted: int = 0
    confirmed: int = 0
    rolled_back: int = 0
    failed: int = 0
    good: int = 0
    bad: int = 0
    company: float | None = None
    gap_ms: float | None = None


class Delegation(msgspec.Struct, gc=False):
    """What a delegator lets another agent bond, and how much of it is bonded now."""

    cap_lamports: int
    used_lamports: int = 0


class Agent(msgspec.Struct, gc=False):
    """An agent's key, its lamports (free + bonded = balance), its counts; `rollout_position` is in [0, 100).

    The bonded figures are of bonds on this agent's balance (its own operations', and others' by delegation);
    `commitments` and `branches` are of its own operations, whoever bonds for them.
    """

    agent_id: str
    agent_key: bytes
    token_hash: bytes
    registered_at_ms: int
    rollout_position: float
    free_lamports: int = 0
    bonded_lamports: int = 0
    deposited_lamports: int = 0
    withdrawn_lamports: int = 0
    bonded_ever_lamports: int = 0
    returned_lamports: int = 0
    slashed_lamports: int = 0
    received_lamports: int = 0
    cooldown_until_ms: int = 0
    commitments: int = 0
    branches: int = 0
    open_operations: int = 0
    by_type: dict[str, TypeCounts] = msgspec.field(default_factory=dict)
    delegators: dict[str, Delegation] = msgspec.field(default_factory=dict)

    @property
    def balance_lamports(self) -> int:
        """All that the agent owns: free and bonded."""
        return self.free_lamports + self.bonded_lamports

    def counts(self, operation_type: str) -> TypeCounts:
        """The counts of a type (made when it is new; those of `other` once there are too many)."""
        found = self.by_type.get(operation_type)
        if found is None:
            if len(self.by_type) >= MAX_TYPES_PER_AGENT:
                operation_type = OTHER_TYPE
            found = self.by_type.setdefault(operation_type, TypeCounts())
        return found


class Task(msgspec.Struct, gc=False):
    """A registered task: the constraint hash it enforces where it has one, and who holds it until when."""

    task_id: str
    constraint_hash: bytes | None
    depends_on: tuple[str, ...]
    claim_ttl_ms: int | None
    registered_at_ms: int
    claimed_by: str | None = None
    claim_expires_ms: int = 0


class PendingEnd(msgspec.Struct, gc=False):
    """How an operation in SUBMITTING ends once its transaction is dead; forgotten when it is included."""

    reason: RollbackReason
    failure: FailureCode | None
    detail: str
    commanded: bool


class Operation(msgspec.Struct, gc=False):
    """An operation and where it stands: what was admitted (the fields of `AdmittedOperation`, in their order), then
    what the fold keeps.

    `depth`: at admission. `bonded_by`: whose balance the bond is on. `number`: admission order; `rank`: an order in
    which parents stand before children (the number, but a replacement takes the rank of what it replaces).
    `unconfirmed`: parents that are not confirmed; `blocked`: of those, the ones that no batch holds. `speculative`:
    granted, and a parent still unconfirmed. `group`: 0, or the isolation group to be proved apart.
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
    priority: int
    deadline_ms: int | None
    retry_of: str | None
    committed: bool
    snapshot: bool
    bonded_by: str

    admitted_at_ms: int
    number: int
    rank: int
    speculative: bool
    timeline: list[TimelineEntry]

    unconfirmed: int = 0
    blocked: int = 0
    children: list[str] = msgspec.field(default_factory=list)
    granted_children: int = 0
    batch_id: str | None = None
    attempts: int = 0
    failures: int = 0
    solo_failures: int = 0
    failed_on: tuple[str, ...] = ()
    group: int = 0
    pending: PendingEnd | None = None
    ended_at_ms: int | None = None
    end_cause: str | None = None
    failure: FailureCode | None = None
    slash_id: str | None = None
    replaced_by: str | None = None

    @property
    def terminal(self) -> bool:
        """CONFIRMED, ROLLED_BACK or FAILED."""
        return self.state in TERMINAL

    @property
    def reason(self) -> str:
        """Why it is in its state."""
        return self.timeline[-1][2]


class Batch(msgspec.Struct, gc=False, kw_only=True):
    """One proof's operations, ancestors first. `lost`: members that ended before it; `waits_on`: batches in flight
    that must confirm before it is submitted; `tries`: transactions so far; `submitted_clock_ms`: the confirmation
    clock (which stands still while the chain is disconnected) at the first of them.
    """

    batch_id: str
    number: int
    operation_ids: tuple[str, ...]
    worker_id: str
    attempt: int
    reason: str
    operation_rows: int
    state: BatchState
    started_at_ms: int
    waits_on: list[str]
    waiters: list[str] = msgspec.field(default_factory=list)
    lost: int = 0
    ended_reason: str = ""
    ended_at_ms: int | None = None

    proved_at_ms: int | None = None
    root: bytes = b""
    proof_digest: bytes = b""
    proof_bytes: int = 0
    backend: str = ""
    prove_ms: int = 0
    permutations: int = 0
    rows: int = 0

    tries: int = 0
    transaction: str | None = None
    valid_until_slot: int = 0
    submitted_at_ms: int | None = None
    submitted_clock_ms: int | None = None
    uncertain: bool = False
    reorged: bool = False
    confirmed_slot: int | None = None
    reposting: bool = False
    repost_due: bool = False
    pending: int = 0


class SlashRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One slash, as `/admin/slash/{id}` shows it."""

    slash_id: str
    operation_id: str
    agent_id: str
    bonded_by: str
    code: FailureCode
    at_ms: int
    bond_lamports: int
    lamports: int
    victims: tuple[tuple[str, int], ...]
    treasury_lamports: int
    cooldown_until_ms: int
    detail: str


class Orphans(msgspec.Struct, gc=False):
    """The live children of a rolled-back operation, waiting for a replacement (policy selective)."""

    until_ms: int
    output_commitment: bytes
    rank: int
    children: tuple[str, ...]


class OutcomeBucket(msgspec.Struct, gc=False):
    """Operations that ended within one second, operators' own rollbacks left out."""

    second: int
    finished: int = 0
    rolled_back: int = 0
    failed: int = 0


class Breaker(msgspec.Struct, gc=False):
    """The circuit breaker: where it stands and why, its window, and the probes of the half-open state."""

    state: BreakerState = BreakerState.CLOSED
    reason: str = ""
    changed_at_ms: int = 0
    until_ms: int | None = None
    window: list[OutcomeBucket] = msgspec.field(default_factory=list)
    probes: dict[str, None] = msgspec.field(default_factory=dict)
    probes_confirmed: int = 0
    probe_failure: str = ""
