"""Traces, as a real little OTLP collector receives them over HTTP: the collector is the test's, the exporter real."""

from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.core.states import OperationState
from coordinator.settings import Settings
from coordinator.shell import tracing
from coordinator.shell.tracing import MAX_TRACES_PER_S, Tracing, open_tracing, trace_id_of
from tests.coordinator.core.world import World

pytest.importorskip("opentelemetry.sdk", reason="the extra `tracing` is not installed")

from tests.coordinator.otlp import Collector, attributes, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def opened(world: World, endpoint: str, ratio: str = "1") -> Tracing:
    settings = Settings.load(
        "test", None, {"AGENC_TRACING_ENDPOINT": endpoint, "AGENC_TRACING_SAMPLE_RATIO": ratio}
    )

    def operations_of(event: Any) -> list[str]:
        if hasattr(event, "operation_ids"):
            return list(event.operation_ids)
        if hasattr(event, "operation_id"):
            return [event.operation_id]
        return list(world.state.batch(event.batch_id).operation_ids)

    made = open_tracing(settings, state=lambda: world.state, operations_of=operations_of)
    assert made is not None
    return made


def test_a_confirmed_operation_is_one_trace_from_admission_to_confirmation(collector: Collector) -> None:
    world = World()
    world.agent()
    made = opened(world, collector.endpoint)
    world.submit("a")
    world.submit("b", "a")
    world.advance(1_000)
    (batch_id,) = world.start()
    world.advance(2_000)
    world.prove(batch_id)
    (transaction,) = world.send_due()
    world.advance(3_000)
    world.confirm(transaction)
    made.hear(0, world.events)
    made.close()
    assert collector.services == {"agenc-prover"}
    roots = {
        attributes(span)["agenc.operation_id"]: span for span in collector.spans if span.name == "operation"
    }
    assert roots.keys() == {"a", "b"}
    root = roots["b"]
    assert root.trace_id == trace_id_of("b").to_bytes(16, "big")
    assert not root.parent_span_id
    assert root.end_time_unix_nano - root.start_time_unix_nano == 6_000_000_000
    assert [link.trace_id for link in root.links] == [trace_id_of("a").to_bytes(16, "big")]
    facts = attributes(root)
    assert (facts["agenc.state"], facts["agenc.depth"], facts["agenc.batch_id"]) == ("CONFIRMED", 1, batch_id)
    assert facts["agenc.speculated"] is True
    inside = [span for span in collector.spans if span.parent_span_id == root.span_id]
    assert [
        (span.name, (span.end_time_unix_nano - span.start_time_unix_nano) // 10**6) for span in inside
    ] == [
        ("wait_for_parents", 0),
        ("queue", 1_000),
        ("prove", 2_000),
        ("submit", 0),
        ("confirm", 3_000),
    ]
    assert {span.trace_id for span in inside} == {root.trace_id}


def test_a_rollback_is_an_error_with_its_reason(collector: Collector) -> None:
    world = World()
    world.agent()
    made = opened(world, collector.endpoint)
    world.submit("a")
    world.do("cancel", "a")
    made.hear(0, world.events)
    made.close()
    (root,) = [span for span in collector.spans if span.name == "operation"]
    assert (root.status.code, root.status.message) == (2, "cancelled")
    assert attributes(root)["agenc.state"] == OperationState.ROLLED_BACK


@pytest.mark.parametrize(("ratio", "low", "high"), [("0", 0, 0), ("0.5", 50, 110), ("1", 160, 160)])
def test_a_share_of_the_operations_is_traced(collector: Collector, ratio: str, low: int, high: int) -> None:
    world = World(check=False)
    world.agent()
    made = opened(world, collector.endpoint, ratio)
    for number in range(160):
        world.submit(f"op{number}")
    world.run_until_quiet()
    made.hear(0, world.events)
    made.close()
    assert low <= len([span for span in collector.spans if span.name == "operation"]) <= high


def test_no_more_than_so_many_a_second(collector: Collector) -> None:
    world = World(check=False)
    world.agent()
    made = opened(world, collector.endpoint)
    world.do("submit", [world.submission(f"op{number}") for number in range(2 * MAX_TRACES_PER_S)])
    world.run_until_quiet()
    made.hear(0, world.events)
    made.close()
    assert len([span for span in collector.spans if span.name == "operation"]) == MAX_TRACES_PER_S


def test_a_collector_that_is_not_there_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_EXPORT_TIMEOUT_S", 0.2)
    world = World()
    world.agent()
    made = opened(world, "http://127.0.0.1:9/v1/traces")
    world.submit("a")
    world.settle()
    made.hear(0, world.events)
    made.close()


def test_an_endpoint_that_is_no_address_stops_nothing() -> None:
    settings = Settings.load("test", None, {"AGENC_TRACING_ENDPOINT": "localhost:4318"})
    assert open_tracing(settings, state=World, operations_of=lambda _: ()) is None


def test_without_an_endpoint_there_are_no_traces() -> None:
    assert open_tracing(Settings.load("test", None, {}), state=World, operations_of=lambda _: ()) is None
