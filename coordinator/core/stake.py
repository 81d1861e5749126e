"""Stake in integers: what an operation bonds, who pays it, what a fault takes and where that goes."""

from collections.abc import Iterable, Mapping

from coordinator.core.config import BASIS_POINTS, CoreConfig
from coordinator.core.events import Slash
from coordinator.core.records import Agent


def required_bond(config: CoreConfig, depth: int) -> int:
    """Lamports that an operation of this depth bonds: min_stake + depth × stake_per_depth."""
    return config.stake_min_lamports + depth * config.stake_per_depth_lamports


def find_payer(
    agents: Mapping[str, Agent], agent: Agent, bond_lamports: int, config: CoreConfig
) -> Agent | None:
    """Whose balance bonds for the agent: its own, else, with delegation, the first delegator's that has room.

    No balance bonds more than `stake.max_stake` in all, a delegated one no more than its cap.
    """
    if _has_room(agent, bond_lamports, config):
        return agent
    if not config.stake_delegation:
        return None
    for delegator_id, delegation in agent.delegators.items():
        delegator = agents[delegator_id]
        left_lamports = delegation.cap_lamports - delegation.used_lamports
        if bond_lamports <= left_lamports and _has_room(delegator, bond_lamports, config):
            return delegator
    return None


def _has_room(agent: Agent, bond_lamports: int, config: CoreConfig) -> bool:
    return (
        bond_lamports <= agent.free_lamports
        and agent.bonded_lamports + bond_lamports <= config.stake_max_lamports
    )


def slash_amount(bond_lamports: int, basis_points: int) -> int:
    """Lamports that a fault takes from a bond, rounded down."""
    return bond_lamports * basis_points // BASIS_POINTS


def divide_slash(
    slash_id: str,
    slashed_lamports: int,
    *,
    agent_id: str,
    bonded_by: str,
    victims: Iterable[tuple[str, int]],
    cooldown_until_ms: int,
) -> Slash:
    """Half of a slash to the victims by their bonds, each share rounded down, and all else to the treasury.

    Args:
        slash_id: its name.
        slashed_lamports: what was taken.
        agent_id: whose fault it was.
        bonded_by: whose balance the bond was on.
        victims: (agent id, bond) of every operation of another agent that the fault rolled back.
        cooldown_until_ms: until when the slashed agent does not speculate.
    """
    bonds = list(victims)
    total_lamports = sum(bond for _, bond in bonds)
    pool_lamports = slashed_lamports // 2
    shares: dict[str, int] = {}
    if total_lamports:
        for victim_id, bond in bonds:
            share = pool_lamports * bond // total_lamports
            shares[victim_id] = shares.get(victim_id, 0) + share
    paid = tuple((victim_id, share) for victim_id, share in sorted(shares.items()) if share)
    return Slash(
        slash_id=slash_id,
        lamports=slashed_lamports,
        victims=paid,
        treasury_lamports=slashed_lamports - sum(share for _, share in paid),
        cooldown_until_ms=cooldown_until_ms,
        agent_id=agent_id,
        bonded_by=bonded_by,
    )
