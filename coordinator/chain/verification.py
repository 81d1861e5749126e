"""From public statements to an accepted proof: everything a chain computes for itself."""

from collections.abc import Callable, Sequence

from coordinator.chain.interface import PublicStatement
from workers.batch_proof import verify_batch_proof
from workers.encoding import Tag, is_digest
from workers.hashing import default_backend, tagged_digests
from workers.mock import mock_matches
from workers.stark.errors import VerificationError
from workers.stark.parameters import by_name
from workers.statement import MAX_ID_BYTES, MAX_PARENTS, batch_root, public_digests

MOCK = "mock"
"""The parameters' name of a mock proof."""


class InvalidProofError(Exception):
    """A proof does not prove the batch it came with."""


class InvalidStatementError(Exception):
    """A public statement is malformed; `index` is its place in the batch."""

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(detail)
        self.index = index


Verify = Callable[[bytes, Sequence[bytes], str], None]
"""(proof, statement digests S in order, parameters' name) → returns, or raises InvalidProofError."""


def statement_digests(domain: bytes, operations: Sequence[PublicStatement]) -> list[bytes]:
    """S of each operation, as the chain computes it; all of a batch are hashed together.

    Raises:
        InvalidStatementError: an operation's ids or digests are malformed.
    """
    for index, operation in enumerate(operations):
        _require_well_formed(index, operation)
    publics = public_digests(
        domain, [(o.task_id.encode(), o.agent_id.encode(), o.parents) for o in operations]
    )
    return tagged_digests(
        [
            (
                Tag.STATEMENT,
                public + o.nullifier + o.agent_key + o.constraint_hash + o.output_commitment,
            )
            for public, o in zip(publics, operations, strict=True)
        ],
        backend=default_backend(),
    )


def verify_batch(proof: bytes, statements: Sequence[bytes], parameters: str) -> None:
    """Returns if the proof proves a batch of exactly these statements under the named parameters.

    A mock proof is only compared with the one that the statements have.

    Raises:
        InvalidProofError: it does not.
    """
    if parameters == MOCK:
        if not mock_matches(proof, batch_root(statements), len(statements)):
            raise InvalidProofError("the mock proof is another batch's")
        return
    try:
        verify_batch_proof(proof, statements, parameters=by_name(parameters))
    except VerificationError as error:
        raise InvalidProofError(str(error)) from error


def _require_well_formed(index: int, operation: PublicStatement) -> None:
    for name, text in (("task id", operation.task_id), ("agent id", operation.agent_id)):
        if not 1 <= len(text.encode()) <= MAX_ID_BYTES:
            raise InvalidStatementError(index, f"the {name} has 1 to {MAX_ID_BYTES} bytes")
    if len(operation.parents) > MAX_PARENTS:
        raise InvalidStatementError(index, f"there are at most {MAX_PARENTS} parents")
    digests = (
        *operation.parents,
        operation.constraint_hash,
        operation.output_commitment,
        operation.nullifier,
        operation.agent_key,
    )
    if not all(is_digest(digest) for digest in digests):
        raise InvalidStatementError(index, "a digest is not 8 canonical elements")
