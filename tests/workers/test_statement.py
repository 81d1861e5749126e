"""Statements against their vectors and against the definition written out over Python integers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import poseidon2
from kernels.field import P
from tests.workers.airs.statement_vectors import load_statement_cases
from workers.encoding import Tag, digest_integers, group_words, is_digest, string_elements, string_words
from workers.statement import (
    MAX_ID_BYTES,
    MAX_OPERATIONS,
    MAX_OUTPUT_BYTES,
    MAX_PARENTS,
    OperationWitness,
    OutputTooLargeError,
    Statement,
    WitnessError,
    agent_key,
    batch_public_values,
    batch_root,
    binding_digest,
    commit_outputs,
    compute_statements,
    constraint_hash,
    public_digest,
    statement_digest,
)

DIGEST = bytes(range(28)) + bytes(4)


def witness(**changes: object) -> OperationWitness:
    fields: dict[str, object] = {
        "task_id": b"task",
        "agent_id": b"agent",
        "output": b"output",
        "salt": bytes(24),
        "secret": bytes(range(24)),
        "parents": (),
    }
    return OperationWitness(**(fields | changes))  # type: ignore[arg-type]


def enc(data: bytes) -> list[int]:
    """enc(b) of the specification, word for word."""
    groups = [data[i : i + 3].ljust(3, b"\0") for i in range(0, len(data), 3)]
    return [len(data), *(int.from_bytes(group, "little") for group in groups)]


def h(tag: Tag, *parts: list[int]) -> list[int]:
    return list(poseidon2.hash_tagged(int(tag), [x for part in parts for x in part]))


def defined(domain: bytes, given: OperationWitness) -> dict[str, list[int]]:
    parents = [digest_integers(parent) for parent in given.parents]
    p = h(
        Tag.PUBLIC,
        enc(domain),
        enc(given.task_id),
        enc(given.agent_id),
        [len(parents)],
        *parents,
    )
    c = h(Tag.CONSTRAINT, enc(given.output))
    o = h(Tag.OUTPUT, c, enc(given.salt)[1:])
    n = h(Tag.NULLIFIER, p, enc(given.secret)[1:])
    k = h(Tag.KEY, enc(given.secret)[1:])
    return {
        "public_digest": p,
        "constraint_hash": c,
        "output_commitment": o,
        "nullifier": n,
        "agent_key": k,
        "statement": h(Tag.STATEMENT, p, n, k, c, o),
        "binding": h(Tag.BINDING, p, o),
    }


digests = st.lists(st.integers(0, P - 1), min_size=8, max_size=8).map(
    lambda elements: np.array(elements, dtype="<u4").tobytes()
)
witnesses = st.builds(
    OperationWitness,
    task_id=st.binary(min_size=1, max_size=40),
    agent_id=st.binary(min_size=1, max_size=40),
    output=st.binary(max_size=200),
    salt=st.binary(min_size=24, max_size=24),
    secret=st.binary(min_size=24, max_size=24),
    parents=st.lists(digests, max_size=3).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(domain=st.binary(min_size=1, max_size=40), batch=st.lists(witnesses, min_size=1, max_size=4))
def test_statements_are_the_defined_digests(domain: bytes, batch: list[OperationWitness]) -> None:
    for given_witness, statement in zip(batch, compute_statements(domain, batch), strict=True):
        expected = defined(domain, given_witness)
        found = {name: digest_integers(getattr(statement, name)) for name in expected}
        assert found == expected


@pytest.mark.vectors
def test_the_vectors_come_out(vectors_dir: Path) -> None:
    cases = load_statement_cases(vectors_dir)
    assert [len(case.witnesses) for case in cases][:2] == [1, 1]
    for case in cases:
        statements = compute_statements(case.domain, case.witnesses)
        for statement, expected in zip(statements, case.expected, strict=True):
            assert {name: getattr(statement, name) for name in expected} == expected
        assert batch_root([statement.statement for statement in statements]) == case.root


@settings(max_examples=15, deadline=None)
@given(domain=st.binary(min_size=1, max_size=40), given_witness=witnesses)
def test_a_verifier_computes_the_same_from_what_is_public(
    domain: bytes, given_witness: OperationWitness
) -> None:
    (statement,) = compute_statements(domain, [given_witness])
    public = public_digest(domain, given_witness.task_id, given_witness.agent_id, given_witness.parents)
    assert public == statement.public_digest
    assert constraint_hash(given_witness.output) == statement.constraint_hash
    assert agent_key(given_witness.secret) == statement.agent_key
    assert (
        statement_digest(
            public_digest=public,
            nullifier=statement.nullifier,
            agent_key=statement.agent_key,
            constraint_hash=statement.constraint_hash,
            output_commitment=statement.output_commitment,
        )
        == statement.statement
    )
    binding = binding_digest(public_digest=public, output_commitment=statement.output_commitment)
    assert binding == statement.binding


BASE = compute_statements(b"domain", [witness()])[0]


@pytest.mark.parametrize(
    ("domain", "changes", "changed"),
    [
        (b"domain2", {}, {"public_digest", "nullifier"}),
        (b"domain", {"task_id": b"task2"}, {"public_digest", "nullifier"}),
        (b"domain", {"agent_id": b"agent2"}, {"public_digest", "nullifier"}),
        (b"domain", {"parents": (DIGEST,)}, {"public_digest", "nullifier"}),
        (b"domain", {"secret": bytes(24)}, {"nullifier", "agent_key"}),
        (b"domain", {"salt": bytes(range(24))}, {"output_commitment"}),
        (b"domain", {"output": b"output\0"}, {"constraint_hash", "output_commitment"}),
    ],
)
def test_each_input_is_bound_by_its_digests_and_by_no_others(
    domain: bytes, changes: dict[str, object], changed: set[str]
) -> None:
    (statement,) = compute_statements(domain, [witness(**changes)])
    names = {"public_digest", "constraint_hash", "output_commitment", "nullifier", "agent_key"}
    assert {name for name in names if getattr(statement, name) != getattr(BASE, name)} == changed
    assert statement.statement != BASE.statement


def test_ids_do_not_run_into_one_another() -> None:
    """Lengths are hashed: moving a byte from one id to the next makes another digest."""
    assert public_digest(b"d", b"ab", b"c", []) != public_digest(b"d", b"a", b"bc", [])
    assert public_digest(b"d", b"a", b"b\0", []) != public_digest(b"d", b"a", b"b", [])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_the_encoding_is_the_specified_one(data: bytes) -> None:
    assert np.frombuffer(string_words(data), dtype="<u4").tolist() == enc(data)
    assert np.frombuffer(group_words(data), dtype="<u4").tolist() == enc(data)[1:]
    assert string_elements(len(data)) == len(enc(data))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task_id": b""}, "task_id"),
        ({"task_id": bytes(MAX_ID_BYTES + 1)}, "task_id"),
        ({"agent_id": b""}, "agent_id"),
        ({"salt": bytes(23)}, "salt"),
        ({"secret": bytes(25)}, "secret"),
        ({"parents": (bytes(31),)}, "parents"),
        ({"parents": (P.to_bytes(4, "little") + bytes(28),)}, "parents"),
        ({"parents": (DIGEST,) * (MAX_PARENTS + 1)}, "parents"),
    ],
)
def test_an_input_out_of_bounds_is_refused_by_its_name(changes: dict[str, object], field: str) -> None:
    with pytest.raises(WitnessError) as refused:
        witness(**changes)
    assert refused.value.field == field
    assert refused.value.code == "invalid"


def test_the_largest_output_is_taken_and_one_byte_more_is_not() -> None:
    largest = witness(output=bytes(MAX_OUTPUT_BYTES))
    (statement,) = compute_statements(b"domain", [largest])
    assert digest_integers(statement.constraint_hash) == h(Tag.CONSTRAINT, enc(largest.output))
    calls: list[Callable[[], object]] = [
        lambda: witness(output=bytes(MAX_OUTPUT_BYTES + 1)),
        lambda: constraint_hash(bytes(MAX_OUTPUT_BYTES + 1)),
    ]
    for call in calls:
        with pytest.raises(OutputTooLargeError) as refused:
            call()
        assert (refused.value.field, refused.value.code) == ("output", "output_too_large")


def test_other_inputs_are_bounded_too() -> None:
    for call, field in (
        (lambda: compute_statements(b"", [witness()]), "domain"),
        (lambda: compute_statements(bytes(MAX_ID_BYTES + 1), [witness()]), "domain"),
        (lambda: agent_key(bytes(23)), "secret"),
        (lambda: batch_root([]), "statements"),
        (lambda: batch_root([DIGEST] * (MAX_OPERATIONS + 1)), "statements"),
        (lambda: batch_root([b"\xff" * 32]), "statements"),
        (lambda: batch_public_values(b"\xff" * 32, 1), "root"),
        (lambda: public_digest(b"d", b"t", b"a", [b""]), "parents"),
    ):
        with pytest.raises(WitnessError) as refused:
            call()
        assert refused.value.field == field


def test_commitments_before_the_parents_are_known_are_those_of_the_statements() -> None:
    batch = [witness(output=bytes(size), salt=bytes([size]) * 24) for size in (0, 5, 24, 250)]
    expected = [statement.output_commitment for statement in compute_statements(b"domain", batch)]
    known = commit_outputs([given.output for given in batch], [given.salt for given in batch])
    assert known.digests() == expected
    some = [batch[at] for at in (3, 1)]
    assert compute_statements(b"domain", some, commitments=known.take([3, 1])) == compute_statements(
        b"domain", some
    )
    with pytest.raises(WitnessError) as refused:
        commit_outputs([b""], [bytes(23)])
    assert refused.value.field == "salt"
    with pytest.raises(OutputTooLargeError):
        commit_outputs([bytes(MAX_OUTPUT_BYTES + 1)], [bytes(24)])


def test_no_operations_have_no_statements() -> None:
    assert compute_statements(b"domain", []) == []


def test_private_inputs_do_not_show_in_the_representation() -> None:
    shown = repr(witness(output=b"the output", salt=b"s" * 24, secret=b"k" * 24))
    assert "the output" not in shown
    assert "sss" not in shown
    assert "kkk" not in shown
    assert "task" in shown


def test_the_root_depends_on_order_and_number() -> None:
    one, other = DIGEST, BASE.statement
    roots = {batch_root(batch) for batch in ([one], [other], [one, other], [other, one], [one, one])}
    assert len(roots) == 5


def test_a_digest_is_eight_canonical_elements() -> None:
    assert is_digest(DIGEST)
    assert is_digest((P - 1).to_bytes(4, "little") * 8)
    assert not is_digest(P.to_bytes(4, "little") * 8)
    assert not is_digest(bytes(33))
    assert isinstance(BASE, Statement)
