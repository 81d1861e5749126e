"""Proofs that prove nothing, for `proof.generator = "mock"`: marked, nearly free, refused in production.

A mock proof is `MAGIC`, the batch's root and the number of operations (4 bytes little-endian). It binds to
the statements, which are real, so everything around the proof can be driven without the price of proving.
"""

import time
from collections.abc import Callable

from workers.messages import BatchRequest, BatchResult
from workers.statement import OperationWitness, batch_root, compute_statements

MAGIC = b"AGENC MOCK PROOF, PROVES NOTHING\n"
BACKEND = "mock"
_COUNT_BYTES = 4


def mock_proof(root: bytes, num_operations: int) -> bytes:
    """The mock proof of a batch. `root` is 32 bytes."""
    return MAGIC + root + num_operations.to_bytes(_COUNT_BYTES, "little")


def is_mock(proof: bytes) -> bool:
    """Whether these bytes say of themselves that they are a mock. No real proof starts so: see the test."""
    return proof.startswith(MAGIC)


def mock_matches(proof: bytes, root: bytes, num_operations: int) -> bool:
    """Whether it is the mock proof of that batch: all the checking a mock can have."""
    return proof == mock_proof(root, num_operations)


_WARM_UP = BatchRequest(
    batch_id="warm-up",
    domain=b"warm-up",
    operations=(OperationWitness(task_id=b"t", agent_id=b"a", output=b"", salt=bytes(24), secret=bytes(24)),),
    parameters="testing",
)


class MockGenerator:
    """Makes mock proofs. The statements and the root are computed as ever."""

    name = BACKEND
    reason = "proof.generator is mock"

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def warm(self) -> None:
        """Hash one statement: that loads the kernels a statement needs."""
        self.prove(_WARM_UP, lambda: None)

    def prove(self, request: BatchRequest, checkpoint: Callable[[], None]) -> BatchResult:
        """A mock proof; `checkpoint` is called once."""
        started = self._clock()
        checkpoint()
        statements = [s.statement for s in compute_statements(request.domain, request.operations)]
        root = batch_root(statements)
        took_s = self._clock() - started
        return BatchResult(
            batch_id=request.batch_id,
            proof=mock_proof(root, len(statements)),
            root=root,
            statements=tuple(statements),
            prove_ms=round(took_s * 1000),
            phases={"statements": took_s},
            permutations=0,
            rows=0,
            log_rows=0,
            backend=BACKEND,
            mock=True,
        )
