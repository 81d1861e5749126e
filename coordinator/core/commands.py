"""What the shell says to the core and hears from it; none of this is kept, the log keeps events only.

Digests are 32 bytes, times milliseconds since the epoch, stake lamports.
"""

from collections.abc import Mapping

import msgspec

from coordinator.core.errors import CoreError
from coordinator.core.states import Denial, TransactionStatus


class Submission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One operation as the shell hands it in, its statement computed; the witness stays with the shell.

    `parent_commitments`: the outputs that the statement was computed from, in the parents' order; checked against
    the parents' own, since another operation may have got a parent's id meanwhile.
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
    parent_outputs: Mapping[str, bytes] | None = None
    parent_commitments: tuple[bytes, ...] | None = None
    priority: int = 0
    deadline_ms: int | None = None
    retry_of: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The answer to one submission: admitted now, the same as before (not created), or refused with an error."""

    operation_id: str
    created: bool
    error: CoreError | None = None


class OutputDecision(msgspec.Struct, frozen=True):
    """Whether an agent may have a parent's output: final, or granted speculatively, or denied with a reason."""

    final: bool
    granted: bool
    denial: Denial | None = None


class BatchPlan(msgspec.Struct, frozen=True):
    """Operations that one worker shall prove together; ancestors stand before descendants."""

    operation_ids: tuple[str, ...]
    worker_id: str
    reason: str


class ProvedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch proof that the shell has verified and stored."""

    root: bytes
    proof_digest: bytes
    proof_bytes: int
    worker_id: str
    backend: str
    prove_ms: int
    permutations: int
    rows: int


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain says about one transaction; `code` and `indices` (into the batch) only when it is refused."""

    transaction: str
    status: TransactionStatus
    slot: int
    code: str | None = None
    indices: tuple[int, ...] = ()


class TransactionDue(msgspec.Struct, frozen=True):
    """A transaction as it was logged, to be sent (again)."""

    batch_id: str
    transaction: str
    valid_until_slot: int


class Outcome(msgspec.Struct, frozen=True):
    """What an operator's command did: rolled back now, waiting for a dead transaction, and the drain's deadline."""

    rolled_back: tuple[str, ...]
    pending: tuple[str, ...]
    drain_until_ms: int | None = None
