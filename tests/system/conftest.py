"""Whole-system runs: the real server in its own process, real workers, real proofs."""

import ctypes
import signal
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """Fails when a process outlives the test: orphans come to us, and there must be none."""
    if sys.platform != "linux":
        pytest.skip("orphans can be caught on Linux only")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    me = psutil.Process()
    before = set(me.children(recursive=True))
    yield
    deadline_s = time.monotonic() + 5
    while left := [child for child in me.children(recursive=True) if child not in before and _lives(child)]:
        if time.monotonic() > deadline_s:
            names = [" ".join(child.cmdline()[:4]) for child in left]
            for child in left:
                child.send_signal(signal.SIGKILL)
            pytest.fail(f"left behind: {names}")
        time.sleep(0.1)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
