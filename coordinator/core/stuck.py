"""Stuck stake: bonds of operations that go nowhere, and how an operator gets them back.

A bond is *stuck* when its operation has not moved for longer than `confirmation_timeout_ms`: no worker proves it, its
parents do not confirm, or the chain does not answer (the timeout's own clock stands still while it is disconnected, so
that stake could be locked without end). Nothing else can hold stake: the bond of what has ended was returned by that
very event, which the invariant of conservation checks.

Recovering rolls these operations back with `confirmation_timeout`, descendants first. Nobody is slashed; what is on its
way to the chain goes once its transaction is dead, and stays when that is included after all.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from coordinator.core.core import Core
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import AdminActed
from coordinator.core.records import Operation
from coordinator.core.rollback import roll_back
from coordinator.core.states import RollbackReason

ACTION = "recover_stake"


class StakeRecovery(msgspec.Struct, frozen=True):
    """What became of one agent's stuck bonds: returned now, or once a transaction is dead."""

    rolled_back: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    returned_lamports: int = 0
    pending_lamports: int = 0


def stuck_bonds(core: Core, *, now_ms: int) -> dict[str, list[Operation]]:
    """The operations with stuck bonds by the agent whose stake is locked, oldest first."""
    before_ms = now_ms - core.config.confirmation_timeout_ms
    found: dict[str, list[Operation]] = {}
    for operation in core.state.live.values():  # in order of admission
        if operation.admitted_at_ms > before_ms:
            break
        if operation.committed and operation.pending is None and operation.timeline[-1][0] <= before_ms:
            found.setdefault(operation.bonded_by, []).append(operation)
    return found


def recover_stake(
    core: Core, agent_ids: Sequence[str] | None, *, by: str, now_ms: int
) -> dict[str, StakeRecovery | CoreError]:
    """Free the stuck stake of these agents, or of all that have some.

    Returns:
        A verdict for each agent: what was freed (nothing, where nothing is stuck), or `unknown_agent`.
    """
    stuck = stuck_bonds(core, now_ms=now_ms)
    asked = list(stuck) if agent_ids is None else list(dict.fromkeys(agent_ids))
    known = [agent_id for agent_id in asked if agent_id in core.state.agents]
    roots = {one.operation_id: one for agent_id in known for one in stuck.get(agent_id, ())}
    bonds = _bonds(core, roots.values())
    outcome = roll_back(
        core,
        dict.fromkeys(roots, RollbackReason.CONFIRMATION_TIMEOUT),
        cause=f"stake recovered by {by}",
        commanded=True,
        now_ms=now_ms,
    )
    verdicts: dict[str, StakeRecovery | CoreError] = {}
    for agent_id in asked:
        if agent_id not in core.state.agents:
            verdicts[agent_id] = CoreError(
                ErrorCode.UNKNOWN_AGENT, f"no agent {agent_id!r}", field="agent_ids"
            )
            continue
        mine = bonds.get(agent_id, {})
        ended = tuple(one for one in outcome.rolled_back if one in mine)
        pending = tuple(one for one in outcome.pending if one in mine)
        verdicts[agent_id] = StakeRecovery(
            ended, pending, sum(mine[one] for one in ended), sum(mine[one] for one in pending)
        )
    after = {"rolled_back": len(outcome.rolled_back), "pending": len(outcome.pending)}
    _record(core, by, {"agents": len(asked), "stuck": len(roots)}, after, now_ms=now_ms)
    return verdicts


def _bonds(core: Core, operations: Iterable[Operation]) -> dict[str, dict[str, int]]:
    """The bond of each operation, by the agent whose stake is locked."""
    bonds: dict[str, dict[str, int]] = {}
    for operation in operations:
        bonds.setdefault(operation.bonded_by, {})[operation.operation_id] = operation.bond_lamports
    return bonds


def _record(core: Core, by: str, before: Mapping[str, int], after: Mapping[str, int], *, now_ms: int) -> None:
    texts = [msgspec.json.encode(facts).decode() for facts in (before, after)]
    core.emit(AdminActed(now_ms, by, ACTION, texts[0], texts[1]))
