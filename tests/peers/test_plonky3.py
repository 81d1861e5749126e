"""Plonky3 as judge: its own verifier takes our proofs of both AIRs, and ours takes Plonky3's.

The operation AIR stands in the peer a second time, written in Rust from its documentation.
"""

from pathlib import Path

import numpy as np
import pytest

from bench import plonky3
from coordinator.cli.shapes import benchmark_trace
from kernels.backend import Backend, select
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import operation_trace
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.errors import VerificationError
from workers.stark.parameters import STANDARD, TESTING, Parameters
from workers.stark.prover import prove
from workers.stark.verifier import verify
from workers.statement import OperationWitness

pytestmark = pytest.mark.timeout(1_500)  # the first run builds the peer

#: Bytes of every part of a proof stand within these shares of it: caps, openings, queries, the final polynomial.
_SAMPLED_CHANGES = 60


@pytest.fixture(scope="module")
def peer() -> None:
    try:
        plonky3.binary()
    except plonky3.PeerUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def backend() -> Backend:
    return select("cpu", threads=1)


def _poseidon2_proof(
    backend: Backend, *, seed: int, log_rows: int, per_row: int, parameters: Parameters = STANDARD
) -> bytes:
    air = Poseidon2Air(per_row=per_row)
    trace = benchmark_trace(air, seed=seed, log_rows=log_rows, backend=backend)
    return prove(air, trace, [], parameters, backend).proof


def _batch(seed: int, sizes: list[int]) -> tuple[OperationWitness, ...]:
    """A chain of operations, each building on the one before, with outputs of the given sizes."""
    random = np.random.default_rng(seed)
    parents: tuple[bytes, ...] = ()
    batch = []
    for at, size in enumerate(sizes):
        batch.append(
            OperationWitness(
                task_id=b"task-%d" % at,
                agent_id=b"agent-%d" % (at % 3),
                output=random.bytes(size),
                salt=random.bytes(24),
                secret=random.bytes(24),
                parents=parents,
            )
        )
        parents = (random.integers(0, 2**24, 8, dtype="<u4").tobytes(),)
    return tuple(batch)


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize(
    ("per_row", "shapes"), [(1, [(1, 4), (7, 6), (99, 8), (5, 11)]), (8, [(2, 4), (3, 7)])]
)
def test_plonky3_accepts_our_proofs_of_the_poseidon2_air(
    tmp_path: Path, backend: Backend, per_row: int, shapes: list[tuple[int, int]]
) -> None:
    files = []
    for seed, log_rows in shapes:
        files.append(tmp_path / f"{seed}-{log_rows}.proof")
        files[-1].write_bytes(_poseidon2_proof(backend, seed=seed, log_rows=log_rows, per_row=per_row))
    verdicts = plonky3.verify_poseidon2(files, parameters="standard", per_row=per_row)
    assert [verdict.detail for verdict in verdicts if not verdict.accepted] == []
    assert len(verdicts) == len(shapes)


@pytest.mark.usefixtures("peer")
def test_plonky3_accepts_our_proofs_of_the_operation_air(tmp_path: Path, backend: Backend) -> None:
    cases: list[tuple[Path, list[int]]] = []
    for seed, sizes in enumerate([[0], [1, 2, 3], [64] * 20, [1000, 7, 23, 24, 25]]):
        built = operation_trace(b"local:0123456789abcdef", _batch(seed, sizes), backend=backend)
        proof = prove(OperationAir(), built.trace, built.public_values, STANDARD, backend).proof
        file = tmp_path / f"{seed}.proof"
        file.write_bytes(proof)
        cases.append((file, list(built.public_values)))
    verdicts = plonky3.verify_operation(cases, parameters="standard")
    assert [verdict.detail for verdict in verdicts if not verdict.accepted] == []
    wrong = [(file, [*public[:8], public[8] + 1]) for file, public in cases]
    assert not any(verdict.accepted for verdict in plonky3.verify_operation(wrong, parameters="standard"))


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("per_row", [1, 8])
def test_we_accept_plonky3s_proofs_and_make_the_same_bytes(
    tmp_path: Path, backend: Backend, per_row: int
) -> None:
    for seed, log_rows in [(11, 5), (12, 9)]:
        file = tmp_path / "peer.proof"
        plonky3.prove_poseidon2(
            parameters="standard", seed=seed, log_rows=log_rows, per_row=per_row, threads=1, out=file
        )
        theirs = file.read_bytes()
        verify(Poseidon2Air(per_row=per_row), theirs, [], log_rows=log_rows, parameters=STANDARD)
        assert theirs == _poseidon2_proof(backend, seed=seed, log_rows=log_rows, per_row=per_row)


@pytest.mark.usefixtures("peer")
def test_both_refuse_changed_proofs(tmp_path: Path, backend: Backend) -> None:
    """One byte changed anywhere. What we accept is a subset of what Plonky3 accepts: it does not look at the unused
    witnesses of commit grinding, and a longer varint of the same value decodes for it.
    """
    proof = _poseidon2_proof(backend, seed=3, log_rows=5, per_row=1, parameters=TESTING)
    random = np.random.default_rng(4)
    files = []
    for at in random.integers(0, len(proof), _SAMPLED_CHANGES):
        changed = bytearray(proof)
        changed[at] ^= 1 << random.integers(0, 8)
        files.append(tmp_path / f"{len(files)}.proof")
        files[-1].write_bytes(changed)
        with pytest.raises(VerificationError):
            verify(Poseidon2Air(per_row=1), bytes(changed), [], log_rows=5, parameters=TESTING)
    verdicts = plonky3.verify_poseidon2(files, parameters="testing", per_row=1)
    assert sum(verdict.accepted for verdict in verdicts) <= 2
    assert len(verdicts) == _SAMPLED_CHANGES
