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


@pytest.mark.timeout(600)
async def test_a_cluster_that_died_is_started_anew_and_stop_leaves_nothing(parent: Path) -> None:
    runtime = RayRuntime(
        RaySettings(slots=2, temporary_parent=parent, environment={"AGENC_TEST_WORD": "seen by workers"})
    )
    pool = ProofPool(PoolConfig(desired=2, generator="mock", heartbeat_s=0.5), runtime=runtime)
    await pool.start()
    await pool.wait_ready(2, timeout_s=PATIENCE_S)
    first = runtime.processes()
    (folder,) = folders(parent)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "AGENC_TEST_WORD" not in os.environ
    pid = pool.workers()[0].pid
    assert pid is not None
    assert psutil.Process(pid).environ()["AGENC_TEST_WORD"] == "seen by workers"

    # Without its GCS, Ray would end this process after a minute.
    next(p for p in first if p.name() == "gcs_server").kill()
    await until(lambda: pool.scale().running == 0)
    await pool.resize(1)
    await until(lambda: [w.state for w in pool.workers()] == [WorkerState.IDLE])
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
    runtime = RayRuntime(RaySettings(slots=2))
    pool = ProofPool(PoolConfig(desired=1, generator="mock"), runtime=runtime)
    await pool.start()
    await pool.wait_ready(timeout_s=60)
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
HOST = """
import asyncio
from workers.ray_runtime import RayRuntime, RaySettings

async def main():
    runtime = RayRuntime(RaySettings(slots=2))
    await runtime.start()
    print("address", runtime.ray.get_runtime_context().gcs_address, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
GUEST = """
import asyncio, sys
from workers.messages import ScaleLimit
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings

async def main():
    runtime = RayRuntime(RaySettings(slots=1, address=sys.argv[1]))
    assert not runtime.embedded
    pool = ProofPool(PoolConfig(desired=3, generator="mock"), runtime=runtime)
    await pool.start()
    await pool.wait_ready(2, timeout_s=60)
    scale = pool.scale()
    assert (scale.target, scale.limited_by) == (2, ScaleLimit.SLOTS), scale
    first = pool.workers()[0]
    await pool.kill("w-1")
    while pool.workers()[0].pid in (first.pid, None):
        await asyncio.sleep(0.01)
    await pool.stop()

asyncio.run(main())
"""
FORGETFUL = """
import asyncio, sys
from workers.ray_runtime import RayRuntime, RaySettings

runtime = RayRuntime(RaySettings(slots=1))
asyncio.run(runtime.start())
print("pids", *(process.pid for process in runtime.processes()), flush=True)
"""
EARLY = """
import asyncio, ray
from workers.messages import StartError
from workers.ray_runtime import RayRuntime, RaySettings

runtime = RayRuntime(RaySettings(slots=1))
try:
    asyncio.run(runtime.start())
except StartError as error:
    print(error.code.value, flush=True)
"""


def start(code: str, parent: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env=inherited | {"TMPDIR": str(parent)} | variables,
    )


def line_with(word: str, process: "subprocess.Popen[str]") -> list[str]:
    """What follows the word on the first line that begins with it."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.split()[1:]
    raise AssertionError(f"the process ended without a word of {word}")


async def test_ray_dies_with_its_owner(parent: Path) -> None:
    owner = start(OWNER, parent)
    line_with("up", owner)
    # Ray's two agents look for their cluster for a minute; the next start ends them (test_private_folder).
    processes = [p for p in psutil.Process(owner.pid).children(recursive=True) if "Agent" not in p.name()]
    assert any("ProofWorker" in p.name() for p in processes)
    owner.kill()
    owner.communicate()
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


@pytest.mark.long
def test_a_forgotten_runtime_is_stopped_when_its_process_ends(parent: Path) -> None:
    forgetful = start(FORGETFUL, parent)
    pids = [int(pid) for pid in line_with("pids", forgetful)]
    assert len(pids) > 2
    assert forgetful.wait(PATIENCE_S) == 0
    forgetful.communicate()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert folders(parent) == []


@pytest.mark.long
def test_a_pool_joins_a_cluster_that_runs_and_follows_its_slots(parent: Path) -> None:
    secret = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "ab" * 32,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    host = start(HOST, parent, **secret)
    try:
        (address,) = line_with("address", host)
        with start(GUEST, parent, address, **secret) as guest:
            guest.communicate(timeout=PATIENCE_S)
        assert guest.returncode == 0
        assert host.poll() is None, "the cluster goes on without its guest"
    finally:
        host.kill()
        host.communicate()


def test_ray_imported_too_early_to_keep_to_loopback_is_refused(parent: Path) -> None:
    with start(EARLY, parent) as early:
        line_with("ray_imported_earlier", early)
        assert early.wait(PATIENCE_S) == 0
    assert folders(parent) == []
