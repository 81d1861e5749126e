"""The pool covers every range once, keeps to its number of threads, and passes failures on."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.threads import Pool, available_threads


@given(
    threads=st.integers(1, 4),
    n=st.integers(0, 300),
    min_chunk=st.integers(1, 90),
    multiple=st.integers(1, 17),
)
def test_ranges_cover_everything_once_and_are_aligned(
    threads: int, n: int, min_chunk: int, multiple: int
) -> None:
    pool = Pool(threads)
    seen: list[tuple[int, int]] = []
    pool.run_ranges(lambda a, b: seen.append((a, b)), n, min_chunk, multiple_of=multiple)
    pool.close()
    seen.sort()
    assert [i for a, b in seen for i in range(a, b)] == list(range(n))
    for a, b in seen[:-1]:
        assert a % multiple == b % multiple == 0
        assert b - a >= min_chunk


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_never_more_threads_than_given_the_caller_among_them(threads: int) -> None:
    pool = Pool(threads)
    names: set[str] = set()
    running = most = 0
    lock = threading.Lock()

    def work(start: int, stop: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            names.add(threading.current_thread().name)
        time.sleep(0.002)
        with lock:
            running -= 1

    for _ in range(5):
        pool.run_ranges(work, 100)
    pool.close()
    assert most <= threads
    assert len(names) <= threads
    assert threading.current_thread().name in names


def test_the_first_failure_reaches_the_caller_and_the_pool_lives_on() -> None:
    pool = Pool(2)

    def fail(start: int, stop: int) -> None:
        raise RuntimeError(f"range {start}")

    with pytest.raises(RuntimeError, match="range"):
        pool.run_ranges(fail, 100)
    seen: list[int] = []
    pool.run_ranges(lambda a, b: seen.extend(range(a, b)), 100)
    pool.close()
    assert sorted(seen) == list(range(100))


def test_nested_calls_do_not_deadlock() -> None:
    pool = Pool(2)
    seen: list[int] = []
    pool.run_ranges(lambda a, b: pool.run_ranges(lambda c, d: seen.append(d - c), 50), 8)
    pool.close()
    assert sum(seen) == 50 * 8


def test_submitted_work_runs_and_its_failure_is_kept() -> None:
    for threads in (1, 2):
        pool = Pool(threads)
        assert pool.submit(lambda: 41 + 1).result() == 42
        assert isinstance(pool.submit(lambda: 1 / 0).exception(), ZeroDivisionError)
        pool.close()


def test_a_pool_needs_a_thread_and_defaults_to_all() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pool(0)
    assert Pool().threads == available_threads() >= 1
