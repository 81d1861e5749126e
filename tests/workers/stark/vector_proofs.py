"""The whole proofs that Plonky3 made, with what each of them proves."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.workers.fib_air import FibAir
from workers.airs.operation import OperationAir
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.air import Air

NAMES = ("seed1_v1_h6", "seed1_v1_h10", "seed1_v8_h6", "fib_h6", "operation_case2", "operation_case3")


@dataclass(frozen=True)
class VectorProof:
    air: Air
    proof: bytes
    public_values: tuple[int, ...]
    log_rows: int


def load_vector_proof(folder: Path, name: str) -> VectorProof:
    proof = (folder / f"{name}.proof").read_bytes()
    if name.startswith("seed1"):
        _, per_row, log_rows = name.split("_")
        return VectorProof(Poseidon2Air(per_row=int(per_row[1:])), proof, (), int(log_rows[1:]))
    if name == "fib_h6":
        known = json.loads((folder / "fib_h6.json").read_text())
        return VectorProof(FibAir(), proof, tuple(known["public_values"]), known["log_rows"])
    entries = json.loads((folder / "operation_vectors.json").read_text())["proofs"]
    known = next(entry for entry in entries if entry["file"] == f"{name}.proof")
    return VectorProof(OperationAir(), proof, tuple(known["public_values"]), known["log_rows"])
