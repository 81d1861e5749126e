"""What the system says of itself after a run, and what its stake adds up to when counted from outside."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import msgspec

from coordinator.answers import AgentAnswer
from coordinator.client.aio import AsyncClient
from coordinator.client.trust import trusted

TIMEOUT_S = 120.0

_T = TypeVar("_T")


class AuditError(Exception):
    """The system did not answer what an audit asks."""


@dataclass(frozen=True)
class Audit:
    """The invariants by name, the agents' stake, and what does not hold, in plain words."""

    invariants: Mapping[str, bool]
    agents: Mapping[str, AgentAnswer]
    stake_conserved: bool
    complaints: Sequence[str]

    @property
    def slashed_lamports(self) -> Mapping[str, int]:
        """What each agent lost to slashes."""
        return {agent_id: agent.slashed_lamports for agent_id, agent in self.agents.items()}


class _Stake(msgspec.Struct):
    locked_lamports: int
    free_lamports: int
    treasury_lamports: int
    deposited_lamports: int
    withdrawn_lamports: int


class _Integrity(msgspec.Struct):
    status: str
    invariants: dict[str, bool]
    problems: list[str] = []


async def audit(
    client: AsyncClient, url: str, *, agent_ids: Sequence[str], deposited_lamports: int | None
) -> Audit:
    """Asks for the invariants and adds up the stake.

    `deposited_lamports`: all that came in, where these agents are the only ones; None where there are others.

    Raises:
        AuditError: the system gave no such answer.
    """
    agents = dict(zip(agent_ids, await asyncio.gather(*map(client.agent, agent_ids)), strict=True))
    verify = trusted(url, None)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, verify=verify, trust_env=False) as http:
        integrity = await _get(http, "/admin/integrity-check", _Integrity)
        stake = await _get(http, "/admin/stake/status", _Stake)
    broken = [f"invariant {name} does not hold" for name, held in integrity.invariants.items() if not held]
    if integrity.status != "ok":
        broken.append(f"the integrity check says {integrity.status}: {'; '.join(integrity.problems)}")
    lost = list(_stake_complaints(stake, agents.values(), deposited_lamports=deposited_lamports))
    return Audit(
        invariants=integrity.invariants,
        agents=agents,
        stake_conserved=not lost,
        complaints=broken + lost,
    )


def _stake_complaints(
    stake: _Stake, agents: Iterable[AgentAnswer], *, deposited_lamports: int | None
) -> Iterator[str]:
    """What does not add up, to the lamport."""
    kept = stake.free_lamports + stake.locked_lamports + stake.treasury_lamports
    if kept + stake.withdrawn_lamports != stake.deposited_lamports:
        yield (
            f"{stake.deposited_lamports:,} lamports came in, {kept:,} are there and "
            f"{stake.withdrawn_lamports:,} went out"
        )
    if deposited_lamports is None:
        return
    owned = sum(agent.balance_lamports for agent in agents)
    if owned + stake.treasury_lamports != deposited_lamports:
        yield (
            f"the agents deposited {deposited_lamports:,} lamports; they own {owned:,} now, "
            f"the treasury {stake.treasury_lamports:,}"
        )
    if bonded := sum(agent.bonded_lamports for agent in agents):
        yield f"{bonded:,} lamports are still bonded though every operation has ended"


async def _get(http: httpx.AsyncClient, path: str, kind: type[_T]) -> _T:
    try:
        response = await http.get(path)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=kind)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise AuditError(f"GET {path}: {error}") from error
