"""Receipts: all that somebody else needs to check a confirmed operation, put together from log, stores and state."""

import asyncio
from typing import Any

import msgspec

from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.records import Batch, Operation
from coordinator.core.states import OperationState
from coordinator.store.proofs import ProofRecord, ProofStore
from workers.batch_proof import Wire
from workers.receipt import (
    BatchPart,
    ChainPart,
    ParametersPart,
    Receipt,
    StatementPart,
    WorkPart,
    with_wire,
)
from workers.stark.parameters import by_name

MOCK = "mock"


async def receipt(
    engine: Engine, proofs: ProofStore, domain: bytes, operation_id: str, *, wire: Wire
) -> dict[str, Any]:
    """The receipt as JSON-ready data, its proof in that encoding.

    Raises:
        CoreError: unknown_operation, not_confirmed, or invalid: a mock proof has no other encoding.
    """
    operation = engine.state.operation(operation_id)
    if operation.state is not OperationState.CONFIRMED or operation.batch_id is None:
        raise CoreError(ErrorCode.NOT_CONFIRMED, f"{operation_id} is {operation.state.value}")
    batch = engine.state.batch(operation.batch_id)
    record = await asyncio.to_thread(proofs.get, batch.batch_id)
    if record is None:
        raise CoreError(ErrorCode.NOT_CONFIRMED, f"the proof of batch {batch.batch_id} is not kept")
    made = _receipt(engine, operation, batch, record, domain)
    if wire is not Wire.PLAIN:
        if made.mock:
            raise CoreError(ErrorCode.INVALID, f"a mock proof has no encoding {wire.value}", field="wire")
        made = await asyncio.to_thread(with_wire, made, wire)  # some 20 ms of hashing
    built: dict[str, Any] = msgspec.to_builtins(made)
    return built


def _receipt(
    engine: Engine, operation: Operation, batch: Batch, record: ProofRecord, domain: bytes
) -> Receipt:
    statements = [engine.state.operation(member).statement.hex() for member in batch.operation_ids]
    mock = record.parameters == MOCK
    return Receipt(
        operation=operation.operation_id,
        statement=_statement(engine, operation, domain),
        batch=BatchPart(
            id=batch.batch_id,
            n=len(statements),
            root=record.root.hex(),
            statements=statements,
            index=batch.operation_ids.index(operation.operation_id),
        ),
        proof=record.proof,
        parameters=ParametersPart(name=MOCK, conjectured_bits=0, proven_bits=0)
        if mock
        else ParametersPart.of(by_name(record.parameters)),
        mock=mock,
        chain=ChainPart(slot=batch.confirmed_slot or 0, transaction=batch.transaction or ""),
        work=WorkPart(
            worker=batch.worker_id,
            backend=batch.backend,
            attempts=batch.attempt,
            prove_ms=batch.prove_ms,
            permutations=batch.permutations,
        ),
    )


def _statement(engine: Engine, operation: Operation, domain: bytes) -> StatementPart:
    parents = [engine.state.commitment_of(parent) for parent in operation.parents]
    return StatementPart(
        domain=domain.decode(),
        task_id=operation.task_id,
        agent_id=operation.agent_id,
        parents=[parent.hex() for parent in parents if parent is not None],
        constraint_hash=operation.constraint_hash.hex(),
        output_commitment=operation.output_commitment.hex(),
        nullifier=operation.nullifier.hex(),
        agent_key=operation.agent_key.hex(),
        public_digest=operation.public_digest.hex(),
        statement=operation.statement.hex(),
        binding=operation.binding.hex(),
    )
