"""What a reader of a proof learns by linear algebra: every secret if padding is constant, none if it is
random.

A column is a polynomial of degree below the number of rows N, so each value that a proof opens of it is one
linear equation in its N cells: f(x) = Σ_i cell_i · L_i(x). A proof opens each column at about 100 query
points, and at ζ and ζ·h, which give four equations each. Most cells follow from public digests. The attack
solves for the rest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.field import (
    EXT_ONE,
    GENERATOR,
    U32,
    Ext,
    P,
    ext_inverse,
    ext_mul,
    ext_power,
    ext_scale,
    ext_sub,
    from_monty,
    to_monty,
    two_adic_generator,
)
from workers.airs.blinding import BlindingSource, SystemBlinding
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import OperationTrace, operation_trace, rows_for
from workers.encoding import digest_integers, group_words
from workers.hashing import default_backend
from workers.stark.air import symbolic_program
from workers.stark.parameters import STANDARD
from workers.stark.proof import Proof, decode
from workers.stark.prover import prove
from workers.stark.transcript import Transcript
from workers.stark.vector import bit_reversed_points
from workers.stark.verifier import verify
from workers.statement import OperationWitness, Statement

I64 = npt.NDArray[np.int64]
DOMAIN = b"local:a4d268680017c0cf"
AGENTS = 8
OPERATIONS = 32
OPERATION_ROWS = 12
COLUMNS = range(8)
"""The rate, which secrets and salts pass through."""


class ConstantBlinding:
    """No blinding at all: what a careless prover would put there."""

    def elements(self, count: int) -> U32:
        return to_monty(np.zeros(count, dtype=np.int64))


def batch_of_32(blinding: BlindingSource) -> tuple[list[OperationWitness], OperationTrace]:
    """32 operations of 8 agents, 1,024 rows."""
    rng = np.random.default_rng(17)
    secrets = [rng.bytes(24) for _ in range(AGENTS)]
    witnesses = [
        OperationWitness(
            task_id=b"task-%d" % number,
            agent_id=b"agent-%d" % (number % AGENTS),
            output=rng.bytes(12),
            salt=rng.bytes(24),
            secret=secrets[number % AGENTS],
        )
        for number in range(OPERATIONS)
    ]
    assert all(rows_for(len(witness.output)) == OPERATION_ROWS for witness in witnesses)
    return witnesses, operation_trace(DOMAIN, witnesses, blinding=blinding)


@dataclass(frozen=True)
class Openings:
    """Where a proof opens its trace, as its verifier recomputes it, and the values: `rows` [q, 192] at base
    points, `local` and `following` [192, 4] at ζ and ζ·h."""

    points: list[int]
    zeta: Ext
    rows: I64
    local: I64
    following: I64


def read_openings(data: bytes, public_values: list[int]) -> Openings:
    program = symbolic_program(OperationAir())
    proof = decode(data, program=program, log_rows=10, parameters=STANDARD)
    zeta, indices = replay(proof, public_values)
    points = bit_reversed_points(np.array(indices), first_order=1) * np.uint64(GENERATOR) % np.uint64(P)
    assert proof.opened.next is not None
    return Openings(
        points=[int(point) for point in points],
        zeta=zeta,
        rows=from_monty(proof.fri.trace.rows).astype(np.int64),
        local=from_monty(proof.opened.local).astype(np.int64),
        following=from_monty(proof.opened.next).astype(np.int64),
    )


def replay(proof: Proof, public_values: list[int]) -> tuple[Ext, list[int]]:
    """ζ and the query indices, from the transcript: anyone can."""
    transcript = Transcript(default_backend())
    for value in (10, 10, 0):
        transcript.observe(value)
    transcript.observe_array(proof.trace_cap)
    transcript.observe_array(to_monty(np.array(public_values)))
    transcript.sample_ext()
    transcript.observe_array(proof.quotient_cap)
    zeta = transcript.sample_ext()
    assert proof.opened.next is not None
    for values in (proof.opened.local, proof.opened.next, proof.opened.chunks):
        transcript.observe_array(values)
    transcript.sample_ext()
    for cap in proof.fri.caps:
        transcript.observe_array(cap)
        transcript.sample_ext()
    transcript.observe_array(proof.fri.final_polynomial)
    for log_arity in STANDARD.log_arities(10):
        transcript.observe(log_arity)
    assert transcript.check_witness(16, proof.fri.query_pow_witness)
    return zeta, [transcript.sample_bits(11) for _ in range(100)]


def lagrange(point: Ext, rows: int) -> I64:
    """L_i(x) = (x^N - 1)/N · h^i/(x - h^i) for every row i, [rows, 4]."""
    step = two_adic_generator(rows.bit_length() - 1)
    front = ext_scale(pow(rows, -1, P), ext_sub(ext_power(point, rows), EXT_ONE))
    values = []
    root = 1
    for _ in range(rows):
        inverse = ext_inverse(ext_sub(point, (root, 0, 0, 0)))
        values.append(ext_mul(front, ext_scale(root, inverse)))
        root = root * step % P
    return np.array(values, dtype=np.int64)


def equations(openings: Openings, rows: int) -> tuple[I64, I64]:
    """Coefficients [e, rows] of the cells of a column, and what they sum to in each of `COLUMNS`, [e, 8]."""
    step = two_adic_generator(rows.bit_length() - 1)
    zeta = openings.zeta
    following = ext_scale(step, zeta)
    distinct = {point: query for query, point in enumerate(openings.points)}
    coefficients = [lagrange((point, 0, 0, 0), rows)[:, 0] for point in distinct]
    sums = [openings.rows[query, : len(COLUMNS)] for query in distinct.values()]
    for point, values in ((zeta, openings.local), (following, openings.following)):
        weights = lagrange(point, rows)
        coefficients += list(weights.T)
        sums += list(values[: len(COLUMNS)].T)
    return np.array(coefficients), np.array(sums)


def known_cells(statements: tuple[Statement, ...], rows: int) -> I64:
    """The rate of all rows that public digests fix, [rows, 8]; the others are zero here."""
    known = np.zeros((rows, len(COLUMNS)), dtype=np.int64)
    for number, statement in enumerate(statements):
        for row, digest in {
            0: statement.public_digest,
            1: statement.public_digest,
            3: statement.nullifier,
            5: statement.agent_key,
            7: statement.constraint_hash,
            8: statement.constraint_hash,
            10: statement.output_commitment,
            11: statement.statement,
        }.items():
            known[OPERATION_ROWS * number + row] = digest_integers(digest)
    return known


def unknown_cells() -> list[list[int]]:
    """The rows that share one unknown cell, secrets first: an agent's secret stands in N2 and K of each of
    its operations, which its public key shows to be its own; then the output's one block and the salt of
    each."""
    starts = [OPERATION_ROWS * number for number in range(OPERATIONS)]
    secrets = [[start + row for start in starts[agent::AGENTS] for row in (2, 4)] for agent in range(AGENTS)]
    return secrets + [[start + row] for start in starts for row in (6, 9)]


def reduced(matrix: I64) -> tuple[I64, list[int]]:
    """The reduced row echelon form mod p, and its pivot columns."""
    matrix = matrix % P
    pivots: list[int] = []
    for column in range(matrix.shape[1]):
        row = len(pivots)
        candidates = np.flatnonzero(matrix[row:, column])
        if not candidates.size:
            continue
        pivot = row + int(candidates[0])
        matrix[[row, pivot]] = matrix[[pivot, row]]
        matrix[row] = matrix[row] * pow(int(matrix[row, column]), -1, P) % P
        others = np.arange(len(matrix)) != row
        matrix[others] = (matrix[others] - matrix[others, column][:, np.newaxis] * matrix[row]) % P
        pivots.append(column)
        if len(pivots) == len(matrix):
            break
    return matrix, pivots


@dataclass(frozen=True)
class Attack:
    """What the linear system says: the number of unknowns and equations, and the secrets that it
    determines."""

    unknowns: int
    equations: int
    secrets: dict[int, list[int]]


def attack(data: bytes, batch: OperationTrace, *, padding: I64 | None) -> Attack:
    """Solves for the private cells from a proof and what is public of a batch (its digests; nothing else of
    it is used).

    `padding` [n, 8] is the rate of the padding rows, if the reader knows it.
    """
    rows = 1 << batch.log_rows
    coefficients, sums = equations(read_openings(data, batch.public_values), rows)
    known, unknown = known_cells(batch.statements, rows), unknown_cells()
    if padding is None:
        unknown += [[row] for row in range(batch.operation_rows, rows)]
    else:
        known[batch.operation_rows :] = padding
    right = (sums - coefficients.astype(object) @ known.astype(object)) % P
    left = np.stack([coefficients[:, group].sum(axis=1) for group in unknown], axis=1)
    # Last to first: a secret is then among the last to be eliminated, and its row shows whether it is
    # determined.
    echelon, pivots = reduced(np.concatenate((left[:, ::-1], right.astype(np.int64)), axis=1))
    width = len(unknown)
    assert all(pivot < width for pivot in pivots), "the equations contradict each other"
    secrets = {
        width - 1 - pivot: echelon[row, width:].tolist()
        for row, pivot in enumerate(pivots)
        if width - 1 - pivot < AGENTS and not echelon[row, pivot + 1 : width].any()
    }
    return Attack(width, len(coefficients), secrets)


def proof_of(batch: OperationTrace) -> bytes:
    proof = prove(OperationAir(), batch.trace, batch.public_values, STANDARD, default_backend()).proof
    verify(OperationAir(), proof, batch.public_values, parameters=STANDARD, log_rows=10)
    return proof


def secrets_of(witnesses: list[OperationWitness]) -> dict[int, list[int]]:
    return {
        agent: np.frombuffer(group_words(witnesses[agent].secret), dtype="<u4").tolist()
        for agent in range(AGENTS)
    }


def test_with_constant_padding_linear_algebra_gives_every_secret() -> None:
    witnesses, batch = batch_of_32(ConstantBlinding())
    found = attack(proof_of(batch), batch, padding=np.zeros((1, len(COLUMNS)), dtype=np.int64))
    assert found.unknowns == 72 < found.equations
    assert found.secrets == secrets_of(witnesses)


def test_with_random_padding_it_gives_none() -> None:
    witnesses, batch = batch_of_32(SystemBlinding())
    proof = proof_of(batch)
    found = attack(proof, batch, padding=None)
    assert found.unknowns == 72 + 640
    assert found.equations <= 108
    assert found.secrets == {}
    # Told the random cells, the same reader has them all again: it is the randomness that stopped the attack.
    told = from_monty(batch.trace[batch.operation_rows :, : len(COLUMNS)]).astype(np.int64)
    assert attack(proof, batch, padding=told).secrets == secrets_of(witnesses)
