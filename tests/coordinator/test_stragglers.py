"""A worker that is stopped, not dead, under a batch: another proves it, and what that cost is shown."""

import os
import signal
import time
from pathlib import Path

from coordinator.core.states import OperationState
from coordinator.service import Service
from coordinator.settings import Settings
from coordinator.submission import NewOperation
from workers.statement import agent_key

SECRET = bytes(range(24))
ENVIRONMENT = {
    "AGENC_ADMIN_WORKERS_PORT": "0",
    "AGENC_CHAIN_SLOT_MS": "20",
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    "AGENC_SPECULATION_PROOF_WORKER_THREADS": "2",
}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _confirm(service: Service, name: str) -> None:
    operation = NewOperation(
        operation_id=name,
        agent_id="ann",
        task_id=f"task-{name}",
        operation_type="test",
        depends_on=(),
        parent_outputs=None,
        output=name.encode(),
        salt=os.urandom(24),
        secret=SECRET,
        priority=0,
        deadline_ms=None,
        retry_of=None,
    )
    (verdict,) = await service.submit([operation])
    assert verdict.error is None
    ended = await service.wait_operation(name, {OperationState.CONFIRMED}, 60.0)
    assert ended.state is OperationState.CONFIRMED


async def test_a_stopped_workers_batch_is_proved_by_another_long_before_anyone_misses_its_heartbeat(
    tmp_path: Path,
) -> None:
    settings = Settings.load("test", None, ENVIRONMENT | {"AGENC_DATA_DIR": str(tmp_path)})
    service = await Service.open(settings, clock_ms=_now_ms)
    try:
        await service.register_agent("ann", agent_key(SECRET), 1_000_000_000)
        pool, hedges = service.parts.pool, service.parts.proving.hedges
        await pool.wait_ready(2, timeout_s=60)
        for number in range(8):  # so that it is known how long a proof takes
            await _confirm(service, f"before-{number}")
        cost = service.engine.state.totals.cost
        first = min(pool.workers(), key=lambda worker: cost.line(worker.worker_id).ms(1 << 15))
        assert first.pid is not None
        restarts = first.restarts
        os.kill(first.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        await _confirm(service, "stopped")
        assert time.monotonic() - began_s < 15, "heartbeats give a silent worker up after 20 s"
        batch = next(
            one for one in service.engine.state.ended_batches.values() if one.operation_ids == ("stopped",)
        )
        assert batch.worker_id != first.worker_id
        assert (hedges.started, hedges.won) == (1, 1)
        assert hedges.wasted_s > 0
        again = next(one for one in pool.workers() if one.worker_id == first.worker_id)
        assert again.batch_id == batch.batch_id or again.restarts > restarts, "it is given up, and replaced"
    finally:
        await service.close()
