"""Random commands to a world, by weights; all randomness is one `Random`, so that a seed tells its story again."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from coordinator.core.commands import Submission
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError
from coordinator.core.state import CoreState
from coordinator.core.states import ConnectionStatus, ReturnReason, RollbackPolicy, TransactionStatus
from tests.coordinator.core.world import World, digest

AGENTS = ("alice", "bob", "carol")
CODES = ("constraint_mismatch", "double_spend", "invalid_witness", "invalid_proof", "something_else")
FAILURES = (
    ReturnReason.WORKER_LOST,
    ReturnReason.TIMEOUT,
    ReturnReason.PROVER_ERROR,
    ReturnReason.OUT_OF_MEMORY,
    ReturnReason.INVALID_PROOF,
)
DEAD = (TransactionStatus.EXPIRED, TransactionStatus.DROPPED, TransactionStatus.REORGED)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "enabled": (True, True, True, False),
    "max_depth": (1, 3, 20),
    "max_parallel_branches": (1, 16),
    "parallel_speculation": (True, False),
    "cross_agent": (True, True, False),
    "optimistic_proofs": (True, False),
    "stake_delegation": (True, False),
    "rollout_percentage": (100.0, 100.0, 50.0),
    "max_pending_operations": (3, 1_000, 1_000),
    "max_state_snapshots": (2, 1_000, 1_000),
    "queue_size": (6, 1_000, 1_000),
    "slash_basis_points": (1_000, 3_333),
    "batch_size": (1, 3, 8, None),
    "stake_per_depth_lamports": (0, 7, 100_000),
}
T = TypeVar("T")


class Chaos:
    """`world` under random commands; `refused` collects the codes of refused ones."""

    def __init__(self, world: World, policy: RollbackPolicy = RollbackPolicy.CASCADE) -> None:
        self.world = world
        self.refused: set[str] = set()
        self.count = 0
        world.configure(rollback_policy=policy, batch_size=8, breaker_min_finished=15)
        for agent_id in AGENTS:
            world.agent(agent_id, 50_000_000)

    def step(self, random: Random) -> None:
        """One random command."""
        (action,) = random.choices(_ACTIONS, _WEIGHTS)
        action(self, random)

    def finish(self) -> None:
        """Let everything work again, until nothing is left."""
        world = self.world
        world.configure(enabled=True, optimistic_proofs=True, queue_size=1_000)
        world.do("set_config", {"speculation.enabled": True}, by="operator")
        world.do("chain_connection", ConnectionStatus.CONNECTED)
        self.restart()
        world.run_until_quiet()

    def _try(self, command: str, *args: Any, **kwargs: Any) -> None:
        try:
            self.world.do(command, *args, **kwargs)
        except CoreError as error:
            self.refused.add(error.code)

    # -- agents --------------------------------------------------------------------------------

    def submit(self, random: Random) -> None:
        count = random.choice((1, 1, 2, 4))
        ahead = [f"op{self.count + number + 1}" for number in range(count)] if count > 1 else []
        items = [self._submission(random, ahead) for _ in range(count)]
        random.shuffle(items)
        for verdict in self.world.do("submit", items):
            if verdict.error is not None:
                self.refused.add(verdict.error.code)

    def _submission(self, random: Random, ahead: Sequence[str]) -> Submission:
        state = self.world.state
        self.count += 1
        known = [*list(state.live)[-6:], *list(state.confirmed_outputs)[-2:]]
        known += [one for one in ahead if random.random() < 0.5]
        parents = random.sample(known, min(len(known), random.choice((0, 1, 1, 2, 3))))
        task = random.randint(0, 40) if random.random() < 0.4 else 1_000 + self.count
        changes: dict[str, Any] = {
            "task": f"task-{task}",
            "output": f"output-{task}-{random.randint(0, 1)}",
            "operation_type": random.choice("ab"),
            "priority": random.randint(0, 2),
            "deadline_ms": random.choice((None, self.world.now_ms + 5_000)),
        }
        agent = random.choice(AGENTS)
        orphaned = [one for one in state.orphans if one in state.ended]
        if orphaned and random.random() < 0.7:
            old = state.ended[random.choice(orphaned)]
            agent, parents = old.agent_id, [one for one in old.parents if state.commitment_of(one)]
            changes |= {"retry_of": old.operation_id, "task": old.task_id}
            changes |= {"output_commitment": old.output_commitment, "constraint_hash": old.constraint_hash}
        return self.world.submission(f"op{self.count}", *parents, agent=agent, **changes)

    def extend(self, random: Random) -> None:
        """Build on one of the latest operations."""
        latest = list(self.world.state.live)[-3:]
        if latest:
            self.count += 1
            parent = random.choice(latest)
            agent = random.choice((*AGENTS, *[self.world.state.live[parent].agent_id] * 3))
            self.world.try_submit(f"op{self.count}", parent, agent=agent)

    def cancel(self, random: Random) -> None:
        if self.world.state.live:
            self._try("cancel", random.choice(list(self.world.state.live)))

    def move_lamports(self, random: Random) -> None:
        agent, lamports = random.choice(AGENTS), random.randint(1, 5_000_000)
        command = random.choice(("deposit", "withdraw", "delegate"))
        if command == "delegate":
            self._try(command, agent, random.choice(AGENTS), lamports * random.randint(0, 1))
        else:
            self._try(command, agent, lamports)

    def register_or_claim(self, random: Random) -> None:
        live = [one.task_id for one in self.world.state.live.values()]
        task_id = random.choice(live) if live and random.random() < 0.5 else f"task-{random.randint(0, 40)}"
        outputs = (f"output-{task_id[5:]}-0", f"output-{task_id[5:]}-1", f"output-of-{task_id}", None)
        output = random.choice(outputs)
        constraint = None if output is None else digest("C", output)
        self._try("register_task", task_id, constraint_hash=constraint, claim_ttl_ms=90_000)
        if random.random() < 0.3:
            self._try("claim_task", task_id, random.choice(AGENTS))

    def ask_for_an_output(self, random: Random) -> None:
        known = [*self.world.state.live, *self.world.state.ended]
        if known:
            self._try("output_decision", random.choice(AGENTS), random.choice(known))

    # -- workers -------------------------------------------------------------------------------

    def start(self, random: Random) -> None:
        self.world.start()

    def prove(self, random: Random) -> None:
        if self.world.running:
            self.world.prove(random.choice(list(self.world.running)))

    def fail_at_the_worker(self, random: Random) -> None:
        if self.world.running:
            batch_id = random.choice(list(self.world.running))
            self.world.fail_batch(batch_id, random.choice(FAILURES), random.choice((None, None, 0, 3)))

    # -- chain ---------------------------------------------------------------------------------

    def send(self, random: Random) -> None:
        self.world.send_due()

    def confirm(self, random: Random) -> None:
        due = self.world.engine.transactions_open()
        if due:
            self.world.confirm(random.choice(due).transaction)

    def kill_a_transaction(self, random: Random) -> None:
        due = self.world.engine.transactions_open()
        if due:
            self.world.see(random.choice(due).transaction, random.choice(DEAD))

    def refuse(self, random: Random) -> None:
        due = self.world.engine.transactions_open()
        if due:
            one = random.choice(due)
            count = len(self.world.state.batch(one.batch_id).operation_ids)
            indices = random.sample(range(count), random.randint(0, min(2, count)))
            self.world.refuse(one.transaction, random.choice(CODES), *indices)

    def hear_anything(self, random: Random) -> None:
        """The chain says something about some transaction, old or confirmed ones included."""
        kept = (self.world.state.batches, self.world.state.ended_batches)
        known = [one for one in self.world.chain if any(one.rpartition(":")[0] in some for some in kept)]
        if known:
            self.world.see(random.choice(known[-6:]), random.choice(list(TransactionStatus)))

    def connect(self, random: Random) -> None:
        self.world.do("chain_connection", random.choice((*ConnectionStatus, ConnectionStatus.CONNECTED)))

    # -- time and operators --------------------------------------------------------------------

    def wait(self, random: Random) -> None:
        self.world.advance(random.choice((100, 400, 400, 2_000, 5_000, 31_000, 70_000)))

    def configure(self, random: Random) -> None:
        key = random.choice(list(SETTINGS))
        self.world.configure(**{key: random.choice(SETTINGS[key])})

    def enable(self, random: Random) -> None:
        self.world.configure(enabled=True)
        self.world.do("set_config", {"speculation.enabled": True}, by="operator")

    def stop(self, random: Random) -> None:
        action = random.choice(("drain_speculation", "disable_speculation"))
        self.world.do("emergency", action, force=random.random() < 0.3, deadline_s=5, by="operator")

    def clear_queue(self, random: Random) -> None:
        self.world.do("clear_queue", by="operator")

    def time_out_stale(self, random: Random) -> None:
        self.world.do("timeout_stale", random.choice((10, 60)), by="operator")

    def reset_breaker(self, random: Random) -> None:
        self.world.do("reset_breaker", by="operator")

    def crash(self, random: Random) -> None:
        self.restart()

    def restart(self) -> None:
        """A new engine from a snapshot; what workers were doing is lost."""
        world = self.world
        body = world.state.dump()
        state = CoreState.load(body)
        assert state.dump() == body
        world.engine = Engine(state, world.config)
        world.engine.set_workers(world.workers)
        world.running.clear()
        world.do("resume")


WEIGHTED: dict[Callable[[Chaos, Random], None], int] = {
    Chaos.submit: 20,
    Chaos.extend: 20,
    Chaos.start: 20,
    Chaos.prove: 20,
    Chaos.send: 16,
    Chaos.confirm: 10,
    Chaos.wait: 10,
    Chaos.fail_at_the_worker: 4,
    Chaos.kill_a_transaction: 4,
    Chaos.refuse: 4,
    Chaos.hear_anything: 2,
    Chaos.cancel: 2,
    Chaos.move_lamports: 2,
    Chaos.register_or_claim: 4,
    Chaos.ask_for_an_output: 1,
    Chaos.connect: 1,
    Chaos.configure: 4,
    Chaos.enable: 4,
    Chaos.stop: 1,
    Chaos.clear_queue: 2,
    Chaos.time_out_stale: 1,
    Chaos.reset_breaker: 1,
    Chaos.crash: 1,
}
_ACTIONS = list(WEIGHTED)
_WEIGHTS = list(WEIGHTED.values())
