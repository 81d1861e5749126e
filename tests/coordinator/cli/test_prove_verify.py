from pathlib import Path

import pytest

from coordinator.cli.main import invoke

SHAPE = ["--air", "poseidon2", "--log-rows", "6", "--per-row", "1"]


def test_a_benchmark_proof_is_the_known_bytes_and_verifies(
    vectors_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = tmp_path / "p.proof"
    assert invoke(["prove", *SHAPE, "--seed", "1", "--out", str(proof)]) == 0
    assert proof.read_bytes() == (vectors_dir / "seed1_v1_h6.proof").read_bytes()
    assert invoke(["verify", "--raw", *SHAPE, str(proof)]) == 0
    assert "64 Poseidon2 permutations" in capsys.readouterr().out


def test_a_proof_under_another_shape_or_with_a_changed_byte_is_refused(
    vectors_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = (vectors_dir / "seed1_v1_h6.proof").read_bytes()
    proof = tmp_path / "p.proof"
    proof.write_bytes(known)
    other = ["--air", "poseidon2", "--log-rows", "7", "--per-row", "1"]
    assert invoke(["verify", "--raw", *other, str(proof)]) == 1
    proof.write_bytes(known[:500] + bytes([known[500] ^ 1]) + known[501:])
    assert invoke(["verify", "--raw", *SHAPE, str(proof)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("refused") == 2


@pytest.mark.parametrize("case", [2, 3])
def test_a_batch_of_operations_is_the_known_bytes(case: int, vectors_dir: Path, tmp_path: Path) -> None:
    proof = tmp_path / "p.proof"
    arguments = ["prove", "--air", "operation", "--case", f"{vectors_dir}/statements.json:{case}"]
    assert invoke([*arguments, "--blind-seed", "1", "--out", str(proof)]) == 0
    assert proof.read_bytes() == (vectors_dir / f"operation_case{case}.proof").read_bytes()


def test_without_a_seed_no_two_batch_proofs_are_alike(vectors_dir: Path, tmp_path: Path) -> None:
    proofs = [tmp_path / "one.proof", tmp_path / "two.proof"]
    for proof in proofs:
        case = f"{vectors_dir}/statements.json:1"
        assert invoke(["prove", "--air", "operation", "--case", case, "--out", str(proof)]) == 0
    assert proofs[0].read_bytes() != proofs[1].read_bytes()
