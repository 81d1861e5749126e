"""What the workers of one host tell their 9091 endpoint: a small file a worker, in a private folder of the host's.

`agenc worker` makes the folder and names it in the environment that `ray start` and so every worker inherits. A worker
writes its own record at each heartbeat; the endpoint reads what is there when it is asked. So the endpoint answers
before the coordinator has come, and while it is away.
"""

import contextlib
import os
from pathlib import Path

import msgspec
import psutil

from workers.messages import PoolReport, PoolScale, WorkerInfo, WorkerState
from workers.tally import Tally

FOLDER_VARIABLE = "AGENC_NODE_FOLDER"
SLOTS_VARIABLE = "AGENC_NODE_SLOTS"
_SUFFIX = ".worker"
_LARGEST_RECORD_BYTES = 1 << 16


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's own account. `generation_counts` as in `PoolReport`; `queue_size` as the coordinator last told."""

    worker_id: str
    pid: int
    started_s: float  # the process's, to tell it from a later one with its number
    backend: str
    batch_id: str | None
    busy_s: float | None
    batches: int
    failures: int
    permutations: int
    utilization: float
    startup_s: float
    rss_bytes: int
    last_error: str | None
    queue_size: int
    failures_by_type: dict[str, int]
    generation_counts: tuple[int, ...]
    generation_sum_s: float


def folder() -> Path | None:
    """This host's folder, for a worker that `agenc worker` is the ancestor of."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else None


def node_slots() -> int:
    """How many workers share this host; 1 where nobody said."""
    try:
        return max(1, int(os.environ.get(SLOTS_VARIABLE, "1")))
    except ValueError:
        return 1


def write(into: Path, record: WorkerRecord) -> None:
    """Put the record in place of the worker's last one. A full disk loses a record, not the worker."""
    with contextlib.suppress(OSError):
        path = into / f"{record.worker_id}{_SUFFIX}"
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(record))
        part.replace(path)


def read(within: Path) -> list[WorkerRecord]:
    """The records of the workers that live, by id; those of the dead are removed."""
    records = []
    for path in sorted(within.glob(f"*{_SUFFIX}")):
        try:
            with path.open("rb") as file:
                record = msgspec.json.decode(file.read(_LARGEST_RECORD_BYTES), type=WorkerRecord)
        except (OSError, msgspec.MsgspecError):
            continue
        if _lives(record):
            records.append(record)
        else:
            path.unlink(missing_ok=True)
    return records


def report(within: Path, *, slots: int) -> PoolReport:
    """What the host's endpoint shows: every slot is meant to have a worker."""
    records = read(within)
    failures: dict[str, int] = {}
    for record in records:
        for error_type, count in record.failures_by_type.items():
            failures[error_type] = failures.get(error_type, 0) + count
    counts = [record.generation_counts for record in records] or [Tally().generation_counts]
    return PoolReport(
        scale=PoolScale(desired=slots, running=len(records), target=slots, limited_by=None),
        workers=tuple(_info(record) for record in records),
        queue_size=max((record.queue_size for record in records), default=0),
        failures=failures,
        permutations=sum(record.permutations for record in records),
        generation_counts=tuple(map(sum, zip(*counts, strict=True))),
        generation_sum_s=sum(record.generation_sum_s for record in records),
    )


def _info(record: WorkerRecord) -> WorkerInfo:
    return WorkerInfo(
        worker_id=record.worker_id,
        state=WorkerState.IDLE if record.batch_id is None else WorkerState.BUSY,
        backend=record.backend,
        pid=record.pid,
        restarts=0,
        batch_id=record.batch_id,
        busy_s=record.busy_s,
        batches=record.batches,
        failures=record.failures,
        permutations=record.permutations,
        utilization=record.utilization,
        startup_s=record.startup_s,
        rss_bytes=record.rss_bytes,
        last_error=record.last_error,
    )


def _lives(record: WorkerRecord) -> bool:
    try:
        process = psutil.Process(record.pid)
        return process.create_time() == record.started_s and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
