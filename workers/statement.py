"""Statements: the digests that an operation's proof speaks of (specification "The proof", section 1).

    P = H_5(enc(domain) ‖ enc(task id) ‖ enc(agent id) ‖ number of parents ‖ parents' O)    public digest
    C = H_1(enc(output))            constraint hash          O = H_2(C ‖ salt)      output commitment
    N = H_3(P ‖ secret)             nullifier                K = H_4(secret)        agent key
    S = H_6(P ‖ N ‖ K ‖ C ‖ O)      statement                binding = H_8(P ‖ O)
    root = H_7(S_1 ‖ … ‖ S_n)       what a batch proof is about, with n

Digests are 32 bytes here, 8 canonical elements of 4 bytes little-endian. The domain is the chain's name and
genesis; ids are the UTF-8 bytes that were submitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernels.backend import Backend
from workers.encoding import (
    Tag,
    digest_integers,
    group_words,
    group_words_each,
    is_digest,
    number_words,
    string_words,
    string_words_each,
)
from workers.hashing import Input, default_backend, tagged_digests

MAX_OUTPUT_BYTES = 64 * 1024
MAX_ID_BYTES = 256
MAX_PARENTS = 4096
MAX_OPERATIONS = 4096
"""Operations of one batch: `n` of a root is between 1 and this."""
SECRET_BYTES = 24
"""The length of a salt and of a secret."""


class WitnessError(ValueError):
    """An input of a statement is not what the specification allows. Trying again with the same input cannot
    help."""

    code = "invalid"

    def __init__(self, field_name: str, detail: str) -> None:
        super().__init__(f"{field_name}: {detail}")
        self.field = field_name
        self.detail = detail


class OutputTooLargeError(WitnessError):
    """The output is longer than one proof can hold."""

    code = "output_too_large"

    def __init__(self, num_bytes: int) -> None:
        super().__init__("output", f"{num_bytes} bytes, {MAX_OUTPUT_BYTES} is the most")


@dataclass(frozen=True, kw_only=True)
class OperationWitness:
    """What an operation's statement is made of. `output`, `salt` and `secret` are private, and kept out of
    its `repr`.

    Raises:
        WitnessError: a field is out of bounds; `field` names it.
    """

    task_id: bytes
    agent_id: bytes
    output: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    parents: tuple[bytes, ...] = ()
    """The parents' output commitments, in the order of `depends_on`."""

    def __post_init__(self) -> None:
        _require_id("task_id", self.task_id)
        _require_id("agent_id", self.agent_id)
        if len(self.output) > MAX_OUTPUT_BYTES:
            raise OutputTooLargeError(len(self.output))
        for name, value in (("salt", self.salt), ("secret", self.secret)):
            if len(value) != SECRET_BYTES:
                raise WitnessError(name, f"{len(value)} bytes where {SECRET_BYTES} are needed")
        _require_parents(self.parents)


@dataclass(frozen=True)
class Statement:
    """The public digests P, C, O, N, K, S and binding of one operation, 32 bytes each."""

    public_digest: bytes
    constraint_hash: bytes
    output_commitment: bytes
    nullifier: bytes
    agent_key: bytes
    statement: bytes
    binding: bytes


@dataclass(frozen=True, kw_only=True)
class WitnessWords:
    """What the digests of many operations are taken of, as words, one entry an operation: `public` is P's
    input, `output` enc(output)."""

    public: list[bytes]
    output: list[bytes]
    salt: list[bytes]
    secret: list[bytes]

    @classmethod
    def of(cls, domain: bytes, witnesses: Sequence[OperationWitness]) -> "WitnessWords":
        """Raises WitnessError if `domain` is empty or too long."""
        _require_id("domain", domain)
        return cls(
            public=_public_words(domain, [(each.task_id, each.agent_id, each.parents) for each in witnesses]),
            output=string_words_each([witness.output for witness in witnesses]),
            salt=group_words_each([witness.salt for witness in witnesses]),
            secret=group_words_each([witness.secret for witness in witnesses]),
        )


def compute_statements(
    domain: bytes, witnesses: Sequence[OperationWitness], *, backend: Backend | None = None
) -> list[Statement]:
    """The statements of many operations, hashed together.

    Raises:
        WitnessError: `domain` is empty or too long.
    """
    words = WitnessWords.of(domain, witnesses)
    if not witnesses:
        return []
    backend = backend if backend is not None else default_backend()
    publics, constraints, keys = _hash_together(
        {Tag.PUBLIC: words.public, Tag.CONSTRAINT: words.output, Tag.KEY: words.secret}, backend
    )
    outputs, nullifiers = _hash_together(
        {
            Tag.OUTPUT: joined(constraints, words.salt),
            Tag.NULLIFIER: joined(publics, words.secret),
        },
        backend,
    )
    statements, bindings = _hash_together(
        {
            Tag.STATEMENT: joined(publics, nullifiers, keys, constraints, outputs),
            Tag.BINDING: joined(publics, outputs),
        },
        backend,
    )
    columns = (publics, constraints, outputs, nullifiers, keys, statements, bindings)
    return [Statement(*digests) for digests in zip(*columns, strict=True)]


def joined(*columns: list[bytes]) -> list[bytes]:
    """Words of several columns, concatenated operation by operation."""
    return [b"".join(parts) for parts in zip(*columns, strict=True)]


