"""What goes wrong around the coordinator, step by step: chain, disk, clock, memory, operators. See `faults.py`."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from coordinator.chain.faults import Reorg, WindowKind
from coordinator.core.errors import CoreError
from coordinator.core.operators import DISABLE, DRAIN
from coordinator.service import Service
from coordinator.settings import Scalar
from coordinator.sim.disk import StoreFile, change_event
from coordinator.sim.faults import Fault
from coordinator.sim.process import Unreachable
from coordinator.store.snapshot import KEPT, Snapshots

if TYPE_CHECKING:
    from coordinator.sim.world import World

_BY = "simulator"
#: Slots that are undone: up to the confirmation depth nothing final is; beyond it, the chain breaks its word.
_SHALLOW, _DEEP = (1, 5), (6, 14)
_MOST_STEPS = 400
#: An operator tries again this often, after so many seconds.
_REBUILDS, _REBUILD_S = 30, 5.0

#: What operators flip, and to what. A flip is taken back after a while, so that limits do not choke a run for good.
FLIPS: Mapping[str, tuple[Scalar, ...]] = {
    "speculation.enabled": (False, None),
    "speculation.mode": ("conservative", "custom"),
    "speculation.max_depth": (1, 2),
    "speculation.max_parallel_branches": (1, 2),
    "speculation.confirmation_timeout_ms": (5_000, 20_000),
    "speculation.rollback_policy": ("cascade", "selective", "checkpoint"),
    "speculation.stake.min_stake": (0, 2_000_000),
    "speculation.stake.max_stake": (2_500_000,),
    "speculation.stake.stake_per_depth": (0, 7, 1_000_000),
    "speculation.stake.slash_percentage": (0.01, 0.3333, 0.5),
    "speculation.stake.cooldown_period_ms": (0, 20_000),
    "speculation.proof.worker_threads": (1, 2, 6),
    "speculation.proof.timeout_ms": (1_000,),
    "speculation.proof.batch_size": ("auto", 1, 2, 7),
    "speculation.limits.max_pending_operations": (1, 4),
    "speculation.limits.max_open_operations": (5,),
    "speculation.limits.max_state_snapshots": (1, 3),
    "speculation.features.enable_parallel_speculation": (False,),
    "speculation.features.enable_cross_agent_speculation": (False,),
    "speculation.features.enable_optimistic_proofs": (False, True),
    "speculation.features.enable_stake_delegation": (True, False),
    "speculation.features.rollout_percentage": (0.0, 50.0),
    "circuit_breaker.rollback_ratio": (0.1,),
    "circuit_breaker.error_ratio": (0.02,),
    "circuit_breaker.min_finished": (3,),
    "circuit_breaker.probes": (1,),
    "claim_buffer_ms": (0, 100_000),
    "tasks.require_registration": (True,),
}

_MAY_STAY = (
    "speculation.rollback_policy",
    "speculation.proof.batch_size",
    "speculation.features.enable_optimistic_proofs",
    "speculation.features.enable_stake_delegation",
    "speculation.stake.slash_percentage",
)

Act = Callable[["World", Random], Coroutine[Any, Any, None]]


def meddle(world: "World", step: int) -> None:
    """Begins the faults that this step's chances ask for."""
    for fault, act in ACTS.items():
        probability = world.faults.probability(fault)
        if probability:
            chance = world.chance(fault, step)
            if chance.random() < probability:
                world.begin(act(world, chance))


# -- chain -----------------------------------------------------------------------------------------


def _window(fault: Fault, kind: WindowKind, longest_s: float) -> Act:
    async def open_window(world: "World", chance: Random) -> None:
        start_ms = world.now_ms() + round(chance.uniform(0.0, 1_000.0))
        end_ms = start_ms + 100 + round(chance.uniform(0.0, longest_s) * 1_000)
        world.injected(fault, until_ms=end_ms)
        world.chain_faults.windows.append((kind, start_ms, end_ms))
        _follow(world)

    return open_window


