"""Whole proofs through the CUDA backend, on the emulated device or a GPU: the same bytes, and little that crosses."""

import gc
from pathlib import Path

import numpy as np
import pytest

from kernels.backend import select
from kernels.cuda.backend import CudaBackend
from kernels.cuda.errors import DeviceMemoryError
from kernels.cuda.matrix import Matrix
from kernels.field import U32, P, to_monty
from tests.kernels.cuda.emulated import EmulatedDevice, device_under_test
from tests.workers.fib_air import FibAir, fib_trace
from workers.airs.blinding import SeededBlinding, splitmix64
from workers.airs.operation import WIDTH
from workers.airs.operation_trace import operation_trace
from workers.airs.poseidon2 import COLUMNS, Poseidon2Air
from workers.batch_proof import AIR
from workers.messages import ProverErrorCode
from workers.stark.air import symbolic_program
from workers.stark.parameters import STANDARD, TESTING
from workers.stark.prover import prove
from workers.statement import OperationWitness
from workers.worker import as_prover_error

pytestmark = [pytest.mark.xdist_group("cuda"), pytest.mark.timeout(600)]

CPU = select("cpu", 1)
CUDA = CudaBackend(device_under_test(), threads=1)


def poseidon2_trace(*, per_row: int, log_rows: int) -> U32:
    count = per_row << log_rows
    inputs = to_monty(splitmix64(1, 16 * count) % np.uint64(P)).reshape(count, 16)
    trace = CPU.permutation_trace(inputs, out=np.empty((count, COLUMNS), np.uint32))
    return trace.reshape(1 << log_rows, COLUMNS * per_row)


@pytest.mark.vectors
@pytest.mark.parametrize(("per_row", "log_rows"), [(1, 6), (8, 6), (1, 10)])
def test_poseidon2_proofs_are_plonky3s_byte_for_byte(vectors_dir: Path, per_row: int, log_rows: int) -> None:
    trace = poseidon2_trace(per_row=per_row, log_rows=log_rows)
    outcome = prove(Poseidon2Air(per_row), trace, [], STANDARD, CUDA)
    assert outcome.proof == (vectors_dir / f"seed1_v{per_row}_h{log_rows}.proof").read_bytes()


@pytest.mark.parametrize("log_rows", [4, 5, 7])
def test_a_proof_with_next_row_public_values_and_selectors(log_rows: int) -> None:
    trace, public_values = fib_trace(3, 2_000_000_000, log_rows=log_rows)
    proofs = [
        prove(FibAir(), to_monty(trace), public_values, TESTING, backend).proof for backend in (CPU, CUDA)
    ]
    assert proofs[0] == proofs[1]


def operations(count: int) -> list[OperationWitness]:
    return [
        OperationWitness(
            task_id=b"task%d" % i,
            agent_id=b"agent",
            output=bytes([i]) * i,
            salt=bytes(24),
            secret=bytes([i]) * 24,
        )
        for i in range(count)
    ]


def test_an_operation_batch_is_proved_from_its_witnesses() -> None:
    proofs = []
    for backend in (CPU, CUDA):
        batch = operation_trace(b"test", operations(5), blinding=SeededBlinding(1), backend=backend)
        outcome = prove(AIR, batch.trace, batch.public_values, TESTING, backend, memory=batch.memory)
        proofs.append(outcome.proof)
    assert proofs[0] == proofs[1]


def test_witnesses_go_up_once_and_the_proof_comes_down_once() -> None:
    """The trace is made on the device: up go the sponges' inputs, the padding and the registers, a fifth of it; down
    come digests, the few rows that registers are copied from, and the proof's parts."""
    device = EmulatedDevice()
    backend = CudaBackend(device, threads=1)
    batch = operation_trace(b"test", operations(40), blinding=SeededBlinding(1), backend=backend)
    cells = batch.trace.size
    assert isinstance(batch.trace, Matrix)
    assert device.uploaded < cells // 4
    assert device.downloaded < cells // 16
    prove(
        AIR, batch.trace, batch.public_values, TESTING, backend
    )  # tables and the AIR's program go up once for all
    device.uploaded = device.downloaded = 0
    outcome = prove(AIR, batch.trace, batch.public_values, TESTING, backend)
    assert device.uploaded < 20 * WIDTH, (
        "challenges and their powers, as many as there are columns and constraints"
    )
    assert device.downloaded < len(outcome.proof), "caps, opened values, rows and paths"


def test_between_trace_and_proof_only_caps_openings_and_challenges_cross() -> None:
    device = EmulatedDevice()
    backend = CudaBackend(device, threads=1)
    trace = backend.upload(poseidon2_trace(per_row=1, log_rows=10))
    prove(Poseidon2Air(), poseidon2_trace(per_row=1, log_rows=10), [], TESTING, backend)
    device.uploaded = device.downloaded = 0
    lde = backend.coset_lde(trace, log_blowup=1)
    tree = backend.merkle_tree([lde])
    cap = tree.cap(3)
    chunks = backend.quotient(
        symbolic_program(Poseidon2Air()), lde, log_rows=10, public_values=[], alpha=(1, 2, 3, 4)
    )
    opened = backend.open_columns(trace, point=(5, 6, 7, 8))
    assert device.downloaded == cap.size + opened.size
    assert device.uploaded < trace.rows, "constants and challenges, nothing as tall as the trace"
    assert [chunk.shape for chunk in chunks] == [(1024, 4)] * 2


def test_a_batch_that_does_not_fit_is_a_typed_error_and_a_smaller_one_still_runs() -> None:
    limit = 6 * COLUMNS << 6  # words: 2^6 rows, their extension, and the rest; of 2^7 rows only the first two
    backend = CudaBackend(EmulatedDevice(limit_words=limit), threads=1)
    with pytest.raises(DeviceMemoryError, match="split") as caught:
        prove(Poseidon2Air(), poseidon2_trace(per_row=1, log_rows=7), [], TESTING, backend)
    assert as_prover_error(caught.value).code is ProverErrorCode.OUT_OF_MEMORY
    del caught  # its traceback holds what the proof had allocated
    gc.collect()
    trace = poseidon2_trace(per_row=1, log_rows=6)
    assert prove(Poseidon2Air(), trace, [], TESTING, backend).proof == (
        prove(Poseidon2Air(), trace, [], TESTING, CPU).proof
    )


@pytest.mark.parametrize("per_row", [1, 8])
def test_a_trace_made_on_the_device_is_proved(per_row: int) -> None:
    inputs = to_monty(splitmix64(1, 16 * per_row << 4) % np.uint64(P)).reshape(-1, 16)
    trace, _ = CUDA.new_trace(1 << 4, COLUMNS * per_row, log_blowup=1)
    CUDA.permutation_trace(inputs, out=trace)
    air = Poseidon2Air(per_row)
    expected = prove(air, poseidon2_trace(per_row=per_row, log_rows=4), [], TESTING, CPU).proof
    assert prove(air, trace, [], TESTING, CUDA).proof == expected
