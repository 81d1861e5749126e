"""JSON of stuck stake and of delegations."""

from typing import Annotated

import msgspec
from msgspec import Meta

from coordinator.submission import MAX_LAMPORTS, Id

MAX_AGENT_IDS = 1_000


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body that the server sends."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that a client sends."""


class StuckAgent(_Answer, frozen=True):
    """An agent whose stake is locked in operations that have not moved for the confirmation timeout."""

    agent_id: str
    operations: int
    stuck_lamports: int
    oldest_seconds: float
    operation_ids: tuple[str, ...]


class StuckStake(_Answer, frozen=True):
    """All stuck stake. `agents`: the first 1,000 of them, the most locked first; `operation_ids`: up to 20 each."""

    stuck_lamports: int
    operations: int
    affected_agents: int
    older_than_seconds: float
    agents: tuple[StuckAgent, ...]


class RecoverStakeBody(_Body, frozen=True):
    """The agents whose stuck stake is to be freed."""

    agent_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_AGENT_IDS)]


class RecoveredAgent(_Answer, frozen=True):
    """`recovered`, `pending` (a transaction must die first), `nothing_stuck`, or `unknown_agent`."""

    agent_id: str
    verdict: str
    returned_lamports: int = 0
    pending_lamports: int = 0
    rolled_back: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


class RecoveredStake(_Answer, frozen=True):
    """A verdict for each agent, in order."""

    returned_lamports: int
    pending_lamports: int
    results: tuple[RecoveredAgent, ...]


class DelegateBody(_Body, frozen=True):
    """Let an agent bond on the delegator's balance, up to a cap; 0 revokes once its bonds have returned."""

    agent_id: Id
    cap_lamports: Annotated[int, Meta(ge=0, le=MAX_LAMPORTS)]


class DelegationAnswer(_Answer, frozen=True):
    """One delegation: who bears the slash, who may bond, up to what, and how much of it is bonded now."""

    delegator_id: str
    agent_id: str
    cap_lamports: int
    used_lamports: int


class Delegations(_Answer, frozen=True):
    """An agent's delegations. `active`: whether `speculation.features.enable_stake_delegation` is on."""

    agent_id: str
    active: bool
    given: tuple[DelegationAnswer, ...]
    received: tuple[DelegationAnswer, ...]