def _reorg(fault: Fault, depths: tuple[int, int]) -> Act:
    async def reorg(world: "World", chance: Random) -> None:
        chain = world.process.machine.chain
        if chain is None:
            return
        ahead = chance.randint(1, 10)
        undone = Reorg(slot=chain.slot() + ahead, depth=chance.randint(*depths))
        world.injected(fault, slot=undone.slot, depth=undone.depth)
        world.chain_faults.reorgs.append(undone)
        _follow(world)

    return reorg


def _follow(world: "World") -> None:
    chain = world.process.machine.chain
    if chain is not None and not world.process.dead:
        chain.follow()


# -- machine ---------------------------------------------------------------------------------------


async def _crash(world: "World", chance: Random) -> None:
    """Between two steps of the loop, soon or in a while."""
    now = asyncio.Event()
    world.loop.after_steps(chance.randint(1, _MOST_STEPS), now.set)
    await now.wait()
    if world.process.dead:
        return
    world.injected(Fault.CRASH)
    torn = chance.random() < world.faults.probability(Fault.TORN_WRITE)
    damaged = chance.random() < world.faults.probability(Fault.DAMAGED_SNAPSHOT)
    down_s = chance.choice((0.1, 1.0, 10.0)) * chance.random()
    await world.crash(torn=torn, down_s=down_s, meanwhile=_damage_snapshot if damaged else None)


