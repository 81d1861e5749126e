"""The speculation decision: an ordered list of small rules; the first that denies, decides. Read it as a table.

Asked when an agent wants a parent's output, and again, bindingly, when the child is submitted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from coordinator.core import breaker, limits
from coordinator.core.config import CoreConfig
from coordinator.core.events import Decision
from coordinator.core.graph import Kind, lineage, unconfirmed_ancestors
from coordinator.core.records import Agent, Operation
from coordinator.core.stake import find_payer, required_bond
from coordinator.core.states import BreakerState, Denial, RollbackPolicy

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

GRANTED = "granted"
COMMITTED = "committed"
#: Confirmation latency expected before any was seen.
INITIAL_LATENCY_MS = 3_000.0
#: 499 in 500 confirm, before anything is known of anyone: with less, a fresh system would not dare to go twenty
#: deep. An agent's type then starts from what all agents together have shown, which weighs as much as two outcomes of
#: its own, so that a bad agent is found out at once.
PRIOR_GOOD, PRIOR_BAD = 499.0, 1.0
PRIOR_WEIGHT = 2.0
#: Under the checkpoint policy only every fourth depth keeps a snapshot: 1, 5, 9 …
CHECKPOINT_DEPTHS = 4


class Question:
    """May this agent speculate on these parents now? Holds what the rules look at, the costly parts when asked for."""

    __slots__ = (
        "agent",
        "bond_lamports",
        "branches",
        "claim_margin_ms",
        "config",
        "depth",
        "foreign_parent",
        "gain_ms",
        "loss_ms",
        "max_branches",
        "memory_bytes",
        "now_ms",
        "parents",
        "payer",
        "probability",
        "snapshot",
        "state",
        "task_id",
        "unbonded_parent",
    )

    def __init__(
        self,
        state: "CoreState",
        config: CoreConfig,
        *,
        agent: Agent,
        parents: Sequence[Operation],
        task_id: str | None,
        memory_bytes: int,
        now_ms: int,
    ) -> None:
        """`parents`: the unconfirmed ones, at least one; `task_id`: the child's task where it is known."""
        self.state = state
        self.config = config
        self.agent = agent
        self.parents = parents
        self.task_id = task_id
        self.memory_bytes = memory_bytes
        self.now_ms = now_ms
        self.max_branches = config.max_parallel_branches if config.parallel_speculation else 1
        # The child becomes a leaf; those of its parents that were leaves of this agent's no longer are.
        depth, branches = 0, agent.branches + 1
        self.foreign_parent = self.unbonded_parent = False
        for parent in parents:
            depth = max(depth, state.depth_of(parent))
            if parent.agent_id != agent.agent_id:
                self.foreign_parent = True
            elif parent.speculative and not parent.granted_children:
                branches -= 1
            if not parent.committed:
                self.unbonded_parent = True
        self.depth = depth + 1
        self.branches = branches
        self.bond_lamports = required_bond(config, self.depth)
        self.payer = find_payer(state.agents, agent, self.bond_lamports, config)
        self.snapshot = takes_snapshot(config, self.depth)
        self.claim_margin_ms: int | None = None
        self.probability = self.gain_ms = self.loss_ms = 0.0

    def find_claims(self) -> None:
        """Set the time left of the shortest claim that the agent or an ancestor's agent holds on its task, if any."""
        tasks = self.state.tasks
        if not tasks:
            return
        held = [
            (ancestor.task_id, ancestor.agent_id)
            for ancestor in unconfirmed_ancestors(self.state, self.parents)
        ]
        if self.task_id is not None:
            held.append((self.task_id, self.agent.agent_id))
        for task_id, agent_id in held:
            task = tasks.get(task_id)
            if task is not None and task.claimed_by == agent_id:
                left_ms = task.claim_expires_ms - self.now_ms
                if self.claim_margin_ms is None or left_ms < self.claim_margin_ms:
                    self.claim_margin_ms = left_ms

    def weigh(self) -> None:
        """Set the expected gain (the wait for the parents saved, when all ancestors confirm) and the expected loss
        (what must be done again when one does not)."""
        latency_ms = self.state.totals.latency_ema_ms
        if latency_ms is None:
            latency_ms = INITIAL_LATENCY_MS
        self.probability = all_confirm(self.state, lineage(self.state, self.parents))
        self.gain_ms = latency_ms * self.probability
        self.loss_ms = latency_ms * (1.0 - self.probability)

    def decision(self, rule: str, denial: Denial | None) -> Decision:
        """What decided, with the numbers it saw (those that no rule had to look at are 0)."""
        payer = self.payer
        return Decision(
            rule,
            denial,
            self.probability,
            self.gain_ms,
            self.loss_ms,
            self.bond_lamports,
            self.config.max_depth,
            self.branches,
            self.max_branches,
            0 if payer is None else payer.bonded_lamports + self.bond_lamports,
            self.config.stake_max_lamports,
            self.claim_margin_ms,
            self.config.claim_buffer_ms,
        )


def takes_snapshot(config: CoreConfig, depth: int) -> bool:
    """Whether a speculative operation of this depth keeps a snapshot of its own."""
    if config.rollback_policy is RollbackPolicy.CHECKPOINT:
        return depth % CHECKPOINT_DEPTHS == 1
    return True


