"""Random commands against a model chain and model workers: invariants after every event, replay equality after every
command, and at the end everything that is left gets done, to the last lamport."""

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from coordinator.core.state import replay
from coordinator.core.states import TERMINAL, TRANSITIONS, OperationState, RollbackPolicy
from tests.coordinator.core.chaos import Chaos
from tests.coordinator.core.world import World, transitions


def finish(chaos: Chaos) -> None:
    """All work ends, nothing is left over, and the log tells the whole state."""
    chaos.finish()
    state = chaos.world.state
    assert not any(state.counts[one] for one in OperationState if one not in TERMINAL)
    assert state.commitments == state.locked_lamports == state.branches == state.snapshots == 0
    assert state.open_bytes == state.queued_rows == 0
    ready = state.ready
    left = [state.live, state.batches, state.orphans, state.held, state.depth_counts, state.task_live]
    assert not any([*left, state.task_in_flight, state.due, ready.closed, ready.dependent, ready.groups])
    assert all(not agent.commitments and not agent.open_operations for agent in state.agents.values())
    assert all(not agent.bonded_lamports for agent in state.agents.values())
    assert replay(chaos.world.events, retained=chaos.world.retained).dump() == state.dump()


def tell(seed: int, policy: RollbackPolicy, *, steps: int) -> None:
    """One story; some worlds forget ended operations at once, some never."""
    random = Random(seed)
    chaos = Chaos(World(workers=["w1", "w2"], retained=8 if seed % 2 else 10_000), policy)
    for _ in range(steps):
        chaos.step(random)
    finish(chaos)
    allowed = {(before, after) for before, states in TRANSITIONS.items() for after in states}
    assert transitions(chaos.world.state.ended.values()) <= allowed


@pytest.mark.parametrize("policy", RollbackPolicy)
@pytest.mark.parametrize("seed", range(8))
def test_a_seed_keeps_all_promises(seed: int, policy: RollbackPolicy) -> None:
    tell(seed, policy, steps=250)


@pytest.mark.long
@pytest.mark.parametrize("policy", RollbackPolicy)
def test_many_seeds_keep_all_promises(policy: RollbackPolicy) -> None:
    for seed in range(100, 200):
        try:
            tell(seed, policy, steps=400)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


class RandomWorld(RuleBasedStateMachine):
    @initialize(policy=st.sampled_from(RollbackPolicy), retained=st.sampled_from([4, 1_000]))
    def begin(self, policy: RollbackPolicy, retained: int) -> None:
        self.chaos = Chaos(World(workers=["w1", "w2"], retained=retained), policy)

    @rule(random=st.randoms(use_true_random=False))
    def step(self, random: Random) -> None:
        self.chaos.step(random)

    def teardown(self) -> None:
        if hasattr(self, "chaos"):
            finish(self.chaos)


TestRandomWorlds = RandomWorld.TestCase
TestRandomWorlds.settings = settings(
    max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
