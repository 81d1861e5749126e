"""A whole chain in one file: slots, mempool, real verification of every proof, accounts, faults on demand.

Its history depends on what was submitted and when, never on when somebody looked: the slot in which a
transaction is included follows from its submission and the faults, and `advance` executes all slots up to
the clock's, in order.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from coordinator.chain.chain_store import ChainStore, Genesis, Refusal
from coordinator.chain.faults import NO_FAULTS, FaultPlan, WindowKind
from coordinator.chain.interface import (
    BatchTransaction,
    ChainBatch,
    ChainCorrupted,
    ChainMismatch,
    ChainUnavailable,
    RefusalCode,
    TaskConflict,
)
from coordinator.chain.ledger import Ledger
from coordinator.chain.rules import broken_rule
from coordinator.chain.verification import (
    InvalidProofError,
    InvalidStatementError,
    Verify,
    statement_digests,
    verify_batch,
)
from coordinator.core.commands import Observation
from coordinator.core.states import ConnectionStatus
from coordinator.store.database import FILE_ERRORS, is_damage
from workers.stark.parameters import PRODUCTION_NAMES

CHAIN_FILE = "chain.sqlite3"
GENESIS_BYTES = 8
SLOT_MS = 400
CONFIRMATION_SLOTS = 5
SLOW_LAG_SLOTS = 3
LAG_WINDOW_SLOTS = 50


class LocalChain:
    """A `Chain` in a folder of this process. Every method works from any thread."""

    def __init__(
        self,
        folder: Path,
        *,
        clock_ms: Callable[[], int],
        verify: Verify = verify_batch,
        faults: FaultPlan = NO_FAULTS,
        accepted: frozenset[str] = PRODUCTION_NAMES,
        slot_ms: int = SLOT_MS,
        confirmation_slots: int = CONFIRMATION_SLOTS,
        genesis: bytes | None = None,
    ) -> None:
        """Opens the chain of a folder, or creates it.

        `clock_ms` is milliseconds since the epoch. `accepted` (names of proof parameters), `slot_ms` and
        `genesis` (8 bytes, random where not given) are fixed at creation.

        Raises:
            ChainMismatch: the chain that is there was created with another `slot_ms`, or accepts less.
            ChainCorrupted, ChainUnavailable: its file cannot be read or written.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clock_ms = clock_ms
        self._verify = verify
        self._faults = faults
        self._confirmation_slots = confirmation_slots
        self._lock = threading.Lock()
        self._started_ms = clock_ms()
        self._highest_slot = 0
        new = Genesis(genesis or os.urandom(GENESIS_BYTES), self._started_ms, slot_ms, accepted)
        with _typed_errors():
            self._store = ChainStore(folder / CHAIN_FILE)
            self._ledger = Ledger(self._store.database)
            try:
                self._genesis = self._store.genesis(new)
                _require_match(self._genesis, new)
                self._highest_slot = self._store.head_slot()
            except BaseException:
                self._store.close()
                raise

    @property
    def domain(self) -> bytes:
        """`local:` and the genesis in hex."""
        return b"local:" + self._genesis.genesis.hex().encode()

    def slot(self) -> int:
        """The clock's slot, from genesis; it stands still where the clock goes back."""
        derived = (self._clock_ms() - self._genesis.genesis_ms) // self._genesis.slot_ms
        self._highest_slot = max(self._highest_slot, derived)
        return self._highest_slot

    def set_faults(self, faults: FaultPlan) -> None:
        """Puts other faults on demand in the place of those there are; times still count from the chain's start."""
        with self._lock:
            self._faults = faults

    def connection(self) -> ConnectionStatus:
        """Disconnected in an outage; degraded in a delay, or while inclusion takes 3 slots and more."""
        if self._covers(WindowKind.OUTAGE):
            return ConnectionStatus.DISCONNECTED
        try:
            lag = self._store.inclusion_lag(since_slot=self.slot() - LAG_WINDOW_SLOTS)
        except FILE_ERRORS:
            return ConnectionStatus.DISCONNECTED
        if self._covers(WindowKind.DELAY) or lag > SLOW_LAG_SLOTS:
            return ConnectionStatus.DEGRADED
        return ConnectionStatus.CONNECTED

    def submit(self, batch: BatchTransaction) -> None:
        """See `Chain.submit`. The batch is judged in the slot that includes it."""
        with self._reached():
            slot = self.slot()
            due_slot = self._inclusion_slot(slot)
            lost = self._covers(WindowKind.DROP) or due_slot > batch.valid_until_slot
            self._store.add(batch, submitted_slot=slot, due_slot=None if lost else due_slot)

    def poll(self, transactions: Sequence[str]) -> list[Observation]:
        """See `Chain.poll`."""
        with self._reached():
            slot = self._advance()
            return self._store.observe(transactions, slot=slot, confirmation_slots=self._confirmation_slots)

    def advance(self) -> int:
        """Executes every slot up to the clock's, which is returned."""
        with self._lock:
            return self._advance()

    def register_task(self, task_id: str, constraint_hash: bytes | None) -> None:
        """See `Chain.register_task`."""
        with self._reached():
            self._register(task_id, constraint_hash)

    def preregister_task(self, task_id: str, constraint_hash: bytes | None) -> None:
        """Registers a task behind the coordinator's back: so the chain can know more than it was told.

        Raises:
            TaskConflict: it is registered with another hash.
        """
        with self._lock:
            self._register(task_id, constraint_hash)

    def settle(self, settlement_id: int, entries: Sequence[tuple[str, int]]) -> None:
        """See `Chain.settle`. Settlements are final at once, whatever becomes of blocks."""
        with self._reached():
            self._ledger.settle(settlement_id, entries)

    def last_settlement(self) -> int:
        """See `Chain.last_settlement`."""
        with self._reached():
            return self._ledger.last()

    def balances(self) -> Mapping[str, int]:
        """See `Chain.balances`."""
        with self._reached():
            return self._ledger.balances()

    def ledger_complaints(self) -> list[str]:
        """What is wrong with the accounts, by all settlements ever posted; empty when nothing is."""
        return self._ledger.complaints()

    def nullifiers(self) -> frozenset[bytes]:
        """See `Chain.nullifiers`."""
        with self._reached():
            self._advance()
            return self._store.nullifiers()

    def confirmed(self) -> list[ChainBatch]:
        """See `Chain.confirmed`."""
        with self._reached():
            return self._store.batches(up_to_slot=self._advance() - self._confirmation_slots)

    def undone(self) -> list[str]:
        """See `Chain.undone`."""
        with self._reached():
            self._advance()
            return self._store.undone()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._store.close()

    def _register(self, task_id: str, constraint_hash: bytes | None) -> None:
        if not self._store.register_task(task_id, constraint_hash):
            raise TaskConflict(task_id)

    def _advance(self) -> int:
        """Inclusions and reorgs in the order of their slots; in one slot, a reorg comes last."""
        now = self.slot()
        reorged_slot = self._store.reorged_slot()
        reorgs = [r for r in self._faults.reorgs if reorged_slot < r.slot <= now]
        for due_slot, name in self._store.due(now):
            while reorgs and reorgs[0].slot < due_slot:
                self._reorg(reorgs.pop(0).slot)
            self._execute(name, due_slot)
        while reorgs:
            self._reorg(reorgs.pop(0).slot)
        self._store.reach(now, confirmation_slots=self._confirmation_slots)
        return now

    def _execute(self, name: str, slot: int) -> None:
        batch = self._store.waiting(name)
        refusal = self._judge(batch, slot)
        if refusal is None:
            self._store.include(batch, slot)
        else:
            self._store.refuse(name, slot, refusal)

    def _judge(self, batch: BatchTransaction, slot: int) -> Refusal | None:
        with self._store.view(head_slot=slot, confirmation_slots=self._confirmation_slots) as view:
            refusal = broken_rule(
                batch, view, accepted=self._genesis.accepted, rejected_tasks=self._faults.rejected_tasks
            )
        if refusal is not None:
            return refusal
        try:
            self._verify(batch.proof, statement_digests(self.domain, batch.operations), batch.parameters)
        except InvalidStatementError as error:
            return Refusal(RefusalCode.INVALID_STATEMENT, (error.index,), str(error))
        except InvalidProofError as error:
            return Refusal(RefusalCode.INVALID_PROOF, (), str(error))
        return None

    def _reorg(self, slot: int) -> None:
        depth = max(reorg.depth for reorg in self._faults.reorgs if reorg.slot == slot)
        self._store.reorg(slot, depth=depth, confirmation_slots=self._confirmation_slots)

    def _inclusion_slot(self, submitted_slot: int) -> int:
        """The first slot after the submission that no delay covers."""
        slot = submitted_slot + 1
        offset_ms = self._genesis.genesis_ms - self._started_ms
        slot_ms = self._genesis.slot_ms
        while (window := self._faults.covering(WindowKind.DELAY, offset_ms + slot * slot_ms)) is not None:
            slot = -(-(window.end_ms - offset_ms) // slot_ms)
        return slot

    def _covers(self, kind: WindowKind) -> bool:
        return self._faults.covering(kind, self._clock_ms() - self._started_ms) is not None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """The lock, unless an outage keeps the caller out; a disk that refuses is an outage too."""
        if self._covers(WindowKind.OUTAGE):
            raise ChainUnavailable("the chain cannot be reached: an outage was asked for")
        with _typed_errors(), self._lock:
            yield


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except FILE_ERRORS as error:
        if is_damage(error):
            raise ChainCorrupted(f"{CHAIN_FILE}: {error}") from error
        if isinstance(error, sqlite3.OperationalError):
            raise ChainUnavailable(f"{CHAIN_FILE}: {error}") from error
        raise


def _require_match(found: Genesis, asked: Genesis) -> None:
    if found.slot_ms != asked.slot_ms:
        raise ChainMismatch(f"this chain's slots have {found.slot_ms} ms, not {asked.slot_ms}")
    if not asked.accepted <= found.accepted:
        more = ", ".join(sorted(asked.accepted - found.accepted))
        raise ChainMismatch(f"this chain was created to refuse proofs of {more}: use another data folder")
