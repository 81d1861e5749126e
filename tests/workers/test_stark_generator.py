"""Where a device's memory is short: several operations are the caller's to split, one alone is proved on the CPU."""

import pytest

from kernels.backend import Selection
from kernels.cuda.backend import CudaBackend
from kernels.cuda.errors import DeviceMemoryError
from tests.kernels.cuda.emulated import EmulatedDevice
from workers import stark_generator
from workers.batch_proof import verify_batch_proof
from workers.messages import BatchRequest, ProverErrorCode
from workers.stark.parameters import TESTING
from workers.stark_generator import StarkGenerator
from workers.statement import OperationWitness
from workers.worker import as_prover_error


def request(count: int) -> BatchRequest:
    operations = tuple(
        OperationWitness(
            task_id=b"task-%d" % place, agent_id=b"agent", output=b"", salt=bytes(24), secret=bytes(24)
        )
        for place in range(count)
    )
    return BatchRequest(batch_id="b", domain=b"test", operations=operations, parameters=TESTING.name)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> StarkGenerator:
    backend = CudaBackend(EmulatedDevice(limit_words=1_000), threads=1)
    monkeypatch.setattr(stark_generator, "choose", lambda name, threads: Selection(backend, "for a test"))
    return StarkGenerator("cuda", 1)


def test_one_operation_that_a_device_cannot_hold_is_proved_on_the_cpu(generator: StarkGenerator) -> None:
    result = generator.prove(request(1), lambda: None)
    assert (generator.name, result.backend) == ("cuda", "cpu")
    verify_batch_proof(result.proof, result.statements, parameters=TESTING)


def test_several_are_given_back_to_be_split(generator: StarkGenerator) -> None:
    with pytest.raises(DeviceMemoryError) as caught:
        generator.prove(request(2), lambda: None)
    assert as_prover_error(caught.value).code is ProverErrorCode.OUT_OF_MEMORY
