"""The receipt of one operation: all that somebody else needs to check it, offline.

    {"version": 1, "operation": id, "statement": {"domain", "task_id", "agent_id", "parents": [digest…],
     "constraint_hash", "output_commitment", "nullifier", "agent_key", "public_digest", "statement",
     "binding"},
     "batch": {"id", "n", "root", "statements": [S…], "index"},
     "proof": base64,
     "parameters": {"name", "conjectured_bits", "proven_bits", "wire", "air"},
     "chain": {"slot", "transaction"} or null,
     "work": {"worker", "backend", "attempts", "prove_ms", "permutations"} or null,
     "mock": false}

Digests are 64 hex digits; `domain`, `task_id` and `agent_id` are text, hashed as UTF-8; `parents` are the
parents' output commitments in order; `statement.statement` is S. Fields that are not listed are ignored.

`wire` names the encoding of the proof (`workers.batch_proof.Wire`): the plain one, or the pruned one, which
says the same in about half the bytes.

A reader believes nothing that can be computed: P, S, binding and root are recomputed, n is the number of S,
AIR, parameter set and bits come from this program's own tables by name. `chain` and `work` are what the
sender says.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from kernels.backend import Backend
from workers.batch_proof import AIR, Wire, convert_batch_proof, verify_batch_proof
from workers.encoding import is_digest
from workers.stark.errors import VerificationError
from workers.stark.parameters import PRODUCTION_NAMES, Parameters, UnknownParametersError, by_name
from workers.statement import (
    MAX_OPERATIONS,
    MAX_PARENTS,
    OperationWitness,
    Statement,
    WitnessError,
    batch_root,
    binding_digest,
    public_digest,
    statement_digest,
)

VERSION = 1
MAX_RECEIPT_BYTES = 8 << 20

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Problem(StrEnum):
    """Why a receipt is refused. The values are stable."""

    MALFORMED = "malformed"
    """Not the JSON of a receipt, or a field out of its bounds."""

    VERSION = "version"
    MOCK = "mock"
    """The proof is a stand-in that proves nothing."""

    PARAMETERS = "parameters"
    """Parameter set, bits, AIR or wire are not ones of this program, or not accepted here."""

    STATEMENT = "statement"
    """A digest of the statement is not what its parts give."""

    BATCH = "batch"
    """The statement is not at its index, or number or root are not those of the statements."""

    PROOF = "proof"
    """The verifier refused the proof."""


class ReceiptError(Exception):
    """The receipt proves nothing. `code` says why; trying again cannot help."""

    def __init__(self, code: Problem, detail: str) -> None:
        super().__init__(f"{code.value}: {detail}")
        self.code = code
        self.detail = detail


class StatementPart(msgspec.Struct, frozen=True, kw_only=True):
    """The public statement of the operation."""

    domain: str
    task_id: str
    agent_id: str
    parents: Annotated[list[Digest], msgspec.Meta(max_length=MAX_PARENTS)]
    constraint_hash: Digest
    output_commitment: Digest
    nullifier: Digest
    agent_key: Digest
    public_digest: Digest
    statement: Digest
    binding: Digest

    @classmethod
    def of(cls, domain: bytes, witness: OperationWitness, statement: Statement) -> "StatementPart":
        """The public part of an operation. Domain and ids must be UTF-8."""
        return cls(
            domain=domain.decode(),
            task_id=witness.task_id.decode(),
            agent_id=witness.agent_id.decode(),
            parents=[parent.hex() for parent in witness.parents],
            constraint_hash=statement.constraint_hash.hex(),
            output_commitment=statement.output_commitment.hex(),
            nullifier=statement.nullifier.hex(),
            agent_key=statement.agent_key.hex(),
            public_digest=statement.public_digest.hex(),
            statement=statement.statement.hex(),
            binding=statement.binding.hex(),
        )


class BatchPart(msgspec.Struct, frozen=True, kw_only=True):
    """The batch that the proof is about, and the operation's place in it."""

    id: str
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_OPERATIONS)]
    root: Digest
    statements: Annotated[list[Digest], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]
    index: Count


