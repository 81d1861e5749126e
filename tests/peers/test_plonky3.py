"""Plonky3 as judge: its own verifier takes our proofs of both AIRs, and ours takes Plonky3's.

The operation AIR stands in the peer a second time, written in Rust from its documentation.
"""

from pathlib import Path

import pytest

from bench import plonky3
from kernels.backend import Backend, select
from tests.peers.proofs import operation_proof, poseidon2_proof
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.parameters import PROVEN_100, STANDARD
from workers.stark.verifier import verify

pytestmark = pytest.mark.timeout(1_500)  # the first run builds the peer


@pytest.fixture(scope="module")
def backend() -> Backend:
    return select("cpu", threads=1)


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
        files[-1].write_bytes(poseidon2_proof(backend, seed=seed, log_rows=log_rows, per_row=per_row))
    verdicts = plonky3.verify_poseidon2(files, parameters="standard", per_row=per_row)
    assert [verdict.detail for verdict in verdicts if not verdict.accepted] == []
    assert len(verdicts) == len(shapes)


@pytest.mark.usefixtures("peer")
def test_plonky3_accepts_our_proofs_of_the_operation_air(tmp_path: Path, backend: Backend) -> None:
    cases: list[tuple[Path, list[int]]] = []
    for seed, sizes in enumerate([[0], [1, 2, 3], [64] * 20, [1000, 7, 23, 24, 25]]):
        proof, public_values = operation_proof(backend, seed=seed, sizes=sizes)
        file = tmp_path / f"{seed}.proof"
        file.write_bytes(proof)
        cases.append((file, list(public_values)))
    verdicts = plonky3.verify_operation(cases, parameters="standard")
    assert [verdict.detail for verdict in verdicts if not verdict.accepted] == []
    wrong = [(file, [*public[:8], public[8] + 1]) for file, public in cases]
    assert not any(verdict.accepted for verdict in plonky3.verify_operation(wrong, parameters="standard"))


@pytest.mark.usefixtures("peer")
def test_plonky3_accepts_our_proofs_of_a_hundred_proven_bits(backend: Backend) -> None:
    cases = [operation_proof(backend, seed=5, sizes=[31, 0], parameters=PROVEN_100)]
    assert all(v.accepted for v in plonky3.verify_stream(cases, air="operation", parameters="proven-100"))
    assert not any(v.accepted for v in plonky3.verify_stream(cases, air="operation", parameters="standard"))


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
        assert theirs == poseidon2_proof(backend, seed=seed, log_rows=log_rows, per_row=per_row)
