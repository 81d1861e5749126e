"""The life of an operation: its states, the one table of transitions, and every typed reason for a move.

Everything that names a state or a reason (API, metrics, log, docs, tests) derives it from here.
"""

from enum import StrEnum


class OperationState(StrEnum):
    """Where an operation stands; the last three are terminal."""

    SUBMITTED = "SUBMITTED"
    SPECULATING = "SPECULATING"
    DEFERRED = "DEFERRED"
    QUEUED = "QUEUED"
    PROVING = "PROVING"
    PROVED = "PROVED"
    AWAITING_ANCESTORS = "AWAITING_ANCESTORS"
    SUBMITTING = "SUBMITTING"
    CONFIRMED = "CONFIRMED"
    ROLLED_BACK = "ROLLED_BACK"
    FAILED = "FAILED"


_S = OperationState

TERMINAL: frozenset[OperationState] = frozenset({_S.CONFIRMED, _S.ROLLED_BACK, _S.FAILED})

#: What an operation is doing while a batch holds it.
IN_BATCH: frozenset[OperationState] = frozenset({_S.PROVING, _S.PROVED, _S.AWAITING_ANCESTORS, _S.SUBMITTING})

_ENDS = frozenset({_S.ROLLED_BACK, _S.FAILED})

#: The one table of transitions: from → the states it may move to.
#: PROVED and AWAITING_ANCESTORS → QUEUED is isolation: a batch that lost a member (rolled back, failed, or named
#: guilty by the chain) cannot be submitted, since its proof covers the lost one; the others are proved again.
TRANSITIONS: dict[OperationState, frozenset[OperationState]] = {
    _S.SUBMITTED: frozenset({_S.SPECULATING, _S.DEFERRED, _S.QUEUED}),
    _S.SPECULATING: frozenset({_S.QUEUED}) | _ENDS,
    _S.DEFERRED: frozenset({_S.QUEUED}) | _ENDS,
    _S.QUEUED: frozenset({_S.PROVING, _S.SPECULATING, _S.DEFERRED}) | _ENDS,
    _S.PROVING: frozenset({_S.PROVED, _S.QUEUED, _S.SPECULATING, _S.DEFERRED}) | _ENDS,
    _S.PROVED: frozenset({_S.AWAITING_ANCESTORS, _S.SUBMITTING, _S.QUEUED}) | _ENDS,
    _S.AWAITING_ANCESTORS: frozenset({_S.SUBMITTING, _S.QUEUED}) | _ENDS,
    # No zombie (invariant 8): nothing leaves SUBMITTING for an end but by the chain's word.
    _S.SUBMITTING: frozenset({_S.CONFIRMED, _S.PROVED}),
    _S.CONFIRMED: frozenset(),
    _S.ROLLED_BACK: frozenset(),
    _S.FAILED: frozenset(),
}


class BatchState(StrEnum):
    """Where a batch stands; it moves its operations with it."""

    PROVING = "PROVING"
    PROVED = "PROVED"
    AWAITING_ANCESTORS = "AWAITING_ANCESTORS"
    SUBMITTING = "SUBMITTING"
    CONFIRMED = "CONFIRMED"
    DISSOLVED = "DISSOLVED"


class Denial(StrEnum):
    """Why speculation was not granted. Not an error: the operation is DEFERRED and goes on without it."""

    DISABLED = "disabled"
    ROLLOUT = "rollout"
    CIRCUIT_OPEN = "circuit_open"
    DEPTH_LIMIT = "depth_limit"
    BRANCH_LIMIT = "branch_limit"
    STAKE_INSUFFICIENT = "stake_insufficient"
    UNBONDED_PARENT = "unbonded_parent"
    COOLDOWN = "cooldown"
    SNAPSHOT_LIMIT = "snapshot_limit"
    MEMORY_LIMIT = "memory_limit"
    PENDING_LIMIT = "pending_limit"
    CLAIM_WINDOW = "claim_window"
    CROSS_AGENT = "cross_agent"
    RISK = "risk"


