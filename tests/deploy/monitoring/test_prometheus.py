"""A real Prometheus scrapes a real run: every query of the dashboard returns data, every rule is evaluated."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from coordinator.client.errors import Conflict
from coordinator.client.sync import Client
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem, unique
from tests.deploy.monitoring.conftest import MONITORING, tool
from workers.statement import agent_key

SCRAPE_S = 1
#: What Grafana fills in; rates need two scrapes within it.
RATE_INTERVAL = "20s"
PATIENCE_S = 150.0

pytestmark = [pytest.mark.xdist_group("monitoring"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """A coordinator with mock proofs (what is proved does not matter here) and quick slots."""
    tool("prometheus")
    environ = {
        "AGENC_ADMIN_TOKEN": OPERATOR_TOKEN,
        "AGENC_ADMIN_WORKERS_PORT": "0",
        "AGENC_AGENTS_OPEN_REGISTRATION": "true",
        "AGENC_CHAIN_SLOT_MS": "100",
        "AGENC_SPECULATION_ENABLED": "true",
        "AGENC_SPECULATION_FEATURES_ENABLE_CROSS_AGENT_SPECULATION": "true",
        # Children wait unproved until their parents are confirmed: long enough to be cancelled.
        "AGENC_SPECULATION_FEATURES_ENABLE_OPTIMISTIC_PROOFS": "false",
        "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
        "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
        "AGENC_SPECULATION_STAKE_COOLDOWN_PERIOD_MS": "0",
    }
    running = RunningSystem(tmp_path_factory.mktemp("system"), environ)
    running.start()
    yield running
    running.stop()


class Load:
    """Agents that build on each other's results, cancel some, abandon a claim, and one that guesses a token."""

    def __init__(self, system: RunningSystem) -> None:
        self._url = system.url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._failure: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            one, two = self._register(), self._register()
            while not self._stopping.is_set():
                self._work(one, two)
                self._stopping.wait(0.2)
        except BaseException as failure:  # shown by whoever waits for the load
            self._failure = failure

    def _register(self) -> Actor:
        secret, agent_id = os.urandom(24), unique("agent")
        with Client(self._url) as client:
            made = client.register_agent(agent_id, agent_key=agent_key(secret), deposit_lamports=10**9)
        return Actor(agent_id, secret, made.token, self._url)

    def _work(self, one: Actor, two: Actor) -> None:
        with one.client as client, two.client as other:
            first = client.submit(one.body()).operation_id
            self._cancel(client, client.submit(one.body(None, first)).operation_id)
            task_id = unique("task")
            client.register_task(task_id, claim_ttl_s=600)
            client.claim_task(task_id)
            claimed = client.submit(one.body(None, first, task_id=task_id)).operation_id
            with suppress(Conflict):
                other.submit(two.body(None, claimed))
            # Its claim is abandoned while another has staked on it: slashed.
            self._cancel(client, claimed)
        for token in (OPERATOR_TOKEN, "guessed"):
            httpx.post(f"{self._url}/admin/gc", headers={"authorization": f"Bearer {token}"})

    def _cancel(self, client: Client, operation_id: str) -> None:
        with suppress(Conflict):  # too late, now and then: it is on its way to the chain
            client.cancel(operation_id)


class Prometheus:
    """A Prometheus over a configuration, asked through its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.is_success, (parameters, answer.text)
        return answer.json()["data"]

    def values(self, expression: str) -> list[float]:
        """The samples of an instant query that are numbers."""
        found = self.get("query", query=expression)["result"]
        return [value for sample in found if (value := float(sample["value"][1])) == value]


@pytest.fixture(scope="module")
def prometheus(system: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The shipped configuration, with this run's ports and a scrape a second."""
    folder = tmp_path_factory.mktemp("prometheus")
    shipped = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    shipped["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    shipped["rule_files"] = [str(MONITORING / "rules.yml")]
    ports = (system.url.rpartition(":")[2], str(system.service.parts.node.port))
    for job, port in zip(shipped["scrape_configs"], ports, strict=True):
        job["static_configs"] = [{"targets": [f"localhost:{port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped))
    with Load(system), started(folder) as running:
        yield running


@contextmanager
def started(folder: Path) -> Iterator[Prometheus]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    log = folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen([tool("prometheus"), *arguments], cwd=folder, stdout=said, stderr=said)
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not answers(f"http://{address}/-/ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def queries() -> list[tuple[str, str]]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return [
        (f"{panel['title']}: {target['legendFormat']}", target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus) -> None:
    missing = dict(queries())
    assert len(missing) > 30
    deadline_s = time.monotonic() + PATIENCE_S
    while missing and time.monotonic() < deadline_s:
        time.sleep(SCRAPE_S)
        for name, expression in list(missing.items()):
            if prometheus.values(expression.replace("$__rate_interval", RATE_INTERVAL)):
                del missing[name]
    assert not missing


def test_what_it_shows_is_what_happened(prometheus: Prometheus, system: RunningSystem) -> None:
    (rollbacks,) = prometheus.values('sum(speculation_operations_total{status="rolled_back"})')
    assert 0 < rollbacks <= system.service.engine.state.totals.rolled_back
    (slashed,) = prometheus.values('speculation_stake_slashed_total{reason="claim_abandoned"}')
    assert slashed > 0
    (refused,) = prometheus.values('sum(speculation_errors_total{error_type=~"unauthorized|rate_limited"})')
    assert refused > 0


def test_both_ports_are_scraped_without_an_error(prometheus: Prometheus) -> None:
    targets = prometheus.get("targets")["activeTargets"]
    assert {target["labels"]["job"]: target["lastError"] for target in targets} == {
        "agenc": "",
        "proof-workers": "",
    }


def test_every_rule_is_evaluated_and_a_slash_is_told(prometheus: Prometheus) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not prometheus.values('ALERTS{alertname="SpeculationAgentSlashed",alertstate="firing"}'):
        assert time.monotonic() < deadline_s
        time.sleep(SCRAPE_S)
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert len(rules) == 19