def all_confirm(state: "CoreState", counts: Mapping[Kind, int]) -> float:
    """Probability that so many operations of each kind all confirm, learned per agent and type.

    Operations of one agent's type succeed or fail with what is unknown about it in common, so k of them confirm with
    the Beta-binomial Π (a + i) / (a + b + i), i < k, not with the k-th power of the mean.
    """
    totals = state.totals
    mean = (PRIOR_GOOD + totals.good) / (PRIOR_GOOD + PRIOR_BAD + totals.good + totals.bad)
    probability = 1.0
    for (agent_id, operation_type), count in counts.items():
        seen = state.agents[agent_id].counts(operation_type)
        good = PRIOR_WEIGHT * mean + seen.good
        both = PRIOR_WEIGHT + seen.good + seen.bad
        for _ in range(count):
            probability *= good / both
            good += 1.0
            both += 1.0
    return probability


# -- the rules --------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """A denial and the question that decides it."""

    denial: Denial
    denies: Callable[[Question], bool]


def speculation_on(state: "CoreState", config: CoreConfig) -> bool:
    """Whether speculation is enabled and no operator's latch is set."""
    return config.enabled and state.totals.latch is None


def in_rollout(agent: Agent, config: CoreConfig) -> bool:
    """Whether the agent belongs to the part of the agents that the percentage lets in."""
    return config.rollout_percentage >= 100.0 or agent.rollout_position < config.rollout_percentage


def _disabled(question: Question) -> bool:
    return not speculation_on(question.state, question.config)


def _circuit_open(question: Question) -> bool:
    return breaker.refuses(question.state, question.config)


def _rollout(question: Question) -> bool:
    return not in_rollout(question.agent, question.config)


def _cooldown(question: Question) -> bool:
    return question.now_ms < question.agent.cooldown_until_ms


def _cross_agent(question: Question) -> bool:
    return question.foreign_parent and not question.config.cross_agent


def _unbonded_parent(question: Question) -> bool:
    return question.unbonded_parent


def _depth_limit(question: Question) -> bool:
    return question.depth > question.config.max_depth


def _branch_limit(question: Question) -> bool:
    return question.branches > question.max_branches


def _claim_window(question: Question) -> bool:
    question.find_claims()
    margin_ms = question.claim_margin_ms
    return margin_ms is not None and margin_ms <= question.config.claim_buffer_ms


def _pending_limit(question: Question) -> bool:
    return question.state.commitments >= question.config.max_pending_operations


def _snapshot_limit(question: Question) -> bool:
    return question.snapshot and question.state.snapshots >= question.config.max_state_snapshots


def _memory_limit(question: Question) -> bool:
    return limits.memory_exhausted(question.state, question.config, question.memory_bytes)


def _stake_insufficient(question: Question) -> bool:
    return question.payer is None


def _risk(question: Question) -> bool:
    question.weigh()
    # A probe of the half-open breaker goes ahead: it is how the numbers are found out again.
    probe = question.state.breaker.state is BreakerState.HALF_OPEN
    return question.loss_ms > question.gain_ms and not probe


RULES: tuple[Rule, ...] = (
    Rule(Denial.DISABLED, _disabled),
    Rule(Denial.CIRCUIT_OPEN, _circuit_open),
    Rule(Denial.ROLLOUT, _rollout),
    Rule(Denial.COOLDOWN, _cooldown),
    Rule(Denial.CROSS_AGENT, _cross_agent),
    Rule(Denial.UNBONDED_PARENT, _unbonded_parent),
    Rule(Denial.DEPTH_LIMIT, _depth_limit),
    Rule(Denial.BRANCH_LIMIT, _branch_limit),
    Rule(Denial.CLAIM_WINDOW, _claim_window),
    Rule(Denial.PENDING_LIMIT, _pending_limit),
    Rule(Denial.SNAPSHOT_LIMIT, _snapshot_limit),
    Rule(Denial.MEMORY_LIMIT, _memory_limit),
    Rule(Denial.STAKE_INSUFFICIENT, _stake_insufficient),
    Rule(Denial.RISK, _risk),
)


def decide(question: Question) -> Decision:
    """Grant, or deny by the first rule that does."""
    for denial, denies in RULES:
        if denies(question):
            return question.decision(denial.value, denial)
    return question.decision(GRANTED, None)


def decide_bond(
    state: "CoreState", config: CoreConfig, agent: Agent, *, now_ms: int
) -> tuple[Decision | None, Agent | None]:
    """Whether an operation of depth 0 bonds, and on whose balance.

    Every operation of an agent in rollout bonds, since others will build on it; one that cannot goes on unbonded (the
    rule says why), and its children without speculation. Outside the rollout there is nothing to decide.
    """
    if not speculation_on(state, config) or not in_rollout(agent, config):
        return None, None
    bond_lamports = required_bond(config, 0)
    payer: Agent | None = None
    if now_ms < agent.cooldown_until_ms:
        rule = Denial.COOLDOWN.value
    elif state.commitments >= config.max_pending_operations:
        rule = Denial.PENDING_LIMIT.value
    else:
        payer = find_payer(state.agents, agent, bond_lamports, config)
        rule = Denial.STAKE_INSUFFICIENT.value if payer is None else COMMITTED
    return Decision(
        rule=rule,
        denial=None,
        probability=1.0,
        gain_ms=0.0,
        loss_ms=0.0,
        stake_lamports=bond_lamports,
        max_depth=config.max_depth,
        bonded_lamports=0 if payer is None else payer.bonded_lamports + bond_lamports,
        max_stake_lamports=config.stake_max_lamports,
    ), payer