class ParametersPart(msgspec.Struct, frozen=True, kw_only=True):
    """Under which parameters the sender says that the proof was made."""

    name: str
    conjectured_bits: Count
    proven_bits: Count
    wire: str = Wire.PLAIN.value
    air: str = AIR.name

    @classmethod
    def of(cls, parameters: Parameters, *, wire: Wire = Wire.PLAIN) -> "ParametersPart":
        return cls(
            name=parameters.name,
            conjectured_bits=parameters.conjectured_bits,
            proven_bits=parameters.proven_bits,
            wire=wire.value,
        )


class ChainPart(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sender says that the batch was confirmed."""

    slot: Count
    transaction: str


class WorkPart(msgspec.Struct, frozen=True, kw_only=True):
    """Who made the proof, and at what cost."""

    worker: str
    backend: str
    attempts: Count
    prove_ms: Annotated[float, msgspec.Meta(ge=0)]
    permutations: Count


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A whole receipt; `msgspec.json.encode` gives its JSON."""

    operation: str
    statement: StatementPart
    batch: BatchPart
    proof: bytes
    parameters: ParametersPart
    mock: bool
    version: int = VERSION
    chain: ChainPart | None = None
    work: WorkPart | None = None


class Check(StrEnum):
    """What reading a receipt can settle, and what it cannot."""

    STATEMENT = "public digest, statement and binding follow from task, agent, parents and digests"
    INDEX = "the statement stands at its index in the batch"
    ROOT = "root and number are those of the batch's statements"
    PROOF = "the proof verifies: its maker knew an output that hashes to C and the secret behind K"
    KEY_REGISTERED = "that K is registered for this agent"
    PARENTS_CONFIRMED = "that the parents are confirmed"
    OUTPUT_CORRECT = "that the output was computed correctly"
    CHAIN_CONFIRMED = "that the chain confirmed the batch"


CHECKED = (Check.STATEMENT, Check.INDEX, Check.ROOT, Check.PROOF)
NOT_CHECKED = (
    Check.KEY_REGISTERED,
    Check.PARENTS_CONFIRMED,
    Check.OUTPUT_CORRECT,
    Check.CHAIN_CONFIRMED,
)


@dataclass(frozen=True, kw_only=True)
class ReceiptReport:
    """What a verified receipt says. Digests are hex; `claimed_chain` is the sender's word."""

    operation: str
    domain: str
    task_id: str
    agent_id: str
    agent_key: str
    constraint_hash: str
    output_commitment: str
    nullifier: str
    parents: tuple[str, ...]
    root: str
    n: int
    index: int
    parameters: Parameters
    claimed_chain: ChainPart | None
    checked: tuple[Check, ...] = CHECKED
    not_checked: tuple[Check, ...] = NOT_CHECKED


def parse_receipt(receipt: bytes | Mapping[str, Any]) -> Receipt:
    """The receipt in JSON bytes or in an already decoded object.

    Raises:
        ReceiptError: `malformed` or `version`.
    """
    try:
        if isinstance(receipt, bytes):
            if len(receipt) > MAX_RECEIPT_BYTES:
                raise ReceiptError(Problem.MALFORMED, f"more than {MAX_RECEIPT_BYTES} bytes")
            parsed = msgspec.json.decode(receipt, type=Receipt)
        else:
            parsed = msgspec.convert(receipt, type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReceiptError(Problem.MALFORMED, str(error)) from error
    if parsed.version != VERSION:
        raise ReceiptError(Problem.VERSION, f"version {parsed.version} where {VERSION} is known")
    return parsed


def verify_receipt(
    receipt: bytes | Mapping[str, Any],
    *,
    accepted_parameters: Set[str] = PRODUCTION_NAMES,
    backend: Backend | None = None,
) -> ReceiptReport:
    """Checks all of a receipt that can be checked offline.

    `accepted_parameters` are the names of the parameter sets that count as proof here: `testing` does only
    for tests and the simulator.

    Raises:
        ReceiptError: the receipt is refused.
    """
    parsed = parse_receipt(receipt)
    if parsed.mock:
        raise ReceiptError(Problem.MOCK, "a mock proof proves nothing")
    parameters, wire = _known_parameters(parsed.parameters, accepted_parameters)
    _check_statement(parsed.statement)
    statements = _check_batch(parsed.batch, parsed.statement)
    try:
        verify_batch_proof(parsed.proof, statements, parameters=parameters, wire=wire, backend=backend)
    except VerificationError as error:
        raise ReceiptError(Problem.PROOF, str(error)) from error
    statement, batch = parsed.statement, parsed.batch
    return ReceiptReport(
        operation=parsed.operation,
        domain=statement.domain,
        task_id=statement.task_id,
        agent_id=statement.agent_id,
        agent_key=statement.agent_key,
        constraint_hash=statement.constraint_hash,
        output_commitment=statement.output_commitment,
        nullifier=statement.nullifier,
        parents=tuple(statement.parents),
        root=batch.root,
        n=batch.n,
        index=batch.index,
        parameters=parameters,
        claimed_chain=parsed.chain,
    )


def with_wire(receipt: Receipt, wire: Wire, *, backend: Backend | None = None) -> Receipt:
    """The same receipt with its proof in that encoding; only a receipt that verifies gives one that does.

    Raises:
        ReceiptError: the proof or its parameters are not ones of this program.
    """
    parameters, source = _known_parameters(receipt.parameters, {receipt.parameters.name})
    statements = [bytes.fromhex(digest) for digest in receipt.batch.statements]
    try:
        proof = convert_batch_proof(
            receipt.proof, statements, parameters=parameters, source=source, target=wire, backend=backend
        )
    except (VerificationError, WitnessError) as error:
        raise ReceiptError(Problem.PROOF, str(error)) from error
    part = ParametersPart.of(parameters, wire=wire)
    return msgspec.structs.replace(receipt, proof=proof, parameters=part)


def _known_parameters(claimed: ParametersPart, accepted: Set[str]) -> tuple[Parameters, Wire]:
    try:
        parameters = by_name(claimed.name)
    except UnknownParametersError as error:
        raise ReceiptError(Problem.PARAMETERS, str(error)) from error
    if parameters.name not in accepted:
        raise ReceiptError(Problem.PARAMETERS, f"parameter set {parameters.name!r} is not accepted here")
    if claimed.wire not in set(Wire):
        raise ReceiptError(Problem.PARAMETERS, f"no encoding of proofs is called {claimed.wire!r} here")
    wire = Wire(claimed.wire)
    if claimed != ParametersPart.of(parameters, wire=wire):
        raise ReceiptError(Problem.PARAMETERS, f"the receipt misstates the parameter set {parameters.name!r}")
    return parameters, wire


def _check_statement(part: StatementPart) -> None:
    """P, S and binding are those of the statement's parts. The operation's id is not bound by anything."""
    try:
        public = public_digest(
            part.domain.encode(),
            part.task_id.encode(),
            part.agent_id.encode(),
            [bytes.fromhex(parent) for parent in part.parents],
        )
        output = bytes.fromhex(part.output_commitment)
        statement = statement_digest(
            public_digest=public,
            nullifier=bytes.fromhex(part.nullifier),
            agent_key=bytes.fromhex(part.agent_key),
            constraint_hash=bytes.fromhex(part.constraint_hash),
            output_commitment=output,
        )
        binding = binding_digest(public_digest=public, output_commitment=output)
    except (WitnessError, UnicodeEncodeError) as error:
        raise ReceiptError(Problem.MALFORMED, str(error)) from error
    for name, computed, claimed in (
        ("public_digest", public, part.public_digest),
        ("statement", statement, part.statement),
        ("binding", binding, part.binding),
    ):
        if computed.hex() != claimed:
            raise ReceiptError(Problem.STATEMENT, f"{name} is not what the statement's parts give")


def _check_batch(batch: BatchPart, statement: StatementPart) -> list[bytes]:
    statements = [bytes.fromhex(digest) for digest in batch.statements]
    if not all(map(is_digest, statements)):
        raise ReceiptError(Problem.MALFORMED, "an entry of batch.statements has no canonical elements")
    if batch.n != len(statements):
        raise ReceiptError(Problem.BATCH, f"n is {batch.n}, there are {len(statements)} statements")
    if batch.index >= batch.n or batch.statements[batch.index] != statement.statement:
        raise ReceiptError(Problem.BATCH, f"the statement does not stand at index {batch.index}")
    if batch_root(statements).hex() != batch.root:
        raise ReceiptError(Problem.BATCH, "root is not that of the statements")
    return statements
