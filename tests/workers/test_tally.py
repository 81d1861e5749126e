"""What is counted for 9091: a histogram, failures by type, and the busy share of the last minute."""

from hypothesis import given
from hypothesis import strategies as st

from workers.messages import GENERATION_BUCKETS_S, BatchResult, ProofTimeout, WorkerLost
from workers.tally import UTILIZATION_WINDOW_S, Tally, Utilization


def result(prove_ms: int, permutations: int = 1) -> BatchResult:
    return BatchResult(
        batch_id="b",
        proof=b"",
        root=bytes(32),
        statements=(),
        prove_ms=prove_ms,
        phases={},
        permutations=permutations,
        rows=0,
        log_rows=0,
        backend="cpu",
    )


@given(times_ms=st.lists(st.integers(0, 100_000)))
def test_the_histogram_is_cumulative(times_ms: list[int]) -> None:
    tally = Tally()
    for time_ms in times_ms:
        tally.proved(result(time_ms))
    expected = [sum(t / 1000 <= bound for t in times_ms) for bound in GENERATION_BUCKETS_S]
    assert tally.generation_counts == (*expected, len(times_ms))
    assert abs(tally.generation_sum_s - sum(times_ms) / 1000) < 1e-6 * (1 + len(times_ms))
    assert tally.permutations == len(times_ms)


def test_failures_are_counted_by_type() -> None:
    tally = Tally()
    tally.failed(WorkerLost("w-1", "gone"))
    tally.failed(WorkerLost("w-2", "gone"))
    tally.failed(ProofTimeout("w-1", 1.0))
    assert tally.failures == {"worker_lost": 2, "timeout": 1}


@given(
    spans=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), max_size=20),
    busy=st.booleans(),
    tail=st.floats(0.001, 100),
)
def test_utilization_is_the_busy_part_of_the_window(
    spans: list[tuple[float, float]], busy: bool, tail: float
) -> None:
    now, use, worked = 0.0, Utilization(0.0), []
    for idle_s, busy_s in spans:
        use.begin(now + idle_s)
        use.end(now + idle_s + busy_s)
        worked.append((now + idle_s, now + idle_s + busy_s))
        now += idle_s + busy_s
    if busy:
        use.begin(now)
        worked.append((now, now + tail))
    now += tail
    opens = max(0.0, now - UTILIZATION_WINDOW_S)
    expected = sum(max(0.0, end - max(start, opens)) for start, end in worked) / (now - opens)
    assert abs(use.share(now) - expected) < 1e-6
    at_hand = use.busy_s(now)
    assert (at_hand is not None) == busy
    assert at_hand is None or abs(at_hand - tail) < 1e-6


def test_a_new_worker_has_no_utilization_yet() -> None:
    assert Utilization(5.0).share(5.0) == 0.0
