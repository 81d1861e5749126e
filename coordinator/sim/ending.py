"""The end of a run: the faults stop, everything gets done in time, and the books are closed."""

import asyncio
from typing import TYPE_CHECKING

from coordinator.chain.interface import EXTERNAL
from coordinator.core.states import TERMINAL, OperationState
from coordinator.service import Service
from coordinator.sim.faults import NONE
from coordinator.sim.oracle import Violation
from coordinator.sim.process import Unreachable

if TYPE_CHECKING:
    from coordinator.sim.world import World

#: Everything has ended within twice this timeout, once nothing goes wrong any more.
TIMEOUT_MS = 30_000
_LOOK_S = 0.5
_DOWN_S = 0.5


async def finish(world: "World") -> None:
    """See the module.

    Raises:
        Violation: something is left over, lost or wrong.
    """
    calm = not world.plan.faults.kinds
    await _calm_down(world)
    await _all_done(world)
    await _settled(world)
    await _require_whole(world)
    if calm:
        _require_all_confirmed(world)
    await world.crash(torn=False, down_s=_DOWN_S)
    await _require_whole(world)


async def _calm_down(world: "World") -> None:
    """No more faults: the chain works, the disk has room, the coordinator runs with the settings of the beginning."""
    world.faults = NONE
    await world.settled()
    world.disk_is_full = False
    world.chain_faults.end()
    world.process.machine.pressed = False
    world.history.add("faults_end")
    if not world.process.up:
        await world.crash(torn=False, down_s=_DOWN_S)
    await _writable(world)
    if world.process.machine.chain is not None:
        world.process.machine.chain.follow()
    settings = {**world.initial, "speculation.confirmation_timeout_ms": TIMEOUT_MS}
    flipped = dict.fromkeys(world.oracle.state.overrides)
    await world.call(lambda service: service.set_config({**flipped, **settings}, "simulator"))
    # The chain's slots stand still until the clock has caught up.
    await asyncio.sleep(max(0, world.latest_ms - world.now_ms()) / 1000)


async def _writable(world: "World") -> None:
    """A disk that has room again is noticed, without a restart."""
    deadline_s = world.loop.time() + 2 * TIMEOUT_MS / 1000
    while world.read_only:
        if world.loop.time() > deadline_s:
            raise Violation(f"the disk has room, and nothing is written: {_service(world).read_only}")
        await asyncio.sleep(_LOOK_S)


async def _all_done(world: "World") -> None:
    """Liveness: every operation reaches a terminal state within twice the timeout."""
    deadline_s = world.loop.time() + 2 * TIMEOUT_MS / 1000
    state = world.oracle.state
    while state.live or state.reposting:
        if world.violation is not None:
            return
        if world.loop.time() > deadline_s:
            left = [f"{one.operation_id} {one.state} ({one.reason})" for one in state.live.values()]
            raise Violation(
                f"{len(left)} operations and {len(state.reposting)} batches have not ended within "
                f"{2 * TIMEOUT_MS} ms: {'; '.join(left[:5])}"
            )
        await asyncio.sleep(_LOOK_S)
    for one in state.ended.values():
        assert one.state in TERMINAL, "an ended operation is in a terminal state"


async def _settled(world: "World") -> None:
    """The chain's accounts follow the log."""
    deadline_s = world.loop.time() + 2 * TIMEOUT_MS / 1000
    while _service(world).parts.settling.waiting:
        if world.loop.time() > deadline_s:
            raise Violation(f"{_service(world).parts.settling.waiting} postings wait for a chain that works")
        await asyncio.sleep(_LOOK_S)


def _service(world: "World") -> Service:
    service = world.process.service
    if service is None or world.process.dead:
        raise Unreachable
    return service


async def _require_whole(world: "World") -> None:
    """Memory is what the log tells, everybody's stake is where it belongs, and the chain agrees."""
    service = _service(world)
    world.oracle.compare(service.engine.state, when="at the end")
    failures = service.parts.loop_failures
    if failures:
        raise Violation(f"loops ended by a defect: {failures}")
    state = world.oracle.state
    held = [agent.agent_id for agent in state.agents.values() if agent.bonded_lamports or agent.commitments]
    if held or state.locked_lamports or state.snapshots or state.branches or state.commitments:
        raise Violation(f"nothing is open, yet bonds, branches or snapshots are held, by {held}")
    lost = [one for one in world.acknowledged if not (one in state.ended or one in state.confirmed_outputs)]
    if lost:
        raise Violation(f"acknowledged, and nowhere: {', '.join(lost[:5])}")
    await _require_agreement(world)


async def _require_agreement(world: "World") -> None:
    """The chain's accounts are the log's; what is confirmed here stands there once, unless the chain broke its word."""
    chain = world.process.machine.chain
    assert chain is not None, "the coordinator runs"
    complaints = chain.ledger_complaints()
    balances = dict(chain.balances())
    state = world.oracle.state
    came = state.totals.deposited_lamports - state.totals.withdrawn_lamports
    if balances.get(EXTERNAL, 0) != -came:
        complaints.append(f"{-balances.get(EXTERNAL, 0)} lamports came in on chain, {came} here")
    report = await world.call(lambda service: service.integrity())
    for problem in report["problems"]:
        if not (world.guilt.finality_violated and "is confirmed here, not on chain" in problem):
            complaints.append(problem)
    tasks = [one.task_id for batch in chain.confirmed() for one in batch.operations]
    if len(tasks) != len(set(tasks)):
        complaints.append("a task is confirmed twice on chain")
    if complaints:
        raise Violation("; ".join(complaints[:5]))


def _require_all_confirmed(world: "World") -> None:
    """Where nothing goes wrong, everything is confirmed."""
    state = world.oracle.state
    others = [one for one in state.ended.values() if one.state is not OperationState.CONFIRMED]
    if others:
        first = others[0]
        raise Violation(f"nothing went wrong, yet {first.operation_id} ended {first.state} ({first.reason})")
