"""The JSON of recovery, memory and the log's upkeep; see `answers` for the conventions."""

import msgspec


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body that the server sends."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that a client sends."""


class RecoveryBody(_Body, frozen=True):
    """`POST /admin/recovery`. `from_slot`: as of where on chain; only `latest_confirmed` is final."""

    action: str
    from_slot: str | int | None = None


class LossesAnswer(_Answer, frozen=True):
    """What a rebuild from the chain could not bring back: operations that were not confirmed, the bonds that were
    released with them, and agents whose token nobody knows any more."""

    operations: tuple[str, ...]
    number_of_operations: int
    released_lamports: int
    agents_without_token: tuple[str, ...]


class RecoveryAnswer(_Answer, frozen=True):
    """A rebuild. `source`: `log` or `chain`; `set_aside`: where in the data folder the damaged log is kept."""

    status: str
    step: str
    started_at: str | None
    ended_at: str | None
    source: str | None
    detail: str
    set_aside: str | None
    agents: int | None
    confirmed_operations: int | None
    losses: LossesAnswer | None


class TokenBody(_Body, frozen=True):
    """`POST /admin/agent/{id}/token`. `agent_key`: 64 hex digits, only where a rebuild could not find the key."""

    agent_key: str | None = None


class TokenAnswer(_Answer, frozen=True):
    """An agent's new token, shown this once."""

    agent_id: str
    token: str


class MemoryAnswer(_Answer, frozen=True):
    """Where the coordinator's memory is, in megabytes of 2^20 bytes; the parts sum to the total, which is the resident
    memory of the process."""

    total_mb: float
    limit_mb: int
    state_snapshots_mb: float
    pending_operations_mb: float
    proof_cache_mb: float
    other_mb: float


class CollectionAnswer(_Answer, frozen=True):
    """What a collection freed."""

    before: MemoryAnswer
    after: MemoryAnswer
    freed_mb: float
    took_ms: float
    objects_collected: int


class LogHealth(_Answer, frozen=True):
    """The log: whether it takes events (`writable`, `read_only`, `damaged`, `rebuilding`), and why not; how far the
    check of what lies before the last start's snapshot is (`running`, `ok`, `damaged`); what a restart would read."""

    state: str
    reason: str | None
    verification: str
    verified_events: int
    events_to_verify: int
    events: int
    snapshot_at_event: int
    since_snapshot: int
    archived_segments: int
    reloads: int
