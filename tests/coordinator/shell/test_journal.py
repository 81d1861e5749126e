"""The journal: nothing is acknowledged before it is on disk, in order, and everybody hears it once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import StakeDeposited
from coordinator.core.state import CoreState, replay
from coordinator.shell.journal import Journal
from coordinator.store.log import EventLog
from coordinator.store.restart import restore

KEY, TOKEN = bytes(32), bytes(32)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    opened = EventLog.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def engine() -> Engine:
    engine = Engine(CoreState(), CoreConfig())
    engine.register_agent("a", agent_key=KEY, token_hash=TOKEN, deposit_lamports=0, now_ms=1)
    return engine


async def test_what_is_committed_is_in_the_log_in_the_order_of_the_decisions(
    log: EventLog, engine: Engine
) -> None:
    journal = Journal(engine, log)

    async def deposit(lamports: int) -> None:
        engine.deposit("a", lamports, now_ms=lamports)
        await journal.commit()

    await asyncio.gather(*(deposit(lamports) for lamports in range(1, 200)))
    stored = [item.event for item in log.replay()]
    assert [event.lamports for event in stored if isinstance(event, StakeDeposited)] == list(range(1, 200))
    assert replay(stored).dump() == engine.state.dump()


async def test_a_commit_without_events_waits_for_those_before_it(log: EventLog, engine: Engine) -> None:
    journal = Journal(engine, log)
    first = asyncio.create_task(journal.commit())
    await asyncio.sleep(0)
    await journal.commit()  # nothing of its own, but what the caller saw must be durable before it is told
    assert log.head.seq == 1
    await first


async def test_subscribers_resume_after_an_id_and_then_follow(log: EventLog, engine: Engine) -> None:
    journal = Journal(engine, log)
    for lamports in (1, 2, 3):
        engine.deposit("a", lamports, now_ms=5)
        await journal.commit()
    stream = journal.events(after=2)
    assert [(await anext(stream))[0] for _ in range(2)] == [3, 4]
    engine.deposit("a", 4, now_ms=6)
    await journal.commit()
    seq, event = await anext(stream)
    assert seq == 5
    assert isinstance(event, StakeDeposited)
    assert event.lamports == 4


async def test_events_that_memory_has_forgotten_come_from_the_log(log: EventLog, engine: Engine) -> None:
    journal = Journal(engine, log)
    await journal.commit()
    late = Journal(engine, log)  # as after a restart: it has published nothing itself
    stream = late.events(after=0)
    assert (await anext(stream))[0] == 1


async def test_after_a_failed_write_nothing_is_acknowledged(log: EventLog, engine: Engine) -> None:
    journal = Journal(engine, log)
    await journal.commit()
    log._queue.close("the disk is full")  # what the writer does when a commit fails
    engine.deposit("a", 7, now_ms=9)
    with pytest.raises(CoreError) as refused:
        await journal.commit()
    assert refused.value.code is ErrorCode.READ_ONLY
    assert journal.read_only is not None
    with pytest.raises(CoreError):
        journal.require_writable()
    assert log.head.seq == 1


async def test_waiting_for_an_operation_ends_with_the_time(log: EventLog, engine: Engine) -> None:
    journal = Journal(engine, log)
    assert not await journal.changed("nobody", timeout_s=0.01)
    assert journal._waiting == {}, "a wait that is over must leave nothing behind"


async def test_a_stopped_journal_goes_on_from_what_is_on_the_disk(log: EventLog, engine: Engine) -> None:
    journal = Journal(engine, log)
    engine.deposit("a", 1, now_ms=1)
    handed_over = asyncio.create_task(journal.commit())
    await asyncio.sleep(0)
    assert journal.pending
    journal.stop("on purpose")
    await journal.settled()
    await handed_over  # it was with the log already: it is durable, and its caller is told so
    engine.deposit("a", 10, now_ms=2)
    with pytest.raises(CoreError) as refused:
        await journal.commit()
    assert refused.value.code is ErrorCode.READ_ONLY

    restored = restore(log)
    assert restored.corruption is None
    engine.replace_state(restored.state)
    journal.resume()
    engine.deposit("a", 100, now_ms=3)
    await journal.commit()
    assert engine.state.agents["a"].balance_lamports == 101, "what was refused never was"
    assert restore(log).state.dump() == engine.state.dump()
