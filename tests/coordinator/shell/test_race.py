"""Several workers on one batch: the first valid proof wins, the others are stopped and counted."""

import asyncio

import pytest

from coordinator.shell.race import HedgeCounts, Race
from workers.messages import BatchResult, WorkerLost


def result(name: str) -> BatchResult:
    return BatchResult(
        batch_id=name,
        proof=b"",
        root=bytes(32),
        statements=(),
        prove_ms=1,
        phases={},
        permutations=0,
        rows=0,
        log_rows=0,
        backend="cpu",
    )


class Workers:
    """Each answers when told to; `stopped` are those that were given up."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Future[BatchResult]] = {}
        self.stopped: list[str] = []

    async def attempt(self, worker_id: str) -> BatchResult:
        answer = self.answers[worker_id] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        except asyncio.CancelledError:
            self.stopped.append(worker_id)
            raise


@pytest.fixture
def workers() -> Workers:
    return Workers()


async def begun(race: Race) -> "asyncio.Task[tuple[str, BatchResult]]":
    task = asyncio.create_task(race.result())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_one_worker_alone_is_no_hedge(workers: Workers) -> None:
    counts = HedgeCounts()
    race = Race(workers.attempt, counts)
    race.enter("w-1")
    ending = await begun(race)
    workers.answers["w-1"].set_result(result("a"))
    assert await ending == ("w-1", result("a"))
    assert counts == HedgeCounts()


async def test_the_second_wins_and_the_first_is_stopped_and_counted_as_waste(workers: Workers) -> None:
    counts, clock = HedgeCounts(), iter((0.0, 5.0, 7.0))
    race = Race(workers.attempt, counts, clock_s=lambda: next(clock))
    race.enter("w-1")
    race.enter("w-2")
    assert race.hedged
    assert race.workers == ["w-1", "w-2"]
    ending = await begun(race)
    workers.answers["w-2"].set_result(result("a"))
    assert (await ending)[0] == "w-2"
    assert workers.stopped == ["w-1"]
    assert counts == HedgeCounts(started=1, won=1, wasted_s=7.0)


async def test_one_that_fails_leaves_it_to_the_other(workers: Workers) -> None:
    counts = HedgeCounts()
    race = Race(workers.attempt, counts)
    race.enter("w-1")
    race.enter("w-2")
    ending = await begun(race)
    workers.answers["w-1"].set_exception(WorkerLost("w-1", "killed"))
    await asyncio.sleep(0.01)
    assert not ending.done()
    workers.answers["w-2"].set_result(result("a"))
    assert (await ending)[0] == "w-2"


async def test_when_all_fail_the_first_failure_stands(workers: Workers) -> None:
    race = Race(workers.attempt, HedgeCounts())
    race.enter("w-1")
    race.enter("w-2")
    ending = await begun(race)
    workers.answers["w-2"].set_exception(WorkerLost("w-2", "killed"))
    workers.answers["w-1"].set_exception(RuntimeError("later"))
    with pytest.raises(WorkerLost):
        await ending


async def test_a_race_that_is_given_up_stops_everyone(workers: Workers) -> None:
    race = Race(workers.attempt, HedgeCounts())
    race.enter("w-1")
    race.enter("w-2")
    ending = await begun(race)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    assert workers.stopped == ["w-1", "w-2"]
