"""The 9091 endpoint: what it shows of a report, and how it takes and leaves its port."""

import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from workers.messages import (
    FAILURE_TYPES,
    GENERATION_BUCKETS_S,
    PoolReport,
    PoolScale,
    ScaleLimit,
    StartError,
    StartErrorCode,
    WorkerInfo,
    WorkerState,
)
from workers.node import NodeServer, health_of
from workers.node_metrics import NODE_METRICS

IDLE = WorkerInfo(
    worker_id="w-1",
    state=WorkerState.IDLE,
    backend="cpu",
    pid=4711,
    restarts=2,
    batch_id=None,
    busy_s=None,
    batches=9,
    failures=1,
    permutations=1000,
    utilization=0.25,
    startup_s=1.5,
    rss_bytes=1 << 28,
    last_error="timeout",
)
BUSY = replace(IDLE, worker_id="w-2", state=WorkerState.BUSY, batch_id="b-7", busy_s=0.5, utilization=1.0)
DEAD = replace(IDLE, worker_id="w-3", state=WorkerState.WAITING, backend=None, pid=None, utilization=0.0)

REPORT = PoolReport(
    scale=PoolScale(desired=4, running=2, target=3, limited_by=ScaleLimit.SLOTS),
    workers=(IDLE, BUSY, DEAD),
    queue_size=17,
    failures={"timeout": 2, "worker_lost": 1},
    permutations=123_456,
    generation_counts=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    generation_sum_s=12.5,
)
NONE = PoolReport(
    scale=PoolScale(desired=1, running=0, target=1, limited_by=None),
    workers=(),
    queue_size=0,
    generation_counts=(0,) * (len(GENERATION_BUCKETS_S) + 1),
)


class Shown:
    """A server and the report it shows at the moment."""

    def __init__(self) -> None:
        self.report = REPORT
        self.server = NodeServer(lambda: self.report, port=0)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{self.server.port}{path}")


@pytest.fixture
async def shown() -> AsyncIterator[Shown]:
    made = Shown()
    await made.server.start()
    yield made
    await made.server.stop()


async def test_health_tells_each_worker(shown: Shown) -> None:
    answer = await shown.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "degraded"
    assert (body["desired"], body["running"], body["limited_by"]) == (4, 2, "slots")
    assert body["queue_size"] == 17
    told = [(w["id"], w["up"], w["busy"], w["backend"], w["batches"], w["failures"]) for w in body["workers"]]
    assert told == [
        ("w-1", True, False, "cpu", 9, 1),
        ("w-2", True, True, "cpu", 9, 1),
        ("w-3", False, False, None, 9, 1),
    ]


@pytest.mark.parametrize(("running", "status"), [(0, "unhealthy"), (1, "degraded"), (3, "healthy")])
def test_health_follows_the_workers_that_may_run(running: int, status: str) -> None:
    scale = replace(REPORT.scale, running=running)
    assert health_of(replace(REPORT, scale=scale))["status"] == status


async def test_ready_needs_one_worker(shown: Shown) -> None:
    assert (await shown.get("/ready")).status_code == 200
    shown.report = NONE
    assert (await shown.get("/ready")).status_code == 503
    assert (await shown.get("/health")).status_code == 200, "health is liveness"


async def test_metrics_say_what_the_report_says(shown: Shown) -> None:
    answer = await shown.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples[("proof_queue_size", ())] == 17
    assert samples[("proof_permutations_total", ())] == 123_456
    for worker, up, share in (("w-1", 1, 0.25), ("w-2", 1, 1.0), ("w-3", 0, 0.0)):
        assert samples[("proof_worker_up", (("worker", worker),))] == up
        assert samples[("proof_worker_utilization", (("worker", worker),))] == share
        assert samples[("proof_worker_batches_total", (("worker", worker),))] == 9
    assert samples[("proof_worker_device", (("device", "cpu"),))] == 2
    failures = {key[1][0][1]: value for key, value in samples.items() if key[0] == "proof_failures_total"}
    assert failures == dict.fromkeys(FAILURE_TYPES, 0) | {"timeout": 2, "worker_lost": 1}
    assert samples[("proof_generation_seconds_bucket", (("le", "0.1"),))] == 1
    assert samples[("proof_generation_seconds_bucket", (("le", "+Inf"),))] == 10
    assert samples[("proof_generation_seconds_count", ())] == 10
    assert samples[("proof_generation_seconds_sum", ())] == 12.5


async def test_exactly_the_metrics_of_the_table_are_shown(shown: Shown) -> None:
    for report in (REPORT, NONE):
        shown.report = report
        text = (await shown.get("/metrics")).text
        told = {
            line.split(" ", 3)[2]: line.split(" ", 3)[3] for line in text.splitlines() if "# HELP" in line
        }
        assert told == {name: metric.help for name, metric in NODE_METRICS.items()}


async def test_types_and_labels_are_the_tables(shown: Shown) -> None:
    seen = {}
    for family in text_string_to_metric_families((await shown.get("/metrics")).text):
        metric = NODE_METRICS.get(family.name) or NODE_METRICS[f"{family.name}_total"]
        assert family.type == metric.kind
        names = [label.name for label in metric.labels]
        for sample in family.samples:
            assert [name for name in sample.labels if name != "le"] == names, sample
        for label in metric.labels:
            assert len({sample.labels[label.name] for sample in family.samples}) <= label.bound
        seen[metric.name] = family
    assert seen.keys() == NODE_METRICS.keys()


async def test_a_worker_that_left_leaves_no_series(shown: Shown) -> None:
    assert 'worker="w-2"' in (await shown.get("/metrics")).text
    shown.report = replace(REPORT, workers=(IDLE,))
    assert 'worker="w-2"' not in (await shown.get("/metrics")).text


async def test_other_paths_and_methods_are_refused(shown: Shown) -> None:
    assert (await shown.get("/admin")).status_code == 404
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{shown.server.port}/health")
    assert answer.status_code == 405


async def test_a_taken_port_is_told(shown: Shown) -> None:
    second = NodeServer(lambda: REPORT, port=shown.server.port)
    with pytest.raises(StartError) as told:
        await second.start()
    assert told.value.code is StartErrorCode.PORT_TAKEN
    assert str(shown.server.port) in str(told.value)
    await second.stop()
    assert (await shown.get("/health")).status_code == 200, "the first goes on"


async def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(StartError) as told:
        await NodeServer(lambda: REPORT, host="192.0.2.1", port=0).start()
    assert told.value.code is StartErrorCode.ADDRESS_UNUSABLE


async def test_a_stopped_server_frees_its_port() -> None:
    server = NodeServer(lambda: REPORT, port=0)
    await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
    again = NodeServer(lambda: REPORT, port=port)
    await again.start()
    await again.stop()
