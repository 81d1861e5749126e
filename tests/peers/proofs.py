"""Proofs of ours for the peer to judge."""

import numpy as np

from coordinator.cli.shapes import benchmark_trace
from kernels.backend import Backend
from workers.airs.blinding import SeededBlinding
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import operation_trace
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.parameters import STANDARD, Parameters
from workers.stark.prover import prove
from workers.statement import OperationWitness

DOMAIN = b"local:0123456789abcdef"


def poseidon2_proof(
    backend: Backend, *, seed: int, log_rows: int, per_row: int, parameters: Parameters = STANDARD
) -> bytes:
    air = Poseidon2Air(per_row=per_row)
    trace = benchmark_trace(air, seed=seed, log_rows=log_rows, backend=backend)
    return prove(air, trace, [], parameters, backend).proof


def operation_proof(
    backend: Backend, *, seed: int, sizes: list[int], parameters: Parameters = STANDARD
) -> tuple[bytes, tuple[int, ...]]:
    """A batch's proof and its public values; outputs of the given sizes, everything fixed by the seed."""
    batch = operations(seed, sizes)
    built = operation_trace(DOMAIN, batch, blinding=SeededBlinding(seed), backend=backend)
    proof = prove(OperationAir(), built.trace, built.public_values, parameters, backend).proof
    return proof, tuple(built.public_values)


def operations(seed: int, sizes: list[int]) -> tuple[OperationWitness, ...]:
    """A chain of operations, each building on the one before."""
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
