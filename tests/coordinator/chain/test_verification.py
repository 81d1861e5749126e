"""The chain computes every digest for itself, as the agents do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.chain.interface import PublicStatement
from coordinator.chain.verification import (
    MOCK,
    InvalidProofError,
    InvalidStatementError,
    statement_digests,
    verify_batch,
)
from kernels.field import P
from workers.mock import mock_proof
from workers.statement import (
    OperationWitness,
    batch_root,
    compute_statements,
    public_digest,
    statement_digest,
)

DIGESTS = st.lists(st.integers(0, P - 1), min_size=8, max_size=8).map(
    lambda elements: b"".join(element.to_bytes(4, "little") for element in elements)
)
IDS = st.text(min_size=1, max_size=40)
STATEMENTS = st.builds(
    PublicStatement,
    task_id=IDS,
    agent_id=IDS,
    parents=st.lists(DIGESTS, max_size=3).map(tuple),
    constraint_hash=DIGESTS,
    output_commitment=DIGESTS,
    nullifier=DIGESTS,
    agent_key=DIGESTS,
)


@given(operations=st.lists(STATEMENTS, max_size=5), domain=st.binary(min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_hashing_a_batch_together_equals_hashing_one_by_one(
    operations: list[PublicStatement], domain: bytes
) -> None:
    expected = [
        statement_digest(
            public_digest=public_digest(domain, o.task_id.encode(), o.agent_id.encode(), o.parents),
            nullifier=o.nullifier,
            agent_key=o.agent_key,
            constraint_hash=o.constraint_hash,
            output_commitment=o.output_commitment,
        )
        for o in operations
    ]
    assert statement_digests(domain, operations) == expected


class TestMock:
    def test_a_mock_proof_must_be_the_batchs_own(self) -> None:
        witnesses = [
            OperationWitness(task_id=task, agent_id=b"a", output=b"", salt=bytes(24), secret=bytes(24))
            for task in (b"t1", b"t2")
        ]
        statements = [s.statement for s in compute_statements(b"local:0", witnesses)]
        proof = mock_proof(batch_root(statements), 2)
        verify_batch(proof, statements, MOCK)
        for wrong in (statements[::-1], statements[:1]):
            with pytest.raises(InvalidProofError, match="another batch"):
                verify_batch(proof, wrong, MOCK)
        with pytest.raises(InvalidProofError):
            verify_batch(proof, statements, "standard")


def test_a_malformed_statement_is_named_by_its_place() -> None:
    good = PublicStatement(
        task_id="t",
        agent_id="a",
        parents=(),
        constraint_hash=bytes(32),
        output_commitment=bytes(32),
        nullifier=bytes(32),
        agent_key=bytes(32),
    )
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    too_large = P.to_bytes(4, "little") * 8
    for change in (
        {"nullifier": too_large},
        {"parents": (bytes(32), too_large)},
        {"parents": (bytes(32),) * 4097},
        {"agent_id": "é" * 129},
    ):
        bad = PublicStatement(**(fields | change))
        with pytest.raises(InvalidStatementError) as caught:
            statement_digests(b"local:0", [good, bad, good])
        assert caught.value.index == 1
