"""Simulated agents: what they do when they are honest, which is most of the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from coordinator.core.records import Operation
from coordinator.core.state import CoreState
from coordinator.core.states import OperationState
from coordinator.submission import SALT_BYTES, SECRET_BYTES, NewOperation
from workers.statement import agent_key

#: Operations that an agent may choose a parent from: the latest ones.
_RECENT = 10
_TYPES = ("search", "write", "check")
_RICH, _POOR = 10**10, 3_000_000


@dataclass(frozen=True)
class Agent:
    """An agent and what it deposits at first."""

    agent_id: str
    secret: bytes
    key: bytes
    deposit_lamports: int


def make_agents(chance: Random, count: int) -> list[Agent]:
    """Agents with secrets of their own; the last one is poor."""
    agents = []
    for number in range(count):
        secret = chance.randbytes(SECRET_BYTES)
        deposit_lamports = _POOR if number == count - 1 else _RICH
        agents.append(Agent(f"agent-{number}", secret, agent_key(secret), deposit_lamports))
    return agents


class Author:
    """Writes operations; `sent` are all of them, by id."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self.agents = agents
        self.sent: dict[str, NewOperation] = {}

    def agent(self, agent_id: str) -> Agent:
        """The agent of that name."""
        return next(agent for agent in self.agents if agent.agent_id == agent_id)

    def write(
        self, operation_id: str, agent: Agent, parents: Sequence[str], chance: Random, **changes: Any
    ) -> NewOperation:
        """A new operation of a task of its own, unless told otherwise."""
        values: dict[str, Any] = {
            "operation_id": operation_id,
            "agent_id": agent.agent_id,
            "task_id": f"task-of-{operation_id}",
            "operation_type": chance.choice(_TYPES),
            "depends_on": tuple(parents),
            "parent_outputs": None,
            "output": f"output of {operation_id} ".encode() * chance.randint(1, 4),
            "salt": chance.randbytes(SALT_BYTES),
            "secret": agent.secret,
            "priority": chance.choice((0, 0, 0, 5)),
            "deadline_ms": None,
            "retry_of": None,
        }
        made = NewOperation(**(values | changes))
        self.sent[operation_id] = made
        return made

    def parents(self, state: CoreState, chance: Random, *, most: int = 3) -> list[str]:
        """Some of the latest operations that live or are confirmed; often none."""
        known = [*latest(state.confirmed_outputs, 2), *latest(state.live, _RECENT)]
        return chance.sample(known, min(len(known), chance.choice((0, 0, 1, 1, 1, 2, most))))

    def deepen(self, state: CoreState, chance: Random) -> list[str]:
        """The latest living operation alone: chains grow so."""
        newest = latest(state.live, 3)
        return [chance.choice(newest)] if newest else []

    def retry(self, operation_id: str, state: CoreState, chance: Random) -> NewOperation | None:
        """What was rolled back, again under a new id; None where there is nothing to do again."""
        waiting = [one for one in state.orphans if one in state.ended]
        ended = waiting or [
            one
            for one in latest(state.ended, _RECENT)
            if state.ended[one].state is OperationState.ROLLED_BACK and state.ended[one].replaced_by is None
        ]
        if not ended:
            return None
        old = state.ended[chance.choice(ended)]
        before = self.sent.get(old.operation_id)
        if before is None or not _parents_stand(state, old):
            return None
        return self.write(
            operation_id,
            self.agent(old.agent_id),
            old.parents,
            chance,
            task_id=old.task_id,
            operation_type=old.operation_type,
            output=before.output,
            salt=before.salt,
            retry_of=old.operation_id,
        )


def latest(mapping: dict[str, Any], count: int) -> list[str]:
    """The newest keys of a dictionary, oldest of them first."""
    return list(islice(reversed(mapping), count))[::-1]


def _parents_stand(state: CoreState, operation: Operation) -> bool:
    return all(state.commitment_of(parent) is not None for parent in operation.parents)
