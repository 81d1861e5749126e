"""Rebuilding the state from the chain, once the log is lost: what the chain holds, under the names that are known.

    1  what the log owes the ledger and can still be read of it, is posted
    2  what is on its way to the chain is waited for: it is confirmed or dead then
    3  balances, treasury, nullifiers and confirmed statements are read; keys, tokens and ids come from what can
       still be read of snapshots and log, and from memory
    4  the log is set aside, and a new one begins with one event that says all this

Between 3 and 4 a file named `rebuilding` says which log was set aside, so that a crash there is noticed and the rebuild
begun again.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from coordinator.chain.interface import Chain
from coordinator.core.agents import UNKNOWN_KEY
from coordinator.core.events import (
    AgentRegistered,
    Event,
    OperationFailed,
    OperationsAdmitted,
    OperationsRolledBack,
    RebuiltAgent,
    RebuiltOperation,
    StateRebuilt,
    TaskRegistered,
)
from coordinator.core.state import CoreState
from coordinator.shell.settling import AGENT_PREFIX, TREASURY, Settling
from coordinator.store.log import DAMAGED_FOLDER, LOG_FILE, EventLog
from coordinator.store.restart import any_snapshot
from coordinator.store.salvage import salvage
from coordinator.store.snapshot import Snapshots

MARKER_FILE = "rebuilding"
#: A losses' list names so many operations; it says how many there are.
NAMED_LOSSES = 1_000
#: Where even the log's mark is gone: a transaction's name must never be used twice.
_SPARE_BATCH_NUMBERS = 1_000_000


class Losses(NamedTuple):
    """What the chain does not hold: `operations` were not confirmed, `agents` must be given a new token."""

    operations: tuple[str, ...]
    number_of_operations: int
    released_lamports: int
    agents: tuple[str, ...]


class Rebuilt(NamedTuple):
    """What a new log begins with, and what is lost."""

    events: tuple[Event, ...]
    losses: Losses


class Names:
    """What the chain does not know: who had which key and token, and what an operation was called."""

    def __init__(self) -> None:
        self.agents: dict[str, tuple[bytes, bytes]] = {}
        self.operations: dict[bytes, str] = {}
        self.open: dict[str, int] = {}
        self.tasks: dict[str, TaskRegistered] = {}

    def know(self, state: CoreState) -> None:
        """Notes the names in a state, which is a later one than those before."""
        self.agents |= {one.agent_id: (one.agent_key, one.token_hash) for one in state.agents.values()}
        self.operations |= state.spent_nullifiers
        self.operations |= state.live_nullifiers
        self.operations |= {one.nullifier: one.operation_id for one in state.ended.values()}
        self.open = {one.operation_id: one.bond_lamports for one in state.live.values()}
        for task in state.tasks.values():
            self.tasks[task.task_id] = TaskRegistered(
                task.registered_at_ms, task.task_id, task.constraint_hash, task.depends_on, task.claim_ttl_ms
            )

    def hear(self, event: Event) -> None:
        """Notes the names in an event."""
        match event:
            case AgentRegistered():
                self.agents[event.agent_id] = (event.agent_key, event.token_hash)
            case OperationsAdmitted():
                for operation in event.operations:
                    self.operations[operation.nullifier] = operation.operation_id
                    self.open[operation.operation_id] = operation.bond_lamports
            case OperationsRolledBack():
                for operation_id in event.operation_ids:
                    self.open.pop(operation_id, None)
            case OperationFailed():
                self.open.pop(event.operation_id, None)
            case TaskRegistered():
                self.tasks[event.task_id] = event
            case StateRebuilt():
                self.agents.update((one.agent_id, (one.agent_key, one.token_hash)) for one in event.agents)
                self.operations.update((one.nullifier, one.operation_id) for one in event.confirmed)


def read_chain(
    log: EventLog,
    chain: Chain,
    settling: Settling,
    state: CoreState,
    *,
    wait_slots: int,
    rest: Callable[[], None],
    now_ms: int,
) -> Rebuilt:
    """Steps 1 to 3. Blocks, for `wait_slots` slots of the chain at least; `rest` lets a moment pass.

    Raises:
        ChainError: the chain cannot be reached.
    """
    names = Names()
    posted = chain.last_settlement()
    for folder in _folders(log.folder):
        snapshot = any_snapshot(Snapshots(folder))
        if snapshot is not None:
            names.know(snapshot)
    if state.agents:  # else it was never read from a log
        names.know(state)
    for folder in _folders(log.folder):
        for seq, event in salvage(folder, LOG_FILE):
            names.hear(event)
            if seq > posted:
                settling.add(seq, event)
    settling.post_all()
    _wait(chain, wait_slots, rest)
    # A batch is at least one event of the log, so no batch that the log's mark reaches had a greater number.
    return _rebuilt(chain, names, last_batch_number=log.head.seq, now_ms=now_ms)


def _folders(folder: Path) -> list[Path]:
    """Where logs lie: the data folder, and before it the log that an interrupted rebuild set aside."""
    label = interrupted(folder)
    return [folder] if label is None else [folder / DAMAGED_FOLDER / label, folder]


def _wait(chain: Chain, slots: int, rest: Callable[[], None]) -> None:
    until = chain.slot() + slots
    while chain.slot() < until:
        rest()


def _rebuilt(chain: Chain, names: Names, *, last_batch_number: int, now_ms: int) -> Rebuilt:
    balances, batches = dict(chain.balances()), chain.confirmed()
    confirmed = [
        RebuiltOperation(
            operation_id=names.operations.get(one.nullifier, f"rebuilt-{one.nullifier.hex()}"),
            task_id=one.task_id,
            output_commitment=one.output_commitment,
            nullifier=one.nullifier,
        )
        for batch in batches
        for one in batch.operations
    ]
    keys = {one.agent_id: one.agent_key for batch in batches for one in batch.operations}
    on_chain = {
        account.removeprefix(AGENT_PREFIX) for account in balances if account.startswith(AGENT_PREFIX)
    }
    agents = [
        RebuiltAgent(
            agent_id=agent_id,
            agent_key=names.agents.get(agent_id, (keys.get(agent_id, UNKNOWN_KEY), b""))[0],
            token_hash=names.agents.get(agent_id, (b"", b""))[1],
            balance_lamports=balances.get(f"{AGENT_PREFIX}{agent_id}", 0),
        )
        for agent_id in sorted(on_chain | names.agents.keys())
    ]
    event = StateRebuilt(
        now_ms,
        agents=tuple(agents),
        treasury_lamports=balances.get(TREASURY, 0),
        confirmed=tuple(confirmed),
        last_batch_number=max(last_batch_number, _beyond(batch.batch_id for batch in batches)),
    )
    kept = {one.operation_id for one in confirmed}
    lost = [operation_id for operation_id in names.open if operation_id not in kept]
    losses = Losses(
        operations=tuple(lost[:NAMED_LOSSES]),
        number_of_operations=len(lost),
        released_lamports=sum(names.open[operation_id] for operation_id in lost),
        agents=tuple(agent.agent_id for agent in agents if not agent.token_hash),
    )
    return Rebuilt((event, *names.tasks.values()), losses)


def _beyond(batch_ids: Iterable[str]) -> int:
    """A number that no batch had, by those that are confirmed: others may have been sent and refused."""
    numbers = [int(match[0]) for name in batch_ids if (match := re.search(r"\d+$", name)) is not None]
    return max(numbers, default=0) + _SPARE_BATCH_NUMBERS


def begin_anew(log: EventLog, rebuilt: Rebuilt, *, label: str, after_seq: int) -> None:
    """Step 4. Blocks.

    Raises:
        StoreError, OSError: the disk refuses.
    """
    marker = log.folder / MARKER_FILE
    marker.write_text(interrupted(log.folder) or label)
    log.set_aside(label, after_seq=after_seq)
    log.append(rebuilt.events).result()
    marker.unlink()


def interrupted(folder: Path) -> str | None:
    """The label of the log that a rebuild set aside before it was interrupted, or None."""
    try:
        return (folder / MARKER_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None