def _hash_together(columns: Mapping[Tag, list[bytes]], backend: Backend) -> list[list[bytes]]:
    """Each column's digests under its tag; all columns have the same length."""
    inputs: list[Input] = [(tag, words) for tag, column in columns.items() for words in column]
    digests = tagged_digests(inputs, backend=backend)
    count = len(digests) // len(columns)
    return [digests[start : start + count] for start in range(0, len(digests), count)]


def agent_key(secret: bytes) -> bytes:
    """K, the key that an agent registers for its 24-byte secret."""
    if len(secret) != SECRET_BYTES:
        raise WitnessError("secret", f"{len(secret)} bytes where {SECRET_BYTES} are needed")
    return _digest(Tag.KEY, group_words(secret))


def constraint_hash(output: bytes) -> bytes:
    """C, what a task may demand of its output beforehand."""
    if len(output) > MAX_OUTPUT_BYTES:
        raise OutputTooLargeError(len(output))
    return _digest(Tag.CONSTRAINT, string_words(output))


def output_commitments(
    outputs: Sequence[tuple[bytes, bytes]], *, backend: Backend | None = None
) -> list[bytes]:
    """O of many (output, salt) pairs, before the parents are known: what children in the same call build on.

    Raises:
        WitnessError: an output or a salt is out of bounds.
    """
    for output, salt in outputs:
        if len(output) > MAX_OUTPUT_BYTES:
            raise OutputTooLargeError(len(output))
        if len(salt) != SECRET_BYTES:
            raise WitnessError("salt", f"{len(salt)} bytes where {SECRET_BYTES} are needed")
    if not outputs:
        return []
    backend = backend if backend is not None else default_backend()
    constraints = tagged_digests(
        [(Tag.CONSTRAINT, string_words(output)) for output, _ in outputs], backend=backend
    )
    return tagged_digests(
        [
            (Tag.OUTPUT, constraint + group_words(salt))
            for constraint, (_, salt) in zip(constraints, outputs, strict=True)
        ],
        backend=backend,
    )


def public_digests(domain: bytes, operations: Sequence[tuple[bytes, bytes, Sequence[bytes]]]) -> list[bytes]:
    """P of many (task id, agent id, parents' output commitments), hashed together; bounds are the caller's to check."""
    inputs = [(Tag.PUBLIC, words) for words in _public_words(domain, operations)]
    return tagged_digests(inputs, backend=default_backend())


def public_digest(domain: bytes, task_id: bytes, agent_id: bytes, parents: Sequence[bytes]) -> bytes:
    """P, as a verifier computes it: chain, task, agent and the parents' output commitments in order."""
    _require_id("domain", domain)
    _require_id("task_id", task_id)
    _require_id("agent_id", agent_id)
    _require_parents(parents)
    return public_digests(domain, [(task_id, agent_id, parents)])[0]


def statement_digest(
    *,
    public_digest: bytes,
    nullifier: bytes,
    agent_key: bytes,
    constraint_hash: bytes,
    output_commitment: bytes,
) -> bytes:
    """S of the digests P, N, K, C and O."""
    parts = {
        "public_digest": public_digest,
        "nullifier": nullifier,
        "agent_key": agent_key,
        "constraint_hash": constraint_hash,
        "output_commitment": output_commitment,
    }
    for name, part in parts.items():
        _require_digest(name, part)
    return _digest(Tag.STATEMENT, b"".join(parts.values()))


def binding_digest(*, public_digest: bytes, output_commitment: bytes) -> bytes:
    """The API's `binding`, of P and O."""
    _require_digest("public_digest", public_digest)
    _require_digest("output_commitment", output_commitment)
    return _digest(Tag.BINDING, public_digest + output_commitment)


def batch_root(statements: Sequence[bytes]) -> bytes:
    """The root of a batch of statement digests S, in order."""
    if not 1 <= len(statements) <= MAX_OPERATIONS:
        raise WitnessError("statements", f"{len(statements)} of them, 1 to {MAX_OPERATIONS} are allowed")
    for statement in statements:
        _require_digest("statements", statement)
    return _digest(Tag.ROOT, b"".join(statements))


def batch_public_values(root: bytes, num_operations: int) -> list[int]:
    """The public values of a batch proof: the root's 8 elements and n."""
    _require_digest("root", root)
    return [*digest_integers(root), num_operations]


def _public_words(domain: bytes, operations: Sequence[tuple[bytes, bytes, Sequence[bytes]]]) -> list[bytes]:
    """What P hashes, for each (task id, agent id, parents' output commitments)."""
    prefix = string_words(domain)
    tasks = string_words_each([task_id for task_id, _, _ in operations])
    agents = string_words_each([agent_id for _, agent_id, _ in operations])
    return [
        b"".join((prefix, task, agent, number_words(len(parents)), *parents))
        for (_, _, parents), task, agent in zip(operations, tasks, agents, strict=True)
    ]


def _digest(tag: Tag, words: bytes) -> bytes:
    return tagged_digests([(tag, words)], backend=default_backend())[0]


def _require_id(name: str, value: bytes) -> None:
    if not 1 <= len(value) <= MAX_ID_BYTES:
        raise WitnessError(name, f"{len(value)} bytes, 1 to {MAX_ID_BYTES} are allowed")


def _require_parents(parents: Sequence[bytes]) -> None:
    if len(parents) > MAX_PARENTS:
        raise WitnessError("parents", f"{len(parents)} of them, {MAX_PARENTS} is the most")
    for parent in parents:
        _require_digest("parents", parent)


def _require_digest(name: str, value: bytes) -> None:
    if not is_digest(value):
        raise WitnessError(name, "not a digest of 8 canonical elements")
