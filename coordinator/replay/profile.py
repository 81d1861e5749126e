"""The profile of a replay: what an embedded system is set to, and what any system says it is set to."""

from collections.abc import Mapping
from typing import Any

from coordinator.answers_admin import ConfigAnswer
from coordinator.settings_table import KEYS, Value

#: What it takes to let an 18-deep workflow speculate all the way; everything else is the default.
EMBEDDED: Mapping[str, Value] = {
    "speculation.mode": "custom",
    "speculation.max_depth": 20,
    "speculation.max_parallel_branches": 16,
    "speculation.limits.max_state_snapshots": 1000,
    "speculation.features.enable_cross_agent_speculation": True,
    "agents.open_registration": True,
    "log.level": "info",
}

GENERATOR = "speculation.proof.generator"

#: How the profile is shown: a name and the key behind it.
SHOWN: Mapping[str, str] = {
    "mode": "speculation.mode",
    "depth": "speculation.max_depth",
    "branches": "speculation.max_parallel_branches",
    "snapshots": "speculation.limits.max_state_snapshots",
    "cross_agent": "speculation.features.enable_cross_agent_speculation",
    "proofs": GENERATOR,
    "parameters": "proof.parameters",
    "workers": "speculation.proof.worker_threads",
}


def embedded_environment(*, speculation: bool) -> dict[str, str]:
    """The environment that sets an embedded system to the profile."""
    values = {**EMBEDDED, "speculation.enabled": speculation}
    return {KEYS[name].environment_name: str(value).lower() for name, value in values.items()}


def read_profile(config: ConfigAnswer, *, agents: int) -> dict[str, Any]:
    """The profile that a running system works under, with the number of our agents."""
    profile: dict[str, Any] = {name: config.keys[key].value for name, key in SHOWN.items()}
    slots, slot_ms = (_integer(config, name) for name in ("chain.confirmation_slots", "chain.slot_ms"))
    return {**profile, "agents": agents, "confirmation_s": slots * slot_ms / 1000}


def proofs_are_real(config: ConfigAnswer) -> bool:
    """Whether the system's receipts can be verified: a mock proof proves nothing."""
    return config.keys[GENERATOR].value != "mock"


def slash_basis_points(config: ConfigAnswer) -> int:
    """What a slash takes of a bond, in basis points."""
    share = config.keys["speculation.stake.slash_percentage"].value
    assert isinstance(share, float | int)
    return round(share * 10_000)


def _integer(config: ConfigAnswer, name: str) -> int:
    value = config.keys[name].value
    assert isinstance(value, int)
    return value
