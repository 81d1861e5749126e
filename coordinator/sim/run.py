"""One run: a plan in, what became of it out. The same plan gives the same history, byte for byte."""

import asyncio
import tempfile
import traceback
from pathlib import Path
from typing import Any, TextIO

from coordinator.sim import logs
from coordinator.sim.agents import Agent
from coordinator.sim.ending import finish
from coordinator.sim.loop import Deadlock, VirtualLoop
from coordinator.sim.nemesis import meddle
from coordinator.sim.oracle import Violation
from coordinator.sim.plan import Outcome, Plan
from coordinator.sim.workload import gap_s, take_step
from coordinator.sim.world import LONGEST_DELAY_S, World

#: A disk without the price of one, where the system has it: the files are real all the same.
_MEMORY_FOLDER = Path("/dev/shm")
#: Steps that a run takes at most for each operation it shall submit: a bound on runs whose steps submit nothing.
_STEPS_PER_OPERATION = 20
#: Virtual seconds that a run has, beside one for each operation: ten times what it takes.
_LONGEST_S = 600


def run(plan: Plan, *, out: TextIO | None = None) -> Outcome:
    """Runs a plan; its history goes to `out`, a line of JSON each."""
    parent = _MEMORY_FOLDER if _MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="agenc-sim-", dir=parent) as folder:
        return _run(plan, Path(folder), out)


def _run(plan: Plan, folder: Path, out: TextIO | None) -> Outcome:
    loop = VirtualLoop(World.stream(plan.seed, "delays"), longest_delay_s=LONGEST_DELAY_S)
    asyncio.set_event_loop(loop)
    try:
        world = World(plan, loop, folder, out)

        def defect(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            cause = context.get("exception")
            world.fail(Violation(f"a defect: {context['message']}: {cause!r}"), cause)

        loop.set_exception_handler(defect)
        with logs.errors_to(world.logged):
            try:
                loop.run_until_complete(_live(world))
            except Deadlock:
                world.fail(Violation("a deadlock: everybody waits for somebody"))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return Outcome(
        plan=plan,
        violation=None if world.violation is None else _told(world.violation),
        digest=world.history.digest,
        operations=world.submitted,
        events=world.oracle.events,
        steps=world.steps,
        virtual_s=loop.time(),
        coverage=world.coverage,
        last=world.history.last,
    )


def _told(violation: Violation) -> str:
    """The violation, and where the defect behind it was raised."""
    cause = violation.__cause__
    if cause is None:
        return str(violation)
    frames = traceback.extract_tb(cause.__traceback__)[-3:]
    where = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )
    return f"{violation} ({where})" if where else str(violation)


async def _live(world: World) -> None:
    """From the first start to the end."""
    try:
        async with asyncio.timeout(_LONGEST_S + world.plan.operations):
            await _begin(world)
            await _walk(world)
            if world.violation is None:
                await finish(world)
    except TimeoutError:
        world.fail(Violation("the run does not come to its end"))
    except Violation as violation:
        world.fail(violation)
    except Exception as error:  # a defect, like any other
        world.fail(Violation(f"a defect: {type(error).__name__}: {error}"), error)
    if not world.process.dead:
        await world.end()


async def _begin(world: World) -> None:
    await world.start()
    await world.call(lambda service: service.set_config(world.initial, "simulator"))
    for agent in world.author.agents:
        await _register(world, agent)


async def _register(world: World, agent: Agent) -> None:
    await world.call(
        lambda service: service.register_agent(agent.agent_id, agent.key, agent.deposit_lamports)
    )


async def _walk(world: World) -> None:
    """Steps until the operations are submitted, or the plan's steps are taken."""
    plan = world.plan
    limit = plan.operations * _STEPS_PER_OPERATION if plan.steps is None else max(plan.steps, default=-1) + 1
    taken = None if plan.steps is None else frozenset(plan.steps)
    while world.steps < limit and world.submitted < plan.operations and world.violation is None:
        step = world.steps
        world.steps += 1
        if taken is None or step in taken:
            take_step(world, step)
            meddle(world, step)
            await asyncio.sleep(gap_s(world, step))
