"""The pool on a real embedded Ray: proofs, deaths, hangs, cancellations, sizes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import psutil
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from workers.batch_proof import verify_batch_proof
from workers.messages import (
    BatchRequest,
    ProofTimeout,
    ProverError,
    ProverErrorCode,
    ScaleLimit,
    WorkerInfo,
    WorkerLost,
    WorkerState,
)
from workers.node import NodeServer
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings
from workers.stark.parameters import TESTING
from workers.statement import OperationWitness

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 90.0
LONG = 3000
"""Operations of a batch that is surely still being proved a moment after it began."""

CONFIG = PoolConfig(
    desired=1,
    backend="cpu",
    kernel_threads=1,
    heartbeat_s=0.2,
    first_backoff_s=0.05,
    longest_backoff_s=0.2,
)
RUNTIME = RayRuntime(RaySettings(slots=2))
TOLD = asyncio.Event()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[ProofPool]:
    pool = ProofPool(CONFIG, runtime=RUNTIME, on_change=TOLD.set)
    await pool.start()
    yield pool
    await pool.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def pool(cluster: ProofPool) -> ProofPool:
    """The module's pool with one idle worker, whatever the test before did."""
    await cluster.resize(1)
    await until(lambda: [w.state for w in cluster.workers()] == [WorkerState.IDLE])
    return cluster


def request(count: int, *, batch_id: str = "batch", parameters: str = "testing") -> BatchRequest:
    operations = tuple(
        OperationWitness(
            task_id=b"task-%d" % place, agent_id=b"agent", output=b"out", salt=bytes(24), secret=bytes(24)
        )
        for place in range(count)
    )
    return BatchRequest(batch_id=batch_id, domain=b"local:test", operations=operations, parameters=parameters)


async def until(holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 (what is waited for happens in other processes)
            await asyncio.sleep(0.01)


def worker(pool: ProofPool, worker_id: str = "w-1") -> WorkerInfo:
    return next(info for info in pool.workers() if info.worker_id == worker_id)


def pid_of(pool: ProofPool) -> int:
    pid = worker(pool).pid
    assert pid is not None
    return pid


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def replaced(pool: ProofPool, dead_pid: int) -> None:
    """Wait for another process under the same id, and see that the old one is gone."""
    await until(lambda: worker(pool).state is WorkerState.IDLE and worker(pool).pid != dead_pid)
    await until(lambda: ended(dead_pid))


async def begun(pool: ProofPool, batch: BatchRequest) -> "asyncio.Task[object]":
    """A proof that the worker's process is at, not only the pool."""
    task: asyncio.Task[object] = asyncio.create_task(pool.prove("w-1", batch, PATIENCE_S))
    await until(lambda: task.done() or worker(pool).batch_id == batch.batch_id)
    await asyncio.sleep(0.05)
    assert not task.done()
    return task


async def test_a_batch_is_proved_and_counted(pool: ProofPool) -> None:
    before = pool.report()
    result = await pool.prove("w-1", request(3), PATIENCE_S)
    assert result.batch_id == "batch"
    assert result.backend == "cpu"
    verify_batch_proof(result.proof, result.statements, parameters=TESTING)
    after = pool.report()
    assert after.workers[0].batches == before.workers[0].batches + 1
    assert after.permutations == before.permutations + result.permutations
    assert after.generation_counts[-1] == before.generation_counts[-1] + 1
    assert worker(pool).state is WorkerState.IDLE


async def test_everything_listens_on_loopback_only(pool: ProofPool) -> None:
    addresses = {
        connection.laddr.ip
        for process in [psutil.Process(), *RUNTIME.processes()]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses, "Ray listens somewhere"
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


async def test_a_prover_error_is_typed_and_the_worker_goes_on(pool: ProofPool) -> None:
    pid = pid_of(pool)
    with pytest.raises(ProverError) as told:
        await pool.prove("w-1", request(1, parameters="fast"), PATIENCE_S)
    assert told.value.code is ProverErrorCode.UNKNOWN_PARAMETERS
    assert pool.report().failures["unknown_parameters"] >= 1
    await pool.prove("w-1", request(1), PATIENCE_S)
    assert pid_of(pool) == pid


async def test_only_an_idle_worker_takes_a_batch(pool: ProofPool) -> None:
    with pytest.raises(WorkerLost, match="unknown"):
        await pool.prove("w-9", request(1), PATIENCE_S)
    task = await begun(pool, request(LONG))
    with pytest.raises(WorkerLost, match="busy"):
        await pool.prove("w-1", request(1), PATIENCE_S)
    await task


async def test_a_killed_worker_is_lost_and_replaced_and_the_batch_proved_again(pool: ProofPool) -> None:
    pid = pid_of(pool)
    task = await begun(pool, request(LONG))
    await pool.kill("w-1")
    with pytest.raises(WorkerLost) as told:
        await task
    assert told.value.worker_id == "w-1"
    restarts = worker(pool).restarts
    await replaced(pool, pid)
    assert worker(pool).restarts == restarts + 1
    result = await pool.prove("w-1", request(3), PATIENCE_S)
    verify_batch_proof(result.proof, result.statements, parameters=TESTING)


async def test_an_idle_worker_that_dies_is_replaced_without_being_asked(pool: ProofPool) -> None:
    pid = pid_of(pool)
    os.kill(pid, signal.SIGKILL)
    await replaced(pool, pid)


async def test_a_stopped_worker_runs_into_the_timeout_and_is_replaced(pool: ProofPool) -> None:
    pid = pid_of(pool)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ProofTimeout):
        await pool.prove("w-1", request(1), 0.5)
    await replaced(pool, pid)
    assert pool.report().failures["timeout"] >= 1
    await pool.prove("w-1", request(1), PATIENCE_S)


async def test_a_worker_without_a_heartbeat_is_replaced(pool: ProofPool) -> None:
    strict = ProofPool(replace(CONFIG, unresponsive_s=3.0), runtime=RUNTIME)
    await strict.start()
    try:
        await strict.wait_ready(timeout_s=PATIENCE_S)
        pid = pid_of(strict)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: "heartbeat" in (worker(strict).last_error or ""))
        await replaced(strict, pid)
    finally:
        await strict.stop()