def _damage_snapshot(world: "World", folder: Path) -> None:
    """The newest one is not what was written any more."""
    for path in Snapshots(folder).paths()[:1]:
        world.injected(Fault.DAMAGED_SNAPSHOT, name=path.name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


async def _fill_disk(world: "World", chance: Random) -> None:
    """One file cannot grow for a while. Afterwards the coordinator goes on by itself."""
    process = world.process
    log = process.machine.log
    if log is None or process.dead or world.disk_is_full:
        return
    file = chance.choice(list(StoreFile))
    world.injected(Fault.DISK_FULL, file=file)
    world.disk_is_full = True
    log.fill(file)
    await asyncio.sleep(chance.uniform(0.5, 5.0))
    if world.process is not process or process.dead:
        return
    log.free(file)
    world.disk_is_full = False


async def _snapshot(world: "World", chance: Random) -> None:
    """As upkeep makes one, at an instant of the run's; behind the older of two the log may be compacted."""
    compacts = chance.random() < 0.5
    world.injected(Fault.SNAPSHOT, compacts=compacts)

    async def make(service: Service) -> None:
        log = service.parts.log
        await service.parts.upkeep.snapshot()
        kept = log.snapshots.headers()
        if compacts and len(kept) == KEPT and log.fault is None:
            await asyncio.to_thread(log.compact, kept[-1].seq)

    await world.call(make)


async def _rebuild(world: "World", chance: Random) -> None:
    """While it goes on nothing is written; then everything is as it was."""
    if world.disk_refuses:
        return
    world.injected(Fault.REBUILD)

    await world.call(_begin_rebuild)


async def _damage_log(world: "World", chance: Random) -> None:
    """An event is changed on the disk while nobody runs; an operator has the state rebuilt until that works."""
    if world.process.dead or world.disk_refuses:
        return
    share = chance.random()

    def damage(world: "World", folder: Path) -> None:
        world.injected(Fault.DAMAGED_LOG)
        world.log_is_damaged = change_event(folder, share)

    await world.crash(torn=False, down_s=0.1, meanwhile=damage)
    for _ in range(_REBUILDS):
        if not world.log_is_damaged:
            break
        with contextlib.suppress(Unreachable):
            await world.call(_begin_rebuild)
        await asyncio.sleep(_REBUILD_S)
    world.require(not world.log_is_damaged, "a damaged log is not rebuilt from a chain that works")
    await _insist(world, world.initial)


async def _insist(world: "World", settings: Mapping[str, Scalar]) -> None:
    """An operator tries until it is done, or gives up."""
    for _ in range(_REBUILDS):
        with contextlib.suppress(Unreachable, CoreError):
            await world.call(lambda service: service.set_config(settings, _BY))
            return
        await asyncio.sleep(_REBUILD_S)


async def _begin_rebuild(service: Service) -> None:
    service.parts.recovery.start_rebuild(by=_BY)


async def _jump(world: "World", chance: Random) -> None:
    jump_ms = chance.choice((-10_000, -1_000, -50, 1_000, 10_000, 60_000))
    world.injected(Fault.CLOCK_JUMP, jump_ms=jump_ms)
    world.jump(jump_ms)


async def _press(world: "World", chance: Random) -> None:
    machine = world.process.machine
    world.injected(Fault.MEMORY_PRESSURE)
    machine.pressed = True
    await asyncio.sleep(chance.uniform(0.5, 5.0))
    machine.pressed = False


# -- operators -------------------------------------------------------------------------------------


async def _flip(world: "World", chance: Random) -> None:
    key = chance.choice(list(FLIPS))
    value = chance.choice(FLIPS[key])
    world.injected(Fault.CONFIG_FLIP, key=key, value=value)
    await world.call(lambda service: service.set_config({key: value}, _BY))
    if key not in _MAY_STAY or chance.random() < 0.7:
        await asyncio.sleep(chance.uniform(0.5, 6.0))
        await _insist(world, {key: world.initial.get(key)})


async def _stop(world: "World", chance: Random) -> None:
    action = chance.choice((DRAIN, DISABLE))
    force = chance.random() < 0.4
    deadline_s = chance.choice((0, 1, 3, 20))
    world.injected(Fault.EMERGENCY, action=action, force=force, deadline_s=deadline_s)
    await world.call(
        lambda service: service.emergency(action, force=force, deadline_seconds=deadline_s, by=_BY)
    )
    await asyncio.sleep(chance.uniform(0.5, 6.0))
    await _insist(world, {"speculation.enabled": True})


async def _operate(world: "World", chance: Random) -> None:
    commands: dict[str, Callable[[Service], Coroutine[Any, Any, Any]]] = {
        "clear_queue": lambda service: service.clear_queue(_BY),
        "timeout_stale": lambda service: service.timeout_stale(chance.choice((1, 5, 30)), _BY),
        "reset_breaker": lambda service: service.reset_breaker(_BY),
        "recover_stake": lambda service: service.recover_stake(None, by=_BY),
        "integrity": lambda service: service.integrity(),
    }
    name = chance.choice(("clear_queue", *commands))
    world.injected(Fault.OPERATOR, command=name)
    await world.call(commands[name])


#: The faults that come with a step, and what each does; those of proofs, agents and crashes happen elsewhere.
ACTS: Mapping[Fault, Act] = {
    Fault.CHAIN_DELAY: _window(Fault.CHAIN_DELAY, WindowKind.DELAY, 4.0),
    Fault.CHAIN_DROP: _window(Fault.CHAIN_DROP, WindowKind.DROP, 4.0),
    Fault.CHAIN_OUTAGE: _window(Fault.CHAIN_OUTAGE, WindowKind.OUTAGE, 8.0),
    Fault.SHALLOW_REORG: _reorg(Fault.SHALLOW_REORG, _SHALLOW),
    Fault.DEEP_REORG: _reorg(Fault.DEEP_REORG, _DEEP),
    Fault.CRASH: _crash,
    Fault.DISK_FULL: _fill_disk,
    Fault.SNAPSHOT: _snapshot,
    Fault.REBUILD: _rebuild,
    Fault.DAMAGED_LOG: _damage_log,
    Fault.CLOCK_JUMP: _jump,
    Fault.MEMORY_PRESSURE: _press,
    Fault.CONFIG_FLIP: _flip,
    Fault.EMERGENCY: _stop,
    Fault.OPERATOR: _operate,
}
