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

TREASURY = "treasury"
_RETRY_S = 0.5

_log = get_logger("settling")

Entries = tuple[tuple[str, int], ...]


def account_of(agent_id: str) -> str:
    """The agent's account on chain; the prefix keeps it apart from the treasury and the outside."""
    return f"agent:{agent_id}"


class Settling:
    """What is not posted yet waits here, in order; after a restart the log's replay fills it again, since every
    posting is idempotent by its event's number.
    """

    def __init__(self, *, chain: Chain) -> None:
        self._chain = chain
        self._waiting: deque[tuple[int, Entries | TaskRegistered]] = deque()
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
        posting = event if isinstance(event, TaskRegistered) else tuple(self._entries(event))
        if posting:
            self._waiting.append((seq, posting))
            self._wake.set()

    def _entries(self, event: Event) -> Iterable[tuple[str, int]]:
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

    def resume_after(self) -> int:
        """The last event whose posting the chain has for sure: all before it were posted, in order. Blocks."""
        try:
            return self._chain.last_settlement()
        except ChainUnavailable:
            return 0

    async def run(self) -> None:
        """Posts until cancelled; the chain's outages only delay it."""
        while True:
            self._wake.clear()
            try:
                while self._waiting:
                    seq, posting = self._waiting[0]
                    if isinstance(posting, TaskRegistered):
                        await self._register(posting)
                    else:
                        await self._settle(seq, posting)
                    self._waiting.popleft()
            except ChainUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            await self._wake.wait()

    async def _register(self, task: TaskRegistered) -> None:
        try:
            await asyncio.to_thread(self._chain.register_task, task.task_id, task.constraint_hash)
        except TaskConflict as error:
            # The chain's word holds: it will refuse what goes against it.
            _log.warning("task_conflict", task_id=task.task_id, detail=str(error))

    async def _settle(self, seq: int, entries: Entries) -> None:
        try:
            await asyncio.to_thread(self._chain.settle, seq, entries)
        except SettlementRefused as error:
            self.refused.append(str(error))
            _log.error("settlement_refused", detail=str(error))
