"""From what an agent sent to what the core decides on: the statement's digests, the same for one and for many.

`prepare` asks the core for the parents' commitments on the loop; `submissions_of` hashes, in a thread.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from coordinator.core.commands import Submission
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError
from coordinator.submission import NewOperation
from workers.airs.operation_trace import rows_for
from workers.statement import Commitments, OperationWitness, commit_outputs, compute_statements

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission whose parents are resolved, before its digests are computed."""

    operation: NewOperation
    witness: OperationWitness
    content_digest: bytes


def content_digest(operation: NewOperation) -> bytes:
    """SHA-256 of everything the agent sent: the same id with the same content is the same operation."""
    return hashlib.sha256(_ENCODER.encode(operation)).digest()


def commitments_of(operations: Sequence[NewOperation]) -> Commitments:
    """C and O of all of them: children that came in the same call build on them."""
    return commit_outputs(
        [operation.output for operation in operations], [operation.salt for operation in operations]
    )


def has_children_within(operations: Sequence[NewOperation]) -> bool:
    """Whether an operation of the call builds on another one of it."""
    ids = {operation.operation_id for operation in operations}
    return any(not ids.isdisjoint(operation.depends_on) for operation in operations)


def prepare(
    engine: Engine, operation: NewOperation, digest: bytes, staged: Mapping[str, bytes]
) -> Prepared | CoreError:
    """The witness with its parents' commitments, or why the operation is refused."""
    try:
        parents = engine.resolve_parents(operation.depends_on, staged)
    except CoreError as error:
        return error
    witness = OperationWitness(
        task_id=operation.task_id.encode(),
        agent_id=operation.agent_id.encode(),
        output=operation.output,
        salt=operation.salt,
        secret=operation.secret,
        parents=parents,
    )
    return Prepared(operation, witness, digest)


def first_mismatch(
    domain: bytes, witnesses: Sequence[OperationWitness], expected: Sequence[bytes]
) -> int | None:
    """The place of the first witness whose statement is not the one expected; None where all are."""
    found = compute_statements(domain, witnesses)
    pairs = zip(found, expected, strict=True)
    return next((place for place, (one, other) in enumerate(pairs) if one.statement != other), None)


def submissions_of(
    domain: bytes, prepared: Sequence[Prepared], commitments: Commitments | None
) -> list[Submission]:
    """What the core decides on, in order; `commitments` of these operations, where they are known."""
    statements = compute_statements(domain, [item.witness for item in prepared], commitments=commitments)
    return [
        Submission(
            operation_id=item.operation.operation_id,
            agent_id=item.operation.agent_id,
            task_id=item.operation.task_id,
            operation_type=item.operation.operation_type,
            parents=item.operation.depends_on,
            parent_outputs=item.operation.parent_outputs,
            parent_commitments=item.witness.parents,
            content_digest=item.content_digest,
            constraint_hash=statement.constraint_hash,
            output_commitment=statement.output_commitment,
            nullifier=statement.nullifier,
            agent_key=statement.agent_key,
            public_digest=statement.public_digest,
            statement=statement.statement,
            binding=statement.binding,
            output_bytes=len(item.operation.output),
            rows=rows_for(len(item.operation.output)),
            priority=item.operation.priority,
            deadline_ms=item.operation.deadline_ms,
            retry_of=item.operation.retry_of,
        )
        for item, statement in zip(prepared, statements, strict=True)
    ]
