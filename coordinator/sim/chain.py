"""The real local chain in the simulator: its faults come and go while it runs, and it can find a witness invalid."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.chain.chain_store import Refusal
from coordinator.chain.faults import FaultPlan, Reorg, Window, WindowKind
from coordinator.chain.interface import BatchTransaction, PublicStatement
from coordinator.chain.local import LocalChain
from coordinator.chain.verification import MOCK
from coordinator.core.states import FailureCode, TransactionStatus
from coordinator.submission import NewOperation
from workers.mock import mock_proof
from workers.statement import OperationWitness, batch_root, compute_statements


@dataclass
class ChainFaults:
    """What is wrong with the chain, in the clock's own time; the chain wants it from its start on."""

    windows: list[tuple[WindowKind, int, int]] = field(default_factory=list)
    reorgs: list[Reorg] = field(default_factory=list)
    rejected_tasks: dict[str, None] = field(default_factory=dict)
    bad_witnesses: dict[str, None] = field(default_factory=dict)

    def plan(self, started_ms: int) -> FaultPlan:
        """For a chain that was opened at that time."""
        return FaultPlan(
            rejected_tasks=frozenset(self.rejected_tasks),
            windows=tuple(
                Window(kind=kind, start_ms=start_ms - started_ms, end_ms=end_ms - started_ms)
                for kind, start_ms, end_ms in self.windows
            ),
            reorgs=tuple(sorted(self.reorgs)),
        )

    def end(self) -> None:
        """The chain works from now on; what it refuses stays refused."""
        self.windows.clear()
        self.reorgs.clear()


class SimulatedChain(LocalChain):
    """See the module."""

    def __init__(
        self,
        folder: Path,
        *,
        clock_ms: Callable[[], int],
        accepted: frozenset[str],
        slot_ms: int,
        confirmation_slots: int,
        genesis: bytes,
        wrong: ChainFaults,
    ) -> None:
        super().__init__(
            folder,
            clock_ms=clock_ms,
            accepted=accepted,
            slot_ms=slot_ms,
            confirmation_slots=confirmation_slots,
            genesis=genesis,
        )
        self._wrong = wrong
        self.follow()

    def follow(self) -> None:
        """Takes the faults as they are now."""
        self.set_faults(self._wrong.plan(self._started_ms))

    def has_been_final(self, transaction: str) -> bool:
        """Whether the transaction is confirmed, or was before a reorg undid it; asked beside every fault."""
        (seen,) = self._store.observe(
            [transaction], slot=self.slot(), confirmation_slots=self._confirmation_slots
        )
        return seen.status is TransactionStatus.CONFIRMED or (
            seen.status is TransactionStatus.REORGED and seen.code is not None
        )

    def _judge(self, batch: BatchTransaction, slot: int) -> Refusal | None:
        """As the real one, and then by a rule that it lacks: chains that look into witnesses name the guilty so."""
        refusal = super()._judge(batch, slot)
        guilty = tuple(
            index for index, one in enumerate(batch.operations) if one.task_id in self._wrong.bad_witnesses
        )
        if refusal is None and guilty:
            return Refusal(FailureCode.INVALID_WITNESS, guilty, "the witness is not what the statement says")
        return refusal


def transaction_of(operation: NewOperation, *, domain: bytes, valid_until_slot: int) -> BatchTransaction:
    """What an agent posts to the chain by itself: its operation, which has no parents, with a valid proof."""
    witness = OperationWitness(
        task_id=operation.task_id.encode(),
        agent_id=operation.agent_id.encode(),
        output=operation.output,
        salt=operation.salt,
        secret=operation.secret,
        parents=(),
    )
    (statement,) = compute_statements(domain, [witness])
    public = PublicStatement(
        task_id=operation.task_id,
        agent_id=operation.agent_id,
        parents=(),
        constraint_hash=statement.constraint_hash,
        output_commitment=statement.output_commitment,
        nullifier=statement.nullifier,
        agent_key=statement.agent_key,
    )
    name = f"by-{operation.operation_id}"
    return BatchTransaction(
        transaction=f"{name}:1",
        batch_id=name,
        valid_until_slot=valid_until_slot,
        operations=(public,),
        proof=mock_proof(batch_root([statement.statement]), 1),
        parameters=MOCK,
    )
