"""Settling: what the log says of stake and tasks is posted to the chain, each once, in the log's order."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from coordinator.chain.interface import (
    EXTERNAL,
    Chain,
    ChainUnavailable,
    SettlementRefused,
    TaskConflict,
)
from coordinator.core.events import (
    AgentRegistered,
    Event,
    OperationFailed,
    StakeDeposited,
    StakeWithdrawn,
    TaskRegistered,
)
from coordinator.logs import get_logger
from coordinator.store.log import EventLog

TREASURY = "treasury"
AGENT_PREFIX = "agent:"
_RETRY_S = 0.5

_log = get_logger("settling")

#: The kinds of events that may move lamports, and with them all that have a posting.
LEDGER_KINDS = ("AgentRegistered", "OperationFailed", "StakeDeposited", "StakeWithdrawn")
SETTLED_KINDS = (*LEDGER_KINDS, "TaskRegistered")

Entries = tuple[tuple[str, int], ...]


def account_of(agent_id: str) -> str:
    """The agent's account on chain; the prefix keeps it apart from the treasury and the outside."""
    return f"{AGENT_PREFIX}{agent_id}"


def entries_of(event: Event) -> Iterable[tuple[str, int]]:
    """What an event moves between accounts; nothing for most."""
    match event:
        case AgentRegistered(deposit_lamports=lamports) | StakeDeposited(lamports=lamports) if lamports:
            yield EXTERNAL, -lamports
            yield account_of(event.agent_id), lamports
        case StakeWithdrawn():
            yield account_of(event.agent_id), -event.lamports
            yield EXTERNAL, event.lamports
        case OperationFailed(slash=slash) if slash is not None and slash.lamports:
            yield account_of(slash.bonded_by), -slash.lamports
            for agent_id, lamports in slash.victims:
                yield account_of(agent_id), lamports
            yield TREASURY, slash.treasury_lamports


class Settling:
    """What is not posted yet waits here, in order; after a restart the log fills it again, since every posting is
    idempotent by its event's number. Kinds of events without a posting are none of its business.
    """

    def __init__(self, *, chain: Chain) -> None:
        self._chain = chain
        self._waiting: deque[tuple[int, Entries | TaskRegistered]] = deque()
        self.heard = 0
        """Postings queued so far: it tells whether the ledger stood still between two looks at it."""
        self._wake = asyncio.Event()
        self.refused: list[str] = []
        """Settlements that the chain's ledger refused: a defect, shown by the integrity check."""

    @property
    def waiting(self) -> int:
        """Postings that the chain has not taken yet."""
        return len(self._waiting)

    def hear(self, last_seq: int, events: Sequence[Event]) -> None:
        """Queues what durable events move between accounts."""
        for seq, event in enumerate(events, last_seq - len(events) + 1):
            self.add(seq, event)

    def add(self, seq: int, event: Event) -> None:
        """Queues one event's posting, if it has one."""
        posting = event if isinstance(event, TaskRegistered) else tuple(entries_of(event))
        if posting:
            self.heard += 1
            self._waiting.append((seq, posting))
            self._wake.set()

    def restart(self, log: EventLog, *, up_to: int) -> None:
        """Forgets what waits, and queues what the log says up to an event and the chain has not for sure. Blocks.

        All before the chain's last settlement were posted, in order.

        Raises:
            StoreError: the log cannot be read.
        """
        self._waiting.clear()
        self.refused.clear()
        try:
            posted = self._chain.last_settlement()
        except ChainUnavailable:
            posted = 0
        for stored in log.of_kinds(SETTLED_KINDS, after=posted, up_to=up_to):
            self.add(stored.seq, stored.event)

    async def run(self) -> None:
        """Posts until cancelled; the chain's outages only delay it."""
        while True:
            self._wake.clear()
            try:
                while self._waiting:
                    await asyncio.to_thread(self._post, *self._waiting[0])
                    self._waiting.popleft()
            except ChainUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            await self._wake.wait()

    def post_all(self) -> None:
        """Posts all that waits, while `run` does not run. Blocks.

        Raises:
            ChainUnavailable: the chain cannot be reached; what it has not taken still waits.
        """
        while self._waiting:
            self._post(*self._waiting[0])
            self._waiting.popleft()

    def _post(self, seq: int, posting: Entries | TaskRegistered) -> None:
        if isinstance(posting, TaskRegistered):
            self._register(posting)
        else:
            self._settle(seq, posting)

    def _register(self, task: TaskRegistered) -> None:
        try:
            self._chain.register_task(task.task_id, task.constraint_hash)
        except TaskConflict as error:
            # The chain's word holds: it will refuse what goes against it.
            _log.warning("task_conflict", task_id=task.task_id, detail=str(error))

    def _settle(self, seq: int, entries: Entries) -> None:
        try:
            self._chain.settle(seq, entries)
        except SettlementRefused as error:
            self.refused.append(str(error))
            _log.error("settlement_refused", detail=str(error))
