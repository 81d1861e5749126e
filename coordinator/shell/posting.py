"""Posting: proved batches go to the chain in order, and the core learns what became of them."""

import asyncio
from collections.abc import Callable

from coordinator.chain.interface import BatchTransaction, Chain, ChainUnavailable, PublicStatement
from coordinator.core.commands import TransactionDue
from coordinator.core.engine import Engine
from coordinator.core.records import Batch, Operation
from coordinator.core.states import ConnectionStatus
from coordinator.logs import get_logger
from coordinator.shell.journal import Journal
from coordinator.shell.pause import wait_or_pause
from coordinator.store.proofs import ProofStore

_log = get_logger("posting")


class Posting:
    """Sends what is due, polls what is on its way, a few times a slot. One round at a time."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        chain: Chain,
        proofs: ProofStore,
        clock_ms: Callable[[], int],
        interval_s: float,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._chain = chain
        self._proofs = proofs
        self._clock_ms = clock_ms
        self._interval_s = interval_s
        self._wake = asyncio.Event()
        self._sent: set[str] = set()
        self.slot = 0
        """The chain's slot as of the last round."""

    def wake(self) -> None:
        """A batch may be due: do not wait for the next round."""
        self._wake.set()

    async def run(self) -> None:
        """Rounds until cancelled, or until the journal is read-only."""
        while self._journal.read_only is None:
            self._wake.clear()
            await self.round()
            await wait_or_pause(self._wake, self._interval_s)

    async def round(self) -> None:
        """One look at the chain: what happened, then what may follow from it."""
        self.slot = await asyncio.to_thread(self._chain.slot)
        connection = await asyncio.to_thread(self._chain.connection)
        self._engine.chain_connection(connection, now_ms=self._clock_ms())
        await self._journal.commit()
        if connection is ConnectionStatus.DISCONNECTED:
            return
        try:
            await self._observe()
            for batch_id in self._engine.submissions_due():
                self._engine.batch_submitting(batch_id, slot=self.slot, now_ms=self._clock_ms())
            await self._journal.commit()
            await self._send()
        except ChainUnavailable as error:
            _log.warning("chain_unavailable", detail=str(error))

    async def _observe(self) -> None:
        names = self._engine.transactions_watched()
        if not names:
            return
        observations = await asyncio.to_thread(self._chain.poll, names)
        self._engine.chain_observed(observations, slot=self.slot, now_ms=self._clock_ms())
        await self._journal.commit()

    async def _send(self) -> None:
        """Sends what is logged as submitted and was not sent by this process: after a crash that may be sent a second
        time, which changes nothing, since the transaction has the same name.
        """
        open_ones = self._engine.transactions_open()
        self._sent.intersection_update(due.transaction for due in open_ones)
        for due in open_ones:
            if due.transaction not in self._sent:
                transaction = await self._transaction(self._engine.state.batch(due.batch_id), due)
                await asyncio.to_thread(self._chain.submit, transaction)
                self._sent.add(due.transaction)

    async def _transaction(self, batch: Batch, due: TransactionDue) -> BatchTransaction:
        operations = tuple(self._public(self._engine.state.operation(i)) for i in batch.operation_ids)
        record = await asyncio.to_thread(self._proofs.get, batch.batch_id)
        assert record is not None, "a proof is stored before the event that names it"
        return BatchTransaction(
            transaction=due.transaction,
            batch_id=batch.batch_id,
            valid_until_slot=due.valid_until_slot,
            operations=operations,
            proof=record.proof,
            parameters=record.parameters,
        )

    def _public(self, operation: Operation) -> PublicStatement:
        commitments = [self._engine.state.commitment_of(parent) for parent in operation.parents]
        assert None not in commitments, "an operation on its way to the chain has live or confirmed parents"
        return PublicStatement(
            task_id=operation.task_id,
            agent_id=operation.agent_id,
            parents=tuple(commitment for commitment in commitments if commitment is not None),
            constraint_hash=operation.constraint_hash,
            output_commitment=operation.output_commitment,
            nullifier=operation.nullifier,
            agent_key=operation.agent_key,
        )
