"""What the coordinator asks of a chain, whichever it is: one Protocol, the data that crosses it, the faults.

    ChainError
      ChainUnavailable    nothing was heard: the call may be made again, every one is idempotent
      ChainCorrupted      the chain's own record is damaged
      ChainMismatch       the chain that is there is not the one that was asked for
      TaskConflict        the task is registered with another constraint hash
      SettlementRefused   the entries are not balanced, overdraw an account, or reuse an id

Calls block (the local chain verifies proofs in them, others use the network): make them in a thread.
Digests are 32 bytes (8 canonical elements, 4 bytes little-endian each), stake is in lamports.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from coordinator.core.commands import Observation
from coordinator.core.states import ConnectionStatus

EXTERNAL = "external"
"""The account on the other side of deposits and withdrawals; the only one that may be below zero."""

FINALITY_VIOLATION = "finality_violation"
"""The code of a reorged transaction that had been confirmed."""


class ChainError(Exception):
    """An operating fault of the chain. `retry`: whether the same call can succeed later."""

    code = "chain_error"
    retry = False


class ChainUnavailable(ChainError):
    """The chain cannot be reached."""

    code = "chain_unavailable"
    retry = True


class ChainCorrupted(ChainError):
    """The chain's own record is damaged: nothing it says can be relied on."""

    code = "chain_corrupted"


class ChainMismatch(ChainError):
    """The chain in the folder was created with other properties; they cannot be changed afterwards."""

    code = "chain_mismatch"


class TaskConflict(ChainError):
    """The chain knows the task with another constraint hash; the first registration holds."""

    code = "task_conflict"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"task {task_id!r} is registered with another constraint hash")
        self.task_id = task_id


class SettlementRefused(ChainError):
    """A settlement breaks the ledger's rules; nothing of it was posted."""

    code = "settlement_refused"

    def __init__(self, settlement_id: int, detail: str) -> None:
        super().__init__(f"settlement {settlement_id}: {detail}")
        self.settlement_id = settlement_id
        self.detail = detail


class RefusalCode(StrEnum):
    """Why a chain refuses a batch. Only the first three name guilty operations of their own fault."""

    CONSTRAINT_MISMATCH = "constraint_mismatch"
    DOUBLE_SPEND = "double_spend"
    CHAIN_REFUSED = "chain_refused"
    UNCONFIRMED_PARENT = "unconfirmed_parent"
    """A parent is neither confirmed on chain nor earlier in the batch: submitted too early, or undone."""

    INVALID_STATEMENT = "invalid_statement"
    INVALID_PROOF = "invalid_proof"
    PARAMETERS_REFUSED = "parameters_refused"
    """The chain does not take proofs of these parameters."""


class PublicStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What is public of one operation (specification "The proof", section 1); P and S follow from it.

    `parents` are the parents' output commitments in the order of `depends_on`.
    """

    task_id: str
    agent_id: str
    parents: tuple[bytes, ...]
    constraint_hash: bytes
    output_commitment: bytes
    nullifier: bytes
    agent_key: bytes


class BatchTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """One batch on its way to the chain; accepted or refused whole.

    `transaction` names this try of the batch: sending it again changes nothing. It is dead after
    `valid_until_slot` unless it was included by then. `parameters` is a parameter set's name.
    """

    transaction: str
    batch_id: str
    valid_until_slot: int
    operations: tuple[PublicStatement, ...]
    proof: bytes
    parameters: str


class ChainBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that stands on chain, and where."""

    transaction: str
    batch_id: str
    slot: int
    operations: tuple[PublicStatement, ...]


class Chain(Protocol):
    """A chain as the coordinator sees it. All but `slot` and `connection` may raise ChainUnavailable."""

    @property
    def domain(self) -> bytes:
        """The chain's name and genesis: what P binds an operation to."""

    def slot(self) -> int:
        """The current slot; never goes back."""

    def connection(self) -> ConnectionStatus:
        """How well the chain can be reached."""

    def submit(self, batch: BatchTransaction) -> None:
        """Sends a transaction. Idempotent by its name; what became of it is `poll`'s to say."""

    def poll(self, transactions: Sequence[str]) -> list[Observation]:
        """What became of transactions, in the order asked.

        `dropped` means that the chain never got the transaction, and will not take it any more. A refused one
        carries code and guilty indices; a reorged one that had been confirmed carries FINALITY_VIOLATION.
        """

    def register_task(self, task_id: str, constraint_hash: bytes | None) -> None:
        """Makes a task known, with the constraint hash it enforces, if any. Idempotent.

        Raises:
            TaskConflict: it is registered with another one.
        """

    def settle(self, settlement_id: int, entries: Sequence[tuple[str, int]]) -> None:
        """Posts (account, lamports to add) entries whose sum is zero, all or none. Idempotent by the id.

        Raises:
            SettlementRefused: the sum is not zero, an account would be overdrawn, or the id has other
            entries.
        """

    def last_settlement(self) -> int:
        """The highest settlement id that was posted; 0 where none was."""

    def balances(self) -> Mapping[str, int]:
        """Every account and its lamports, EXTERNAL too; they sum to zero."""

    def nullifiers(self) -> frozenset[bytes]:
        """Every spent nullifier on chain, confirmed or not yet."""

    def confirmed(self) -> list[ChainBatch]:
        """Every confirmed batch, oldest first."""

    def undone(self) -> list[str]:
        """Transactions that a reorg undid after they were confirmed, until their batch is on chain again."""