class RollbackReason(StrEnum):
    """Why an operation was rolled back through no fault of its own."""

    CONFIRMATION_TIMEOUT = "confirmation_timeout"
    CHAIN_REORG = "chain_reorg"
    INVALID_STATE = "invalid_state"
    STAKE_INSUFFICIENT = "stake_insufficient"
    PROOF_FAILED = "proof_failed"
    PARENT_ROLLED_BACK = "parent_rolled_back"
    PARENT_FAILED = "parent_failed"
    DRAINED = "drained"
    EMERGENCY = "emergency"
    CANCELLED = "cancelled"


#: Rollbacks an operator or the agent asked for; the breaker and the rollback rate leave them out.
COMMANDED_ROLLBACKS: frozenset[RollbackReason] = frozenset(
    {RollbackReason.DRAINED, RollbackReason.EMERGENCY, RollbackReason.CANCELLED}
)

#: After these the client library resubmits under a new id with `retry_of`.
RETRYABLE_ROLLBACKS: frozenset[RollbackReason] = frozenset(
    {RollbackReason.CONFIRMATION_TIMEOUT, RollbackReason.CHAIN_REORG, RollbackReason.DRAINED}
)


class FailureCode(StrEnum):
    """Why an operation FAILED: its own fault, named by the core or by the chain."""

    CONSTRAINT_MISMATCH = "constraint_mismatch"
    DOUBLE_SPEND = "double_spend"
    INVALID_WITNESS = "invalid_witness"
    CLAIM_ABANDONED = "claim_abandoned"
    CHAIN_REFUSED = "chain_refused"


#: The agent's own faults that slash its bond; a refusal without such a fault takes nothing.
SLASHING: frozenset[FailureCode] = frozenset(
    {
        FailureCode.CONSTRAINT_MISMATCH,
        FailureCode.DOUBLE_SPEND,
        FailureCode.INVALID_WITNESS,
        FailureCode.CLAIM_ABANDONED,
    }
)


class RollbackPolicy(StrEnum):
    """What happens to the descendants of an operation that was rolled back."""

    CASCADE = "cascade"
    SELECTIVE = "selective"
    CHECKPOINT = "checkpoint"


class ConnectionStatus(StrEnum):
    """How the chain can be reached; the confirmation timeout stands still while it cannot."""

    CONNECTED = "connected"
    DEGRADED = "degraded"
    DISCONNECTED = "disconnected"


class TransactionStatus(StrEnum):
    """What the chain says about a transaction; the last four mean that it is dead."""

    PENDING = "pending"
    INCLUDED = "included"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"
    DROPPED = "dropped"
    REFUSED = "refused"
    REORGED = "reorged"


class ReturnReason(StrEnum):
    """Why a batch gave its operations back to the queue."""

    WORKER_LOST = "worker_lost"
    TIMEOUT = "timeout"
    PROVER_ERROR = "prover_error"
    OUT_OF_MEMORY = "out_of_memory"
    INVALID_PROOF = "invalid_proof"
    MEMBER_LOST = "member_lost"
    #: A batch that it waits on was returned: what is in flight has its unconfirmed parents in flight, so that
    #: no two batches ever wait on each other.
    ANCESTOR_RETURNED = "ancestor_returned"
    REFUSED = "refused"
    RESTARTED = "restarted"


#: Returns that are the worker's or the prover's doing: the operations go to another worker next.
WORKER_FAILURES: frozenset[ReturnReason] = frozenset(
    {
        ReturnReason.WORKER_LOST,
        ReturnReason.TIMEOUT,
        ReturnReason.PROVER_ERROR,
        ReturnReason.OUT_OF_MEMORY,
        ReturnReason.INVALID_PROOF,
    }
)


class RevertReason(StrEnum):
    """Why a submitted batch went back to PROVED; the same proof is submitted again."""

    DROPPED = "dropped"
    EXPIRED = "expired"
    REORG = "reorg"
    REFUSED = "refused"


class BreakerState(StrEnum):
    """The circuit breaker; the metric shows 0, 1 and 2 in this order."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Latch(StrEnum):
    """An operator's stop that overrides every source of configuration until `enabled: true` is set."""

    DRAINING = "draining"
    DISABLED = "disabled"