async def test_a_cancelled_proof_stops_and_the_worker_goes_on(pool: ProofPool) -> None:
    pid = pid_of(pool)
    batches = worker(pool).batches
    task = await begun(pool, request(LONG))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker(pool).state is WorkerState.BUSY, "until the worker has really stopped"
    await until(lambda: worker(pool).state is not WorkerState.BUSY)
    assert pid_of(pool) == pid
    assert worker(pool).batches == batches
    await pool.prove("w-1", request(1), PATIENCE_S)


async def test_the_pool_grows_and_shrinks_and_a_busy_worker_ends_its_batch(pool: ProofPool) -> None:
    await pool.resize(2)
    await pool.wait_ready(2, timeout_s=PATIENCE_S)
    assert [w.worker_id for w in pool.workers()] == ["w-1", "w-2"]
    both = await asyncio.gather(*(pool.prove(w, request(2, batch_id=w), PATIENCE_S) for w in ("w-1", "w-2")))
    assert [result.batch_id for result in both] == ["w-1", "w-2"]

    second = worker(pool, "w-2").pid
    busy = await begun(pool, request(LONG))
    scale = await pool.resize(1)
    assert (scale.desired, scale.target) == (1, 1)
    await until(lambda: len(pool.workers()) == 1)
    assert worker(pool).state is WorkerState.BUSY, "the idle one went first"
    assert second is not None
    await until(lambda: ended(second))
    await busy


async def test_a_busy_worker_that_must_go_ends_its_batch_first(pool: ProofPool) -> None:
    await pool.resize(2)
    await pool.wait_ready(2, timeout_s=PATIENCE_S)
    tasks = [
        asyncio.create_task(pool.prove(w, request(LONG, batch_id=w), PATIENCE_S)) for w in ("w-1", "w-2")
    ]
    await until(lambda: all(w.state is WorkerState.BUSY for w in pool.workers()))
    await pool.resize(1)
    assert worker(pool, "w-2").state is WorkerState.DRAINING
    with pytest.raises(WorkerLost, match="draining"):
        await pool.prove("w-2", request(1), PATIENCE_S)
    assert [result.batch_id for result in await asyncio.gather(*tasks)] == ["w-1", "w-2"]
    await until(lambda: [w.worker_id for w in pool.workers()] == ["w-1"])


async def test_more_workers_than_slots_are_desired_and_not_run(pool: ProofPool) -> None:
    scale = await pool.resize(32)
    assert (scale.desired, scale.target, scale.limited_by) == (32, 2, ScaleLimit.SLOTS)
    await pool.wait_ready(2, timeout_s=PATIENCE_S)
    assert len(pool.workers()) == 2


async def test_memory_limits_the_workers_but_leaves_one(pool: ProofPool) -> None:
    config = replace(CONFIG, desired=2, memory_limit_bytes=1 << 20, worker_memory_bytes=1 << 30)
    small = ProofPool(config, runtime=RUNTIME)
    await small.start()
    try:
        scale = small.scale()
        assert (scale.desired, scale.target, scale.limited_by) == (2, 1, ScaleLimit.MEMORY)
        assert len(small.workers()) == 1
    finally:
        await small.stop()


async def test_a_worker_that_cannot_start_says_why_and_tries_again(pool: ProofPool) -> None:
    other = ProofPool(replace(CONFIG, generator="lottery"), runtime=RUNTIME)
    await other.start()
    try:
        await until(lambda: other.workers()[0].restarts >= 1)
        assert "lottery" in (other.workers()[0].last_error or "")
        assert other.scale().running == 0
    finally:
        await other.stop()
    assert worker(pool).state is WorkerState.IDLE, "the runtime it did not start goes on"


async def test_the_endpoint_shows_the_pool(pool: ProofPool) -> None:
    await pool.prove("w-1", request(1), PATIENCE_S)
    pool.set_queue_size(42)
    server = NodeServer(pool.report, port=0)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            health = (await client.get("/health")).json()
            metrics = (await client.get("/metrics")).text
    finally:
        await server.stop()
    assert health["status"] == "healthy"
    assert [(w["id"], w["up"], w["backend"]) for w in health["workers"]] == [("w-1", True, "cpu")]
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert samples["proof_queue_size"] == 42
    assert samples["proof_generation_seconds_count"] >= 1
    assert samples["proof_permutations_total"] > 0


async def test_a_change_is_told(pool: ProofPool) -> None:
    TOLD.clear()
    await pool.prove("w-1", request(1), PATIENCE_S)
    await asyncio.wait_for(TOLD.wait(), PATIENCE_S)
    TOLD.clear()
    await pool.kill("w-1")
    await asyncio.wait_for(TOLD.wait(), PATIENCE_S)
