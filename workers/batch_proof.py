"""One batch proof and the statements it is about: what a chain or the reader of a receipt checks."""

from collections.abc import Sequence

from kernels.backend import Backend
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import MAX_LOG_ROWS
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import Parameters
from workers.stark.proof import peek_log_rows
from workers.stark.verifier import verify
from workers.statement import batch_public_values, batch_root

AIR = OperationAir()


def verify_batch_proof(
    proof: bytes,
    statements: Sequence[bytes],
    *,
    parameters: Parameters,
    backend: Backend | None = None,
) -> None:
    """Returns if `proof` proves a batch of exactly these statement digests S, in this order; raises
    otherwise.

    Raises:
        VerificationError: the proof is refused.
        WitnessError: there are no statements, too many, or one is no digest.
    """
    public_values = batch_public_values(batch_root(statements), len(statements))
    if peek_log_rows(proof) > MAX_LOG_ROWS:
        raise VerificationError(
            Refusal.UNSUPPORTED_HEIGHT, f"a batch proof has at most 2^{MAX_LOG_ROWS} rows"
        )
    verify(AIR, proof, public_values, parameters=parameters, backend=backend)
