"""The embedded Ray as a guest of this machine: it heals, it leaves nothing, and it dies with its owner."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from workers.messages import BatchRequest, StartError, StartErrorCode, WorkerLost, WorkerState
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings
from workers.statement import OperationWitness

PATIENCE_S = 90.0

REQUEST = BatchRequest(
    batch_id="batch",
    domain=b"local:test",
    operations=(OperationWitness(task_id=b"t", agent_id=b"a", output=b"", salt=bytes(24), secret=bytes(24)),),
    parameters="testing",
)


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder for this test's clusters alone, with a path that is short enough for their sockets."""
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def folders(parent: Path) -> list[Path]:
    return list(parent.iterdir())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 (what is waited for happens in other processes)
            await asyncio.sleep(0.02)


async def test_a_cluster_that_died_is_started_anew_and_stop_leaves_nothing(parent: Path) -> None:
    runtime = RayRuntime(
        RaySettings(slots=1, temporary_parent=parent, environment={"AGENC_TEST_WORD": "seen by workers"})
    )
    pool = ProofPool(PoolConfig(desired=1, generator="mock", heartbeat_s=0.5), runtime=runtime)
    await pool.start()
    await pool.wait_ready(timeout_s=PATIENCE_S)
    first = runtime.processes()
    (folder,) = folders(parent)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "AGENC_TEST_WORD" not in os.environ
    pid = pool.workers()[0].pid
    assert pid is not None
    assert psutil.Process(pid).environ()["AGENC_TEST_WORD"] == "seen by workers"

    # Without its GCS, Ray would end this process after a minute.
    next(p for p in first if p.name() == "gcs_server").kill()
    await until(lambda: not runtime.alive())
    await until(lambda: runtime.alive() and pool.scale().running == 1 and pool.workers()[0].pid != pid)
    assert running(first) == []
    result = await pool.prove("w-1", REQUEST, PATIENCE_S)
    assert result.mock

    # A stopped worker holds a batch while the pool is stopped: the hardest process to be rid of.
    second = runtime.processes()
    pid = pool.workers()[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.create_task(pool.prove("w-1", REQUEST, PATIENCE_S))
    await until(lambda: pool.workers()[0].state is WorkerState.BUSY)
    await pool.stop()
    with pytest.raises(WorkerLost, match="stopped"):
        await waiting
    assert running(second) == []
    assert folders(parent) == []
    await pool.stop()


OWNER = """
import asyncio
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings

async def main():
    runtime = RayRuntime(RaySettings(slots=1))
    pool = ProofPool(PoolConfig(desired=1, generator="mock"), runtime=runtime)
    await pool.start()
    await pool.wait_ready(timeout_s=60)
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def start_owner(parent: Path) -> "subprocess.Popen[str]":
    """A process with a pool, once it is up."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"TMPDIR": str(parent)},
    )
    assert owner.stdout is not None
    with owner.stdout:
        assert any(line == "up\n" for line in owner.stdout), "the owner ended early"
    return owner


async def test_ray_dies_with_its_owner(parent: Path) -> None:
    owner = start_owner(parent)
    # Ray's two agents look for their cluster for a minute; the next start ends them (test_private_folder).
    processes = [p for p in psutil.Process(owner.pid).children(recursive=True) if "Agent" not in p.name()]
    assert any("ProofWorker" in p.name() for p in processes)
    owner.kill()
    owner.wait()
    await until(lambda: running(processes) == [])


async def test_a_start_that_fails_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    runtime = RayRuntime(RaySettings(slots=1, temporary_parent=deep))
    for _ in range(2):
        with pytest.raises(StartError) as told:
            await runtime.start()
        assert told.value.code is StartErrorCode.TEMPORARY_PATH_TOO_LONG
        assert folders(deep) == []
        assert not runtime.up
