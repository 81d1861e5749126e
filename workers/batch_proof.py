"""One batch proof and the statements it is about: what a chain or the reader of a receipt checks."""

from collections.abc import Sequence
from enum import StrEnum

from kernels.backend import Backend
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import MAX_LOG_ROWS
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import Parameters
from workers.stark.proof import peek_log_rows
from workers.stark.pruned import PRUNED_WIRE, expand, prune
from workers.stark.verifier import verify
from workers.statement import batch_public_values, batch_root

AIR = OperationAir()


class Wire(StrEnum):
    """The encodings of a batch proof, by the names that receipts give them. Both carry the same proof."""

    PLAIN = "plonky3-0.6.2"
    """What Plonky3 0.6.2 reads and writes."""

    PRUNED = PRUNED_WIRE
    """Without what the reader can compute: about half as long."""


def convert_batch_proof(
    proof: bytes,
    statements: Sequence[bytes],
    *,
    parameters: Parameters,
    source: Wire,
    target: Wire,
    backend: Backend | None = None,
) -> bytes:
    """The same proof in another encoding. It is not verified, and need not be for one that was.

    Raises:
        VerificationError: the bytes are no proof in the encoding `source`.
        WitnessError: there are no statements, too many, or one is no digest.
    """
    if source is target:
        return proof
    public_values = batch_public_values(batch_root(statements), len(statements))
    change = prune if target is Wire.PRUNED else expand
    return change(AIR, proof, public_values, parameters=parameters, backend=backend)


def verify_batch_proof(
    proof: bytes,
    statements: Sequence[bytes],
    *,
    parameters: Parameters,
    wire: Wire = Wire.PLAIN,
    backend: Backend | None = None,
) -> None:
    """Returns if `proof` proves a batch of exactly these statement digests S, in this order; raises
    otherwise.

    Raises:
        VerificationError: the proof is refused.
        WitnessError: there are no statements, too many, or one is no digest.
    """
    public_values = batch_public_values(batch_root(statements), len(statements))
    if wire is Wire.PRUNED:
        proof = expand(AIR, proof, public_values, parameters=parameters, backend=backend)
    if peek_log_rows(proof) > MAX_LOG_ROWS:
        raise VerificationError(
            Refusal.UNSUPPORTED_HEIGHT, f"a batch proof has at most 2^{MAX_LOG_ROWS} rows"
        )
    verify(AIR, proof, public_values, parameters=parameters, backend=backend)
