"""Virtual time and threads: no waiting, one order for a seed, nothing of a dead process goes on."""

import asyncio
from contextvars import copy_context
from random import Random
from typing import Any

import pytest

from coordinator.sim.loop import OWNER, Deadlock, VirtualLoop


@pytest.fixture
def loop() -> Any:
    made = VirtualLoop(Random(1), longest_delay_s=0.02)
    yield made
    made.close()


class Process:
    def __init__(self) -> None:
        self.dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}


def test_an_hour_takes_no_time(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(3_600))
    assert loop.time() == pytest.approx(3_600)


def test_jobs_end_in_an_order_that_the_seed_tells() -> None:
    def story(seed: int) -> list[int]:
        loop, ended = VirtualLoop(Random(seed), longest_delay_s=0.02), list[int]()

        async def work() -> None:
            await asyncio.gather(*(asyncio.to_thread(ended.append, number) for number in range(20)))

        loop.run_until_complete(work())
        loop.close()
        return ended

    assert story(1) == story(1) != story(2)
    assert sorted(story(1)) == list(range(20))


def test_what_a_job_raises_comes_to_whoever_waits(loop: VirtualLoop) -> None:
    def bad() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        loop.run_until_complete(asyncio.to_thread(bad))


def test_a_deadlock_is_told(loop: VirtualLoop) -> None:
    with pytest.raises(Deadlock):
        loop.run_until_complete(loop.create_future())


def test_jobs_of_a_dead_process_do_not_run(loop: VirtualLoop) -> None:
    process, ran = Process(), list[str]()

    async def work() -> None:
        await asyncio.to_thread(ran.append, "a job")
        ran.append("answered")

    async def kill() -> None:
        context = copy_context()
        context.run(OWNER.set, process)
        task = context.run(loop.create_task, work())
        await asyncio.sleep(0)
        assert task in process.tasks
        process.dead = True
        await asyncio.sleep(1)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert not process.tasks
        assert context.run(loop.create_task, asyncio.sleep(1)).cancelling(), "a dead process begins nothing"

    loop.run_until_complete(kill())
    assert ran == []


def test_something_happens_after_so_many_steps(loop: VirtualLoop) -> None:
    turns = 0

    async def work() -> int:
        nonlocal turns
        reached = asyncio.Event()
        loop.after_steps(5, reached.set)
        while not reached.is_set():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert 4 <= loop.run_until_complete(work()) <= 7
