"""The real generator: from a batch's witnesses to its STARK proof, on a backend of this worker's own."""

import time
from collections.abc import Callable

from kernels import build
from kernels.backend import Backend, choose, select
from kernels.cuda.errors import DeviceMemoryError
from workers.airs.blinding import SeededBlinding
from workers.airs.operation_trace import log_rows_for, operation_trace
from workers.batch_proof import AIR
from workers.messages import BatchRequest, BatchResult, ProverError, ProverErrorCode
from workers.stark.air import symbolic_program
from workers.stark.parameters import by_name
from workers.stark.prover import prove
from workers.stark.soundness import admits
from workers.statement import OperationWitness

_WARM_UP = BatchRequest(
    batch_id="warm-up",
    domain=b"warm-up",
    operations=(OperationWitness(task_id=b"t", agent_id=b"a", output=b"", salt=bytes(24), secret=bytes(24)),),
    parameters="standard",
)
"""The smallest batch, 2^9 rows: it runs through every kernel."""


class StarkGenerator:
    """Proves batches on one backend."""

    def __init__(
        self, backend: str, kernel_threads: int, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """
        Raises:
            ValueError: no backend has that name, or its device is not there.
        """
        selection = choose(backend, kernel_threads)
        self._backend = selection.backend
        self._clock = clock
        self.name = selection.backend.name
        warning = build.cache_warning()
        self.reason = selection.reason if warning is None else f"{selection.reason}; {warning}"

    def warm(self) -> None:
        """Load all kernels and prove the smallest batch.

        On a machine where they never were compiled, one worker compiles and the others wait for it.
        """
        if build.cache_state() == "cold":
            build.compile_all()
        self.prove(_WARM_UP, lambda: None)

    def prove(self, request: BatchRequest, checkpoint: Callable[[], None]) -> BatchResult:
        """The batch's proof. A batch that memory does not hold is the caller's to split; an operation alone, which
        cannot be split, is proved on the CPU where a device's memory is too small for it.

        Raises:
            BatchSizeError: too few or too many operations, or rows.
            MemoryError: there is not enough of it for so many operations.
            ProverError: the trace is taller than the parameter set's proven bits allow.
            UnknownParametersError: no set has the request's name.
        """
        try:
            return self._prove(request, checkpoint, self._backend)
        except DeviceMemoryError:
            if len(request.operations) > 1:
                raise
        return self._prove(request, checkpoint, select("cpu", self._backend.threads))

    def _prove(self, request: BatchRequest, checkpoint: Callable[[], None], backend: Backend) -> BatchResult:

        def clock() -> float:
            # The prover reads its clock at every end of a phase, and has no other place to stop at.
            checkpoint()
            return self._clock()

        started = self._clock()
        parameters = by_name(request.parameters)
        log_rows = log_rows_for(len(operation.output) for operation in request.operations)
        if not admits(parameters, program=symbolic_program(AIR), log_rows=log_rows):
            raise ProverError(
                ProverErrorCode.TOO_LARGE, f"{parameters.name} does not admit 2^{log_rows} rows"
            )
        seed = request.blind_seed
        trace = operation_trace(
            request.domain,
            request.operations,
            blinding=None if seed is None else SeededBlinding(seed),
            backend=backend,
        )
        traced = clock()
        outcome = prove(
            AIR, trace.trace, trace.public_values, parameters, backend, clock, memory=trace.memory
        )
        return BatchResult(
            batch_id=request.batch_id,
            proof=outcome.proof,
            root=trace.root,
            statements=trace.statement_digests,
            prove_ms=round((self._clock() - started) * 1000),
            phases={"trace": traced - started, **outcome.phases},
            permutations=trace.operation_rows,
            rows=outcome.rows,
            log_rows=trace.log_rows,
            backend=backend.name,
        )
