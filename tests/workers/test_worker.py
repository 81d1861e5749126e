"""The worker without Ray around it: a batch in, a proof or a typed reason out."""

import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.batch_proof import verify_batch_proof
from workers.messages import (
    FAILURE_TYPES,
    BatchRequest,
    BatchResult,
    ProofTimeout,
    ProverError,
    ProverErrorCode,
    StartError,
    StartErrorCode,
    WorkerLost,
    WorkerReady,
)
from workers.stark.parameters import PROVEN_100, TESTING
from workers.statement import OperationWitness, WitnessError, batch_root, compute_statements
from workers.worker import ProofWorker, as_prover_error


def request(
    count: int, *, batch_id: str = "batch", parameters: str = "testing", seed: int | None = None
) -> BatchRequest:
    operations = tuple(
        OperationWitness(
            task_id=b"task-%d" % place,
            agent_id=b"agent",
            output=b"x" * place,
            salt=b"s" * 24,
            secret=b"k" * 24,
        )
        for place in range(count)
    )
    return BatchRequest(
        batch_id=batch_id,
        domain=b"local:test",
        operations=operations,
        parameters=parameters,
        blind_seed=seed,
    )


def make(generator: str = "stark", backend: str = "cpu") -> ProofWorker:
    return ProofWorker(worker_id="w-1", generator=generator, backend=backend, kernel_threads=1)


@pytest.fixture(scope="module")
def worker() -> ProofWorker:
    """A warm worker; shared, since warming loads every kernel."""
    made = make()
    ready = made.prepare()
    assert isinstance(ready, WorkerReady)
    assert ready.backend == "cpu"
    assert ready.startup_s > 0
    return made


def test_a_batch_is_proved(worker: ProofWorker) -> None:
    asked = request(3)
    result = worker.prove(asked)
    assert isinstance(result, BatchResult)
    statements = tuple(s.statement for s in compute_statements(asked.domain, asked.operations))
    assert result.statements == statements
    assert result.root == batch_root(statements)
    assert result.rows == 1 << result.log_rows
    assert 0 < result.permutations < result.rows
    assert not result.mock
    assert {"trace", "lde", "merkle", "quotient", "fri"} <= result.phases.keys()
    verify_batch_proof(result.proof, result.statements, parameters=TESTING)


def test_a_seed_fixes_the_bytes_and_none_does_not(worker: ProofWorker) -> None:
    def proof(seed: int | None) -> bytes:
        result = worker.prove(request(1, seed=seed))
        assert isinstance(result, BatchResult)
        return result.proof

    assert proof(7) == proof(7)
    assert proof(None) != proof(None)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(0), ProverErrorCode.TOO_LARGE),
        (request(1, parameters="fast"), ProverErrorCode.UNKNOWN_PARAMETERS),
        (
            BatchRequest(batch_id="b", domain=b"", operations=request(1).operations, parameters="testing"),
            "invalid_witness",
        ),
    ],
)
def test_a_failure_comes_back_as_a_value(worker: ProofWorker, asked: BatchRequest, code: str) -> None:
    failures = worker.status().failures
    outcome = worker.prove(asked)
    assert isinstance(outcome, ProverError)
    assert outcome.code == code
    assert worker.status().failures == failures + 1
    assert worker.status().last_error == str(outcome)
    assert isinstance(worker.prove(request(1)), BatchResult), "the worker goes on"


def test_a_height_that_the_parameters_do_not_admit_is_refused_before_the_work(worker: ProofWorker) -> None:
    small = worker.prove(request(1, parameters="proven-100"))
    assert isinstance(small, BatchResult)
    verify_batch_proof(small.proof, small.statements, parameters=PROVEN_100)
    tall = worker.prove(request(1000, parameters="proven-100"))
    assert isinstance(tall, ProverError)
    assert tall.code is ProverErrorCode.TOO_LARGE
    assert "proven-100" in tall.detail


def test_status_answers_and_cancel_stops_while_a_batch_is_proved(worker: ProofWorker) -> None:
    outcomes: list[object] = []
    thread = threading.Thread(target=lambda: outcomes.append(worker.prove(request(2000, batch_id="long"))))
    thread.start()
    while (status := worker.status()).batch_id is None and not outcomes:
        pass
    assert status.batch_id == "long"
    assert status.busy_s is not None
    worker.cancel("another")
    worker.cancel("long")
    thread.join()
    (outcome,) = outcomes
    assert isinstance(outcome, ProverError)
    assert outcome.code is ProverErrorCode.CANCELLED
    assert worker.status().batch_id is None
    assert isinstance(worker.prove(request(1, batch_id="long")), BatchResult), (
        "a cancellation is for one proof"
    )


@pytest.mark.parametrize(("generator", "backend"), [("lottery", "cpu"), ("stark", "abacus")])
def test_what_cannot_start_says_so(generator: str, backend: str) -> None:
    outcome = make(generator, backend).prepare()
    assert isinstance(outcome, StartError)
    assert outcome.code is StartErrorCode.WORKER_FAILED
    assert "lottery" in str(outcome) or "abacus" in str(outcome)


def test_memory_and_defects_have_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_prover_error(MemoryError("no room")).code is ProverErrorCode.OUT_OF_MEMORY
    assert as_prover_error(WitnessError("salt", "short")).code is ProverErrorCode.INVALID_WITNESS
    defect = as_prover_error(ZeroDivisionError("oops"))
    assert defect.code is ProverErrorCode.INTERNAL
    assert "ZeroDivisionError: oops" in defect.detail
    assert "ZeroDivisionError" in capsys.readouterr().err, "the stack is in the worker's log"


class _UnpicklableError(Exception):
    def __reduce__(self) -> str:
        raise TypeError("never")


def test_an_exception_that_does_not_pickle_still_arrives() -> None:
    error = as_prover_error(_UnpicklableError("from the prover"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert "from the prover" in str(again)


@given(code=st.sampled_from(ProverErrorCode), detail=st.text(), index=st.none() | st.integers(0, 4095))
def test_every_error_survives_the_way_back(code: ProverErrorCode, detail: str, index: int | None) -> None:
    for error in (
        ProverError(code, detail, index),
        WorkerLost("w-1", detail),
        ProofTimeout("w-1", 1.5),
        StartError(StartErrorCode.PORT_TAKEN, detail),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert isinstance(error, StartError) or error.error_type in FAILURE_TYPES
