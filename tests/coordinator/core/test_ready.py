"""The ready queue against a plain sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.ready import ReadyKey, ReadyQueue

KEYS = st.integers(0, 30).map(lambda number: (number % 3, -(number % 2), number, f"op{number}"))


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=300))
def test_it_is_a_sorted_set(steps: list[tuple[bool, ReadyKey]]) -> None:
    queue = ReadyQueue()
    model: dict[str, ReadyKey] = {}
    for adds, key in steps:
        if adds:
            queue.add(key)
            model[key[3]] = key
        else:
            assert queue.discard(key[3]) is (model.pop(key[3], None) is not None)
        assert list(queue) == [one[3] for one in sorted(model.values())]
        assert len(queue) == len(model)
        assert (key[3] in queue) is (key[3] in model)


def test_it_does_not_grow_with_what_has_left() -> None:
    queue = ReadyQueue()
    for number in range(10_000):
        queue.add((0, 0, number, f"op{number}"))
        if number >= 5:
            queue.discard(f"op{number - 5}")
    assert len(queue._entries) < 200
