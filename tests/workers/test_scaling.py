"""How many workers there should be, and which go first."""

from hypothesis import given
from hypothesis import strategies as st

from workers.messages import ScaleLimit, WorkerState
from workers.scaling import new_numbers, target, who_goes

counts = st.integers(0, 40)
numbers = st.sets(st.integers(1, 40))


@given(desired=st.integers(1, 40), slots=counts, memory=counts)
def test_the_target_is_the_least_of_all_and_says_which(desired: int, slots: int, memory: int) -> None:
    reached, limit = target(desired, slots=slots, memory_workers=memory)
    assert reached == min(desired, slots, max(1, memory))
    assert (limit is None) == (reached == desired)
    if limit is ScaleLimit.SLOTS:
        assert reached == slots
    if limit is ScaleLimit.MEMORY:
        assert reached == max(1, memory)


@given(taken=numbers, count=counts)
def test_new_numbers_are_the_lowest_free_ones(taken: set[int], count: int) -> None:
    new = new_numbers(taken, count)
    assert len(new) == count
    assert taken.isdisjoint(new)
    assert not count or set(range(1, new[-1])) <= taken | set(new)


STATES = st.sampled_from([WorkerState.WAITING, WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY])


@given(workers=st.dictionaries(st.integers(1, 40), STATES), count=counts)
def test_a_busy_worker_goes_only_when_nobody_else_is_left(
    workers: dict[int, WorkerState], count: int
) -> None:
    going = who_goes(list(workers.items()), count)
    assert len(going) == min(count, len(workers))
    staying = set(workers) - set(going)
    if any(workers[number] is WorkerState.BUSY for number in going):
        assert all(workers[number] is WorkerState.BUSY for number in staying)


def test_among_equals_the_newest_goes() -> None:
    idle = WorkerState.IDLE
    assert who_goes([(1, idle), (2, idle), (3, WorkerState.BUSY)], 1) == [2]
