"""One worker a GPU, each with a card of its own, and none without: on a real Ray that is told of cards."""

import asyncio

import pytest

from workers.machine import may_use_gpus
from workers.messages import ScaleLimit, WorkerState
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings


@pytest.mark.parametrize(
    ("backend", "gpus", "workers"),
    [
        ("cuda", 2, 2),
        pytest.param("cuda", 0, 3, marks=pytest.mark.long),
        pytest.param("cpu", 2, 3, marks=pytest.mark.long),
    ],
)
async def test_workers_that_compute_on_gpus_have_one_each(backend: str, gpus: int, workers: int) -> None:
    runtime = RayRuntime(RaySettings(slots=3, gpus=gpus))
    config = PoolConfig(desired=3, generator="mock", backend=backend, kernel_threads=1)
    pool = ProofPool(config, runtime=runtime)
    await pool.start()
    try:
        await pool.wait_ready(workers, timeout_s=60)
        scale = pool.scale()
        assert (scale.running, scale.target) == (workers, workers)
        assert scale.limited_by is (None if workers == 3 else ScaleLimit.SLOTS)
        assert {worker.state for worker in pool.workers()} == {WorkerState.IDLE}
        taken = gpus if backend == "cuda" else 0
        async with asyncio.timeout(30):
            while await _free_gpus(runtime) != gpus - taken:  # noqa: ASYNC110 (Ray counts a moment later)
                await asyncio.sleep(0.05)
    finally:
        await pool.stop()


async def _free_gpus(runtime: RayRuntime) -> int:
    return await runtime.run(lambda: int(runtime.ray.available_resources().get("GPU", 0)))


def test_only_a_backend_that_computes_on_gpus_asks_for_them() -> None:
    assert not may_use_gpus("cpu", embedded=True)
    assert may_use_gpus("cuda", embedded=True)
    assert may_use_gpus("auto", embedded=False)
