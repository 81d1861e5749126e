"""Statements: the digests that an operation's proof speaks of (specification "The proof", section 1).

    P = H_5(enc(domain) ‖ enc(task id) ‖ enc(agent id) ‖ number of parents ‖ parents' O)    public digest
    C = H_1(enc(output))            constraint hash          O = H_2(C ‖ salt)      output commitment
    N = H_3(P ‖ secret)             nullifier                K = H_4(secret)        agent key
    S = H_6(P ‖ N ‖ K ‖ C ‖ O)      statement                binding = H_8(P ‖ O)
    root = H_7(S_1 ‖ … ‖ S_n)       what a batch proof is about, with n

Digests are 32 bytes here, 8 canonical elements of 4 bytes little-endian. The domain is the chain's name and
genesis; ids are the UTF-8 bytes that were submitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kernels.backend import Backend
from kernels.field import U32
from workers.encoding import (
    WORD_BYTES,
    Tag,
    are_digests,
    digest_integers,
    digests_of,
    elements_of,
    group_words,
    is_digest,
    joined_strings,
    number_words,
    string_words,
    string_words_each,
)
from workers.hashing import default_backend, hash_rows, hash_strings, tagged_digests

I64 = npt.NDArray[np.int64]

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


@dataclass(frozen=True, kw_only=True, eq=False)
class WitnessElements:
    """What the digests of n operations are taken of, in Montgomery form: P's inputs and enc(output) one after the
    other, those of operation i from `offsets[i]` to `offsets[i + 1]`, salts and secrets U32[n, 8]."""

    public: U32
    public_offsets: I64
    output: U32
    output_offsets: I64
    salts: U32
    secrets: U32

    @classmethod
    def of(
        cls, domain: bytes, witnesses: Sequence[OperationWitness], *, backend: Backend
    ) -> "WitnessElements":
        """Raises WitnessError if `domain` is empty or too long."""
        _require_id("domain", domain)
        public = _public_words(domain, [(each.task_id, each.agent_id, each.parents) for each in witnesses])
        output, lengths = joined_strings([witness.output for witness in witnesses])
        return cls(
            public=_converted(b"".join(public), backend),
            public_offsets=_offsets([len(words) // WORD_BYTES for words in public]),
            output=_converted(output, backend),
            output_offsets=_offsets(lengths),
            salts=_secret_rows([witness.salt for witness in witnesses]),
            secrets=_secret_rows([witness.secret for witness in witnesses]),
        )


def _converted(words: bytes, backend: Backend) -> U32:
    return backend.to_montgomery(np.frombuffer(words, dtype="<u4"))


def _offsets(lengths: Sequence[int]) -> I64:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, kw_only=True, eq=False)
class Commitments:
    """C and O of many outputs, U32[n, 8] each in Montgomery form: what can be hashed before parents are known."""

    constraints: U32
    outputs: U32

    def digests(self) -> list[bytes]:
        """The output commitments O, 32 bytes each."""
        return digests_of(self.outputs)

    def take(self, places: Sequence[int]) -> "Commitments":
        """Those of some of the outputs."""
        chosen = np.array(places, dtype=np.int64)
        return Commitments(constraints=self.constraints[chosen], outputs=self.outputs[chosen])


def commit_outputs(
    outputs: Sequence[bytes], salts: Sequence[bytes], *, backend: Backend | None = None
) -> Commitments:
    """C and O of many outputs, at least one, with a salt each.

    Raises:
        WitnessError: an output or a salt is out of bounds.
    """
    for output, salt in zip(outputs, salts, strict=True):
        if len(output) > MAX_OUTPUT_BYTES:
            raise OutputTooLargeError(len(output))
        if len(salt) != SECRET_BYTES:
            raise WitnessError("salt", f"{len(salt)} bytes where {SECRET_BYTES} are needed")
    backend = backend if backend is not None else default_backend()
    (constraints,) = hash_strings({Tag.CONSTRAINT: string_words_each(outputs)}, backend=backend)
    (committed,) = hash_rows({Tag.OUTPUT: np.hstack((constraints, _secret_rows(salts)))}, backend=backend)
    return Commitments(constraints=constraints, outputs=committed)


def compute_statements(
    domain: bytes,
    witnesses: Sequence[OperationWitness],
    *,
    commitments: Commitments | None = None,
    backend: Backend | None = None,
) -> list[Statement]:
    """The statements of many operations, hashed together; digests stay field elements until they are all there.

    Args:
        domain: the chain's name and genesis.
        witnesses: the operations.
        commitments: C and O of their outputs, where they are known already.
        backend: what hashes.

    Raises:
        WitnessError: `domain` is empty or too long.
    """
    _require_id("domain", domain)
    if not witnesses:
        return []
    backend = backend if backend is not None else default_backend()
    if commitments is None:
        commitments = commit_outputs(
            [witness.output for witness in witnesses],
            [witness.salt for witness in witnesses],
            backend=backend,
        )
    constraints, outputs = commitments.constraints, commitments.outputs
    words = _public_words(domain, [(each.task_id, each.agent_id, each.parents) for each in witnesses])
    (publics,) = hash_strings({Tag.PUBLIC: words}, backend=backend)
    secrets = _secret_rows([witness.secret for witness in witnesses])
    keys, nullifiers = hash_rows(
        {Tag.KEY: secrets, Tag.NULLIFIER: np.hstack((publics, secrets))}, backend=backend
    )
    statements, bindings = hash_rows(
        {
            Tag.STATEMENT: np.hstack((publics, nullifiers, keys, constraints, outputs)),
            Tag.BINDING: np.hstack((publics, outputs)),
        },
        backend=backend,
    )
    columns = (publics, constraints, outputs, nullifiers, keys, statements, bindings)
    return list(map(Statement, *map(digests_of, columns)))


def statements_of(
    *, publics: U32, constraints: U32, outputs: U32, nullifiers: U32, keys: U32, statements: U32
) -> list[Statement]:
    """The statements whose digests these are, U32[n, 8] each in Montgomery form; bindings are hashed."""
    (bindings,) = hash_rows({Tag.BINDING: np.hstack((publics, outputs))}, backend=default_backend())
    columns = (publics, constraints, outputs, nullifiers, keys, statements, bindings)
    return list(map(Statement, *map(digests_of, columns)))


def _secret_rows(secrets: Sequence[bytes]) -> U32:
    """Salts or secrets of 24 bytes as elements, U32[n, 8]."""
    return elements_of(group_words(b"".join(secrets))).reshape(len(secrets), -1)


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
    if not are_digests(statements):
        raise WitnessError("statements", "one is not a digest of 8 canonical elements")
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
