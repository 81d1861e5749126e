"""Examples for the OpenAPI document, of one operation that is told through all of them."""

from coordinator.answers import (
    BatchAnswer,
    BatchBody,
    BatchVerdict,
    OperationAnswer,
    OutputAnswer,
    SpeculationAnswer,
    StatementAnswer,
)
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http.errors import error_object
from coordinator.submission import OperationBody
from workers.receipt import BatchPart, ChainPart, ParametersPart, Receipt, StatementPart, WorkPart

DIGEST = "2a000000" * 8

OPERATION_BODY = OperationBody(
    operation_id="op-2",
    agent_id="agent-1",
    task_id="summary-7",
    operation_type="summarise",
    depends_on=("op-1",),
    parent_outputs={"op-1": DIGEST},
    output=b"the summary",
    salt=bytes(range(24)),
    secret=bytes(range(24, 48)),
)

OPERATION = OperationAnswer(
    operation_id="op-2",
    state="SPECULATING",
    depth=1,
    speculation=SpeculationAnswer(granted=True, reason=None, stake_lamports=1_100_000),
    statement=StatementAnswer(
        constraint_hash=DIGEST,
        output_commitment=DIGEST,
        nullifier=DIGEST,
        agent_key=DIGEST,
        public_digest=DIGEST,
        binding=DIGEST,
    ),
    agent_id="agent-1",
    task_id="summary-7",
    operation_type="summarise",
    depends_on=("op-1",),
    reason="granted",
    batch_id=None,
    submitted_at="2026-01-31T12:00:00.000Z",
    updated_at="2026-01-31T12:00:00.000Z",
    priority=0,
    deadline=None,
    retry_of=None,
    replaced_by=None,
)

BATCH_BODY = BatchBody(operations=(OPERATION_BODY,))

BATCH_ANSWER = BatchAnswer(
    results=(
        BatchVerdict(operation_id="op-2", status=202, state="SPECULATING"),
        BatchVerdict(
            operation_id="op-3",
            status=409,
            error=error_object(CoreError(ErrorCode.UNKNOWN_PARENT, "no live or confirmed operation op-0")),
        ),
    )
)

OUTPUT = OutputAnswer(output=b"the summary", output_commitment=DIGEST, final=False)

RECEIPT = Receipt(
    operation="op-2",
    statement=StatementPart(
        domain="local:a4d2868801c0ccf1",
        task_id="summary-7",
        agent_id="agent-1",
        parents=[DIGEST],
        constraint_hash=DIGEST,
        output_commitment=DIGEST,
        nullifier=DIGEST,
        agent_key=DIGEST,
        public_digest=DIGEST,
        statement=DIGEST,
        binding=DIGEST,
    ),
    batch=BatchPart(id="batch-1", n=2, root=DIGEST, statements=[DIGEST, DIGEST], index=1),
    proof=b"the batch's proof",
    parameters=ParametersPart(name="standard", conjectured_bits=107, proven_bits=65),
    mock=False,
    chain=ChainPart(slot=5, transaction="batch-1.1"),
    work=WorkPart(worker="w-1", backend="cpu", attempts=1, prove_ms=900, permutations=24),
)
