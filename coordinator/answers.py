"""The API's JSON, as structs: the server encodes them, the client library decodes them, OpenAPI is made of
them.

Digests are hex, bytes base64, times RFC 3339 UTC. A client ignores fields it does not know, so fields may be
added.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from coordinator.submission import MAX_LAMPORTS, MAX_PARENTS, Digest, Id, Lamports, OperationBody

MONTH_S = 2_592_000
ClaimTtl: TypeAlias = Annotated[float, Meta(gt=0, le=MONTH_S, description="How long a claim holds.")]


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body that the server sends."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that a client sends."""


# -- agents and tasks ----------------------------------------------------------------------------------------


class AgentBody(_Body, frozen=True):
    """Registers an agent."""

    agent_id: Id
    agent_key: Digest
    deposit_lamports: Annotated[int, Meta(ge=0, le=MAX_LAMPORTS)] = 0


class LamportsBody(_Body, frozen=True):
    """An amount that comes in or goes out."""

    lamports: Lamports


class RegisteredAgent(_Answer, frozen=True):
    """A new agent; `token` is shown this once."""

    agent_id: str
    token: str
    balance_lamports: int
    in_rollout: bool


class AgentAnswer(_Answer, frozen=True):
    """An agent's stake: `balance` is free, `bonded` is locked in live operations, `slashed` is gone."""

    agent_id: str
    agent_key: str
    balance_lamports: int
    bonded_lamports: int
    slashed_lamports: int
    cooldown_until: str | None
    in_rollout: bool


class TaskBody(_Body, frozen=True):
    """Registers a task; its constraint hash, where given, is enforced."""

    task_id: Id
    constraint_hash: Digest | None = None
    depends_on: Annotated[tuple[Id, ...], Meta(max_length=MAX_PARENTS)] = ()
    claim_ttl_s: ClaimTtl | None = None


class TaskAnswer(_Answer, frozen=True):
    """A registered task."""

    task_id: str
    constraint_hash: str | None
    depends_on: tuple[str, ...]
    claim_ttl_s: int | float | None


class ClaimBody(_Body, frozen=True):
    """Claims a task; the agent is the token's unless an operator names one."""

    agent_id: Id | None = None


class ClaimAnswer(_Answer, frozen=True):
    """Until when the claim holds."""

    claim_expires_at: str


# -- operations ----------------------------------------------------------------------------------------------


class BatchBody(_Body, frozen=True):
    """Many operations; parents may stand before their children in the same batch."""

    operations: tuple[OperationBody, ...]


class SpeculationAnswer(_Answer, frozen=True):
    """The speculation decision: granted, or the typed denial; `reason` is null where nothing was to
    decide."""

    granted: bool
    reason: str | None
    stake_lamports: int


class StatementAnswer(_Answer, frozen=True):
    """The public statement's digests."""

    constraint_hash: str
    output_commitment: str
    nullifier: str
    agent_key: str
    public_digest: str
    binding: str


class OperationAnswer(_Answer, frozen=True):
    """An operation as it stands; `replaced_by` names the one that was submitted as its retry."""

    operation_id: str
    state: str
    depth: int
    speculation: SpeculationAnswer
    statement: StatementAnswer
    agent_id: str
    task_id: str
    operation_type: str
    depends_on: tuple[str, ...]
    reason: str
    batch_id: str | None
    submitted_at: str
    updated_at: str
    priority: int
    deadline: str | None
    retry_of: str | None
    replaced_by: str | None


class BatchVerdict(_Answer, frozen=True, omit_defaults=True):
    """What became of one operation of a batch: 202 (or 200, known before) with its state, else the error."""

    operation_id: str | None
    status: int
    state: str | None = None
    error: dict[str, Any] | None = None


class BatchAnswer(_Answer, frozen=True):
    """A verdict for every operation, in the order of the request."""

    results: tuple[BatchVerdict, ...]


class OperationPage(_Answer, frozen=True):
    """A page of operations in the order of their admission; `next_cursor` is null on the last one."""

    operations: tuple[OperationAnswer, ...]
    next_cursor: str | None


class OutputAnswer(_Answer, frozen=True):
    """An operation's output; `final` false means that it is given speculatively."""

    output: bytes
    output_commitment: str
    final: bool


class CancelAnswer(_Answer, frozen=True):
    """The operations that were rolled back, descendants first."""

    operation_id: str
    rolled_back: tuple[str, ...]
