"""What passes between the coordinator and its proof workers: requests, results, reports, errors.

Everything here is plain data that pickles. The errors drawn as a tree:

    WorkerError
      ProverError     the worker lives and says why this batch has no proof; a code, maybe the guilty index
      WorkerLost      the worker died, or was never there: prove the batch again elsewhere
      ProofTimeout    the worker did not answer in time and was killed: prove the batch again
      StartError      something could not be started at all: Ray, or the 9091 endpoint
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the pool passes witnesses on and never needs the field arithmetic behind them
    from workers.statement import OperationWitness


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """One batch to prove. Operations in the batch's order; at least one.

    `domain` is the chain's name and genesis as bytes, `parameters` a set's name (`workers.stark.parameters`).
    `blind_seed` fixes the padding for tests; None takes it from the operating system, as privacy needs.
    """

    batch_id: str
    domain: bytes
    operations: "tuple[OperationWitness, ...]"
    parameters: str
    blind_seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """A proof and what it took.

    `root` and `statements` are 32-byte digests, statements in the request's order. `phases` maps the
    prover's phases to seconds. `mock` marks a proof that proves nothing.
    """

    batch_id: str
    proof: bytes
    root: bytes
    statements: tuple[bytes, ...]
    prove_ms: int
    phases: Mapping[str, float]
    permutations: int
    rows: int
    log_rows: int
    backend: str
    mock: bool = False


class ProverErrorCode(StrEnum):
    """Why a living worker made no proof of a batch."""

    INVALID_WITNESS = "invalid_witness"
    """The operation at `index` cannot be proved: its witness is malformed. Proving it again cannot help."""

    TOO_LARGE = "too_large"
    """The batch needs a taller trace than the parameters allow: split it."""

    UNKNOWN_PARAMETERS = "unknown_parameters"
    OUT_OF_MEMORY = "out_of_memory"
    """The host or the device ran out of memory: a smaller batch may pass."""

    CANCELLED = "cancelled"
    """The caller gave the batch up; the worker stopped at the next phase."""

    INTERNAL = "internal"
    """A defect in the prover; `detail` names the exception, the worker's log has the stack."""


#: The failures for which proving the same batch again, as it is, can help.
RETRYABLE = frozenset({ProverErrorCode.OUT_OF_MEMORY, ProverErrorCode.CANCELLED, ProverErrorCode.INTERNAL})


class WorkerError(Exception):
    """An operating error of the proof workers; `error_type` is its stable name in metrics and logs."""

    error_type: str = "worker_error"


class ProverError(WorkerError):
    """This batch has no proof, and why. `index` is the guilty operation's place in the batch, where known."""

    def __init__(self, code: ProverErrorCode, detail: str, index: int | None = None) -> None:
        super().__init__(code, detail, index)  # the arguments as they are: that is what pickles
        self.code = code
        self.detail = detail
        self.index = index
        self.error_type = code.value

    def __str__(self) -> str:
        place = "" if self.index is None else f" (operation {self.index})"
        return f"{self.code.value}{place}: {self.detail}"

    @property
    def retryable(self) -> bool:
        """Whether the same batch may pass the next time."""
        return self.code in RETRYABLE


class WorkerLost(WorkerError):
    """The worker died under the batch, was retired, or is unknown. The batch may be proved again at once."""

    error_type = "worker_lost"

    def __init__(self, worker_id: str, detail: str) -> None:
        super().__init__(worker_id, detail)
        self.worker_id = worker_id
        self.detail = detail

    def __str__(self) -> str:
        return f"proof worker {self.worker_id} is lost: {self.detail}"


class ProofTimeout(WorkerError):
    """No proof in time. The worker was killed and is replaced; the batch may be proved again."""

    error_type = "timeout"

    def __init__(self, worker_id: str, timeout_s: float) -> None:
        super().__init__(worker_id, timeout_s)
        self.worker_id = worker_id
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"proof worker {self.worker_id} gave no proof within {self.timeout_s:g} s and was killed"


#: Every `error_type` that a batch's failure can have: the values of a metric's label.
FAILURE_TYPES: tuple[str, ...] = (
    WorkerLost.error_type,
    ProofTimeout.error_type,
    *(code.value for code in ProverErrorCode),
)


class StartErrorCode(StrEnum):
    """What could not be started."""

    RAY_FAILED = "ray_failed"
    RAY_IMPORTED_EARLIER = "ray_imported_earlier"
    TEMPORARY_PATH_TOO_LONG = "temporary_path_too_long"
    WORKER_FAILED = "worker_failed"
    VERSION_MISMATCH = "version_mismatch"
    """A host runs other code than this process: its proofs could differ."""

    PORT_TAKEN = "port_taken"
    ADDRESS_UNUSABLE = "address_unusable"
    SCALING_UNAVAILABLE = "scaling_unavailable"
    """Whoever is to be asked for machines cannot be: see `scaling.machines`."""


class StartError(WorkerError):
    """The proof cluster or the node's endpoint cannot start; the detail says what to do."""

    def __init__(self, code: StartErrorCode, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.error_type = code.value

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail}"


class WorkerState(StrEnum):
    """Where a worker stands; only `idle` ones take a batch."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    """Busy with its last batch: it retires after it."""

    WAITING = "waiting"
    """Its process died; the next one starts once the back-off is over."""


@dataclass(frozen=True, kw_only=True)
class WorkerHome:
    """Where a worker on a cluster runs: Ray's id of the host, the code there, and when the process began."""

    node_id: str
    code: str
    started_s: float


@dataclass(frozen=True, kw_only=True)
class WorkerReady:
    """A worker's first word: its process, what computes, and the seconds until it was warm."""

    pid: int
    backend: str
    backend_reason: str
    startup_s: float
    adopted: bool = False
    """It worked for an earlier coordinator already, and is warm."""


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """A worker's own account, given while it proves too. Times are seconds, memory is bytes."""

    pid: int
    busy_s: float | None
    batch_id: str | None
    batches: int
    failures: int
    permutations: int
    last_error: str | None
    rss_bytes: int


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker as the pool knows it.

    `worker_id` stays when a dead process is replaced; `restarts` counts that.
    """

    worker_id: str
    state: WorkerState
    backend: str | None
    pid: int | None
    restarts: int
    batch_id: str | None
    busy_s: float | None
    batches: int
    failures: int
    permutations: int
    utilization: float
    startup_s: float | None
    rss_bytes: int | None
    last_error: str | None

    @property
    def up(self) -> bool:
        """Its process answers: idle, busy or draining."""
        return self.state in (WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING)


class ScaleLimit(StrEnum):
    """What keeps the number of workers below the desired one."""

    SLOTS = "slots"
    MEMORY = "memory"


@dataclass(frozen=True, kw_only=True)
class PoolScale:
    """Workers desired, up now, and allowed (`target`); what limits that (None: nothing does).

    `refused_hosts`: hosts of the cluster that get no workers, each with the reason.
    """

    desired: int
    running: int
    target: int
    limited_by: ScaleLimit | None
    refused_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PoolReport:
    """All that the 9091 endpoint shows. `queue_size` is the cluster's, as the coordinator last told.

    `generation_counts` are cumulative by `GENERATION_BUCKETS_S` and end with the count of all.
    """

    scale: PoolScale
    workers: tuple[WorkerInfo, ...]
    queue_size: int
    failures: Mapping[str, int] = field(default_factory=dict)
    permutations: int = 0
    generation_counts: tuple[int, ...] = ()
    generation_sum_s: float = 0.0


#: Upper bounds of the buckets of `proof_generation_seconds`.
GENERATION_BUCKETS_S: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
