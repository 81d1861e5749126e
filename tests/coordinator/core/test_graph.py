"""The graph's questions: a remembered lineage is the one that a walk finds, whatever happened in between."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.graph import lineage, unconfirmed_ancestors
from tests.coordinator.core.world import World

#: What happens next: a child of so many of the latest operations, or one of them is confirmed or cancelled.
_STEPS = st.lists(
    st.one_of(st.integers(0, 3), st.sampled_from(["confirm", "cancel"])), min_size=1, max_size=14
)


@given(_STEPS)
def test_a_remembered_lineage_is_what_a_walk_finds(steps: list[int | str]) -> None:
    world = World(check=False)
    agents = [world.agent("alice"), world.agent("bob")]
    for number, step in enumerate(steps):
        live = list(world.state.live)
        if step == "confirm":
            world.run_until_quiet()
        elif step == "cancel":
            if live:
                world.do("cancel", live[len(live) // 2])
        else:
            assert isinstance(step, int)
            world.submit(f"op{number}", *live[len(live) - step :], agent=agents[number % 2])
        for operation in world.state.live.values():
            walked = Counter(
                (one.agent_id, one.operation_type) for one in unconfirmed_ancestors(world.state, [operation])
            )
            assert lineage(world.state, [operation]) == walked
