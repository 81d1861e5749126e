"""What agents do at a step: one honest thing, and the dishonest ones that the step's chances ask for."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from coordinator.sim.agents import latest
from coordinator.sim.faults import Fault
from coordinator.sim.process import Unreachable
from coordinator.submission import NewOperation, SubmitResult
from workers.statement import constraint_hash

if TYPE_CHECKING:
    from coordinator.sim.world import World

#: An agent that gets no answer asks again, this often.
_TRIES = 8
_RETRY_S = 1.0
_BURST = 60

Step = Callable[["World", int, Random], Coroutine[Any, Any, None]]


def take_step(world: "World", step: int) -> None:
    """Begins what the agents do at this step."""
    chance = world.chance("step", step)
    (act,) = chance.choices(_HONEST, _WEIGHTS)
    world.begin(act(world, step, chance))
    for fault, lie in LIES.items():
        probability = world.faults.probability(fault)
        if probability:
            chance = world.chance(fault, step)
            if chance.random() < probability:
                world.begin(lie(world, step, chance))


def gap_s(world: "World", step: int) -> float:
    """Virtual seconds until the next step; often none."""
    chance = world.chance("gap", step)
    return 0.0 if chance.random() < 0.3 else min(chance.expovariate(5.0), 2.0)


async def send(world: "World", operations: Sequence[NewOperation], chance: Random) -> list[SubmitResult]:
    """Submits operations until there is an answer. An answer that is lost is asked for again, with the same content."""
    lost = world.faults.probability(Fault.LOST_ANSWER)
    world.submitted += len(operations)
    for _ in range(_TRIES):
        try:
            results = await world.call(lambda service: service.submit(operations))
        except Unreachable:
            await asyncio.sleep(_RETRY_S)
            continue
        if chance.random() < lost:
            world.injected(Fault.LOST_ANSWER)
            continue
        for result in results:
            world.answered(result)
        return results
    raise Unreachable


# -- honest ----------------------------------------------------------------------------------------


async def _submit(world: "World", step: int, chance: Random) -> None:
    state, author = world.oracle.state, world.author
    parents = author.parents(state, chance)
    await send(world, [author.write(f"op-{step}", chance.choice(author.agents), parents, chance)], chance)


async def _deepen(world: "World", step: int, chance: Random) -> None:
    state, author = world.oracle.state, world.author
    parents = author.deepen(state, chance)
    same = [state.live[one].agent_id for one in parents]
    agent = (
        author.agent(chance.choice(same)) if same and chance.random() < 0.7 else chance.choice(author.agents)
    )
    await send(world, [author.write(f"op-{step}", agent, parents, chance)], chance)


async def _submit_many(world: "World", step: int, chance: Random) -> None:
    """A small graph in one call, in any order."""
    state, author = world.oracle.state, world.author
    made: list[NewOperation] = []
    for number in range(chance.randint(2, 5)):
        known = [one.operation_id for one in made]
        parents = chance.sample(known, min(len(known), chance.choice((0, 1, 2))))
        parents += [] if parents else author.parents(state, chance, most=1)
        made.append(author.write(f"op-{step}.{number}", chance.choice(author.agents), parents, chance))
    chance.shuffle(made)
    await send(world, made, chance)


async def _retry(world: "World", step: int, chance: Random) -> None:
    again = world.author.retry(f"op-{step}", world.oracle.state, chance)
    if again is None:
        await _submit(world, step, chance)
    else:
        await send(world, [again], chance)


async def _work_on_a_claim(world: "World", step: int, chance: Random) -> None:
    """A registered task, claimed and then done, as it asks for or without a demand."""
    author = world.author
    agent = chance.choice(author.agents)
    parents = chance.choice((author.deepen, author.parents))(world.oracle.state, chance)
    operation = author.write(f"op-{step}", agent, parents, chance)
    demand = constraint_hash(operation.output) if chance.random() < 0.5 else None
    await _register(world, operation.task_id, demand, claim_ttl_s=chance.choice((30.0, 50.0, 90.0, None)))
    await world.call(lambda service: service.claim_task(operation.task_id, agent.agent_id))
    await send(world, [operation], chance)


async def _register(
    world: "World", task_id: str, demand: bytes | None, *, claim_ttl_s: float | None = None
) -> None:
    if demand is not None:
        world.guilt.demand(task_id, demand)
    await world.call(lambda service: service.register_task(task_id, demand, (), claim_ttl_s))


async def _read_output(world: "World", step: int, chance: Random) -> None:
    known = [*latest(world.oracle.state.live, 5), *latest(world.oracle.state.ended, 3)]
    if known:
        operation_id, agent = chance.choice(known), chance.choice(world.author.agents)
        wait_s = chance.choice((0.0, 0.0, 3.0))
        await world.call(lambda service: service.output(operation_id, agent.agent_id, wait_s))


async def _rival(world: "World", step: int, chance: Random) -> None:
    """Two agents do one task: only one of them can be confirmed."""
    live = world.oracle.state.live
    author = world.author
    if not world.plan.faults.kinds or not live:
        await _submit(world, step, chance)
        return
    task_id = live[chance.choice(latest(live, 4))].task_id
    agent = chance.choice(author.agents)
    parents = author.parents(world.oracle.state, chance)
    await send(world, [author.write(f"op-{step}", agent, parents, chance, task_id=task_id)], chance)


_WEIGHTED: Mapping[Step, int] = {
    _submit: 30,
    _deepen: 30,
    _submit_many: 10,
    _retry: 10,
    _work_on_a_claim: 8,
    _read_output: 4,
    _rival: 3,
}
_HONEST = list(_WEIGHTED)
_WEIGHTS = list(_WEIGHTED.values())


# -- dishonest, and hasty --------------------------------------------------------------------------


async def _wrong_output(world: "World", step: int, chance: Random) -> None:
    """The task asks for another output; the coordinator, or only the chain, learns of it before or afterwards."""
    author = world.author
    operation_id = f"wrong-{step}"
    find = chance.choice((author.deepen, author.parents))
    parents = find(world.oracle.state, chance)
    operation = author.write(operation_id, chance.choice(author.agents), parents, chance)
    demand = constraint_hash(b"what the task asks for")
    world.injected(Fault.WRONG_OUTPUT, operation_id=operation_id)
    when = chance.choice(("before", "after", "chain"))
    if when == "before":
        await _register(world, operation.task_id, demand)
    if when == "chain":
        world.guilt.demand(operation.task_id, demand)
        chain = world.process.machine.chain
        if chain is not None and world.process.up:
            chain.preregister_task(operation.task_id, demand)
    await send(world, [operation], chance)
    if when == "after":
        await _build_on(world, operation_id, chance)
        await asyncio.sleep(chance.uniform(0.0, 4.0))
        await _register(world, operation.task_id, demand)


async def _build_on(world: "World", operation_id: str, chance: Random) -> None:
    """Others build on it, in good faith."""
    author = world.author
    for number in range(chance.randint(0, 2)):
        if operation_id in world.oracle.state.live:
            child_id = f"{operation_id}.{number}"
            agent = chance.choice(author.agents)
            await send(world, [author.write(child_id, agent, [operation_id], chance)], chance)


async def _replay(world: "World", step: int, chance: Random) -> None:
    author = world.author
    known = latest(author.sent, 20)
    if not known:
        return
    old = author.sent[chance.choice(known)]
    kind = chance.choice(("again", "other content", "other id"))
    world.injected(Fault.REPLAY, operation_id=old.operation_id, kind=kind)
    changes: dict[str, Any] = {name: getattr(old, name) for name in old.__struct_fields__}
    if kind == "other content":
        changes["output"] = b"another output"
    elif kind == "other id":
        changes["operation_id"] = f"replay-{step}"
    results = await send(world, [NewOperation(**changes)], chance)
    if kind == "other id" and results[0].created:
        author.sent[results[0].operation_id] = NewOperation(**changes)


async def _double_spend(world: "World", step: int, chance: Random) -> None:
    """Posts its operation to the chain itself, before or after the coordinator has it."""
    operation_id = f"spent-{step}"
    operation = world.author.write(operation_id, chance.choice(world.author.agents), (), chance)
    first = chance.random() < 0.5
    if first:
        world.spend_on_chain(operation)
    await send(world, [operation], chance)
    await _build_on(world, operation_id, chance)
    if not first:
        world.spend_on_chain(operation)


async def _abandon_claim(world: "World", step: int, chance: Random) -> None:
    author = world.author
    operation_id = f"claimed-{step}"
    agent, other = chance.sample(author.agents, 2)
    operation = author.write(operation_id, agent, (), chance)
    await _register(world, operation.task_id, None, claim_ttl_s=600.0)
    await world.call(lambda service: service.claim_task(operation.task_id, agent.agent_id))
    await send(world, [operation], chance)
    await send(world, [author.write(f"{operation_id}.0", other, [operation_id], chance)], chance)
    world.cancels(operation_id)
    world.injected(Fault.ABANDONED_CLAIM, operation_id=operation_id)
    await world.call(lambda service: service.cancel(operation_id))


async def _bad_witness(world: "World", step: int, chance: Random) -> None:
    operation = world.author.write(f"witness-{step}", chance.choice(world.author.agents), (), chance)
    world.injected(Fault.BAD_WITNESS, operation_id=operation.operation_id)
    world.finds_invalid(operation.task_id)
    await send(world, [operation], chance)
    await _build_on(world, operation.operation_id, chance)


async def _refused(world: "World", step: int, chance: Random) -> None:
    parents = world.author.parents(world.oracle.state, chance)
    operation = world.author.write(f"refused-{step}", chance.choice(world.author.agents), parents, chance)
    world.injected(Fault.CHAIN_REFUSAL, task_id=operation.task_id)
    world.refuses(operation.task_id)
    await send(world, [operation], chance)
    await _build_on(world, operation.operation_id, chance)


async def _malformed(world: "World", step: int, chance: Random) -> None:
    """None of these is ever admitted, whatever else is in the call."""
    author, agent = world.author, chance.choice(world.author.agents)
    name = f"bad-{step}"
    kind = chance.choice(("cycle", "unknown parent", "wrong key", "other output"))
    world.injected(Fault.MALFORMED, kind=kind)
    if kind == "cycle":
        bad = [
            author.write(f"{name}.0", agent, [f"{name}.1"], chance),
            author.write(f"{name}.1", agent, [f"{name}.0"], chance),
        ]
    elif kind == "unknown parent":
        bad = [author.write(f"{name}.0", agent, ["nobody"], chance)]
    elif kind == "wrong key":
        bad = [author.write(f"{name}.0", agent, (), chance, secret=bytes(24))]
    else:
        parents = latest(world.oracle.state.live, 1)
        bad = [
            author.write(
                f"{name}.0", agent, parents, chance, parent_outputs=dict.fromkeys(parents, bytes(32))
            )
        ]
        if not parents:
            return
    good = author.write(f"{name}.good", agent, (), chance)
    results = await send(world, [*bad, good], chance)
    world.require(
        not any(result.created for result in results[:-1]), f"{kind}: a malformed operation was admitted"
    )


async def _cancel(world: "World", step: int, chance: Random) -> None:
    live = latest(world.oracle.state.live, 12)
    if live:
        operation_id = chance.choice(live)
        world.injected(Fault.CANCEL, operation_id=operation_id)
        world.cancels(operation_id)
        await world.call(lambda service: service.cancel(operation_id))


async def _move_stake(world: "World", step: int, chance: Random) -> None:
    agent, other = chance.sample(world.author.agents, 2)
    lamports = chance.randint(1, 5_000_000)
    kind = chance.choice(("deposit", "withdraw", "withdraw all", "delegate", "revoke"))
    world.injected(Fault.STAKE_MOVES, kind=kind)
    match kind:
        case "deposit":
            await world.call(lambda service: service.deposit(agent.agent_id, lamports))
        case "withdraw":
            await world.call(lambda service: service.withdraw(agent.agent_id, lamports))
        case "withdraw all":
            poor = world.author.agents[-1].agent_id
            free = world.oracle.state.agents[poor].free_lamports
            await world.call(lambda service: service.withdraw(poor, max(1, free)))
        case _:
            cap = 0 if kind == "revoke" else 10 * lamports
            await world.delegate(agent.agent_id, other.agent_id, cap)


async def _burst(world: "World", step: int, chance: Random) -> None:
    author = world.author
    agent = chance.choice(author.agents)
    world.injected(Fault.BURST)
    made = [author.write(f"burst-{step}.{number}", agent, (), chance) for number in range(_BURST)]
    await send(world, made, chance)


#: The faults that are agents' doing.
LIES: Mapping[Fault, Step] = {
    Fault.WRONG_OUTPUT: _wrong_output,
    Fault.REPLAY: _replay,
    Fault.DOUBLE_SPEND: _double_spend,
    Fault.ABANDONED_CLAIM: _abandon_claim,
    Fault.BAD_WITNESS: _bad_witness,
    Fault.CHAIN_REFUSAL: _refused,
    Fault.MALFORMED: _malformed,
    Fault.CANCEL: _cancel,
    Fault.STAKE_MOVES: _move_stake,
    Fault.BURST: _burst,
}
