"""Mock proofs: marked, bound to their statements, and never taken for a proof."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.batch_proof import verify_batch_proof
from workers.messages import BatchRequest
from workers.mock import MAGIC, MockGenerator, is_mock, mock_matches, mock_proof
from workers.stark.errors import VerificationError
from workers.stark.parameters import TESTING
from workers.statement import OperationWitness, batch_root, compute_statements

digests = st.lists(st.integers(0, 255), min_size=32, max_size=32).map(bytes)


def request(count: int) -> BatchRequest:
    operations = tuple(
        OperationWitness(
            task_id=b"task-%d" % place, agent_id=b"agent", output=b"out", salt=bytes(24), secret=bytes(24)
        )
        for place in range(count)
    )
    return BatchRequest(batch_id="batch", domain=b"local:test", operations=operations, parameters="testing")


def test_statements_and_root_are_the_real_ones() -> None:
    asked = request(3)
    result = MockGenerator().prove(asked, lambda: None)
    statements = tuple(s.statement for s in compute_statements(asked.domain, asked.operations))
    assert result.statements == statements
    assert result.root == batch_root(statements)
    assert result.mock
    assert result.backend == "mock"
    assert mock_matches(result.proof, result.root, 3)


@given(root=digests, other=digests, count=st.integers(1, 4096), more=st.integers(1, 4096))
def test_a_mock_binds_to_its_root_and_count(root: bytes, other: bytes, count: int, more: int) -> None:
    proof = mock_proof(root, count)
    assert is_mock(proof)
    assert mock_matches(proof, root, count)
    assert mock_matches(proof, other, more) == ((root, count) == (other, more))


def test_the_verifier_refuses_a_mock() -> None:
    result = MockGenerator().prove(request(1), lambda: None)
    with pytest.raises(VerificationError):
        verify_batch_proof(result.proof, result.statements, parameters=TESTING)


def test_no_real_proof_begins_like_a_mock() -> None:
    # A proof begins with the length of its trace's cap, a power of two up to 2^3 in every parameter set.
    assert MAGIC[0] not in (1, 2, 4, 8)


def test_a_cancelled_mock_stops() -> None:
    def checkpoint() -> None:
        raise RuntimeError("given up")

    with pytest.raises(RuntimeError, match="given up"):
        MockGenerator().prove(request(1), checkpoint)
