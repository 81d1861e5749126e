"""A cluster of several hosts: they join, are taken over, lose power, are cut off, come back, and are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.hosts import CACHE, Host, Network, end, why_not
from workers.ray_runtime import LOOPBACK_ONLY, SLOT_RESOURCE, code_resource

BIN = Path(sys.executable).parent
OPERATOR = "an-operators-token-of-the-tests"
CLUSTER_TOKEN = "0123456789abcdef0123456789abcdef"
PATIENCE_S = 120.0

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.timeout(600),
]


class Cluster:
    """A head with its coordinator, and hosts that may join."""

    def __init__(self, network: Network, logs: Path) -> None:
        self.head, *self.hosts = network.hosts
        self.logs = logs
        self._coordinator: subprocess.Popen[bytes] | None = None
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != LOOPBACK_ONLY},
            "AGENC_ADMIN_TOKEN": OPERATOR,
            "AGENC_CACHE_DIR": str(CACHE),
            "AGENC_CHAIN_SLOT_MS": "50",
            "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
            "AGENC_SPECULATION_PROOF_WORKER_THREADS": "4",
            "HOME": "/dev/shm",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": CLUSTER_TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_failure_threshold": "3",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
        }

    def start_head(self) -> None:
        started = self.head.run(
            [
                BIN / "ray",
                "start",
                "--head",
                f"--node-ip-address={self.head.address}",
                "--port=6379",
                "--num-cpus=1",
                "--object-store-memory=100000000",
                "--disable-usage-stats",
                "--include-dashboard=false",
            ],
            environ=self.environ,
            timeout_s=PATIENCE_S,
        )
        assert started.returncode == 0, started.stdout + started.stderr

    def start_coordinator(self) -> None:
        with (self.logs / "coordinator.log").open("ab") as log:
            self._coordinator = self.head.start(
                [BIN / "agenc", "up", "--ray-address", "auto", "--data-dir", "/dev/shm/data"],
                environ=self.environ,
                log=log,
            )

    def kill_coordinator(self) -> None:
        assert self._coordinator is not None
        end(self._coordinator, signal.SIGKILL)
        self._coordinator.wait()

    def join(self, host: Host, *, slots: int = 2, token: str = CLUSTER_TOKEN) -> "subprocess.Popen[bytes]":
        with (self.logs / f"{host.namespace}.log").open("ab") as log:
            return host.start(
                [
                    BIN / "agenc",
                    "worker",
                    "--ray-address",
                    f"{self.head.address}:6379",
                    "--slots",
                    str(slots),
                    "--node-address",
                    host.address,
                ],
                environ=self.environ | {"RAY_AUTH_TOKEN": token},
                log=log,
            )

    def get(self, host: Host, url: str) -> Any:
        """The JSON at a URL as that host sees it; None while nobody answers."""
        answer = host.run(["curl", "-s", "--max-time", "5", url], environ=self.environ)
        return json.loads(answer.stdout) if answer.returncode == 0 and answer.stdout else None

    def workers(self) -> dict[str, Any]:
        return self.get(self.head, "http://127.0.0.1:9090/admin/workers") or {}

    def running(self) -> int:
        return int(self.workers().get("running", -1))

    def said(self, host: Host) -> str:
        return (self.logs / f"{host.namespace}.log").read_text()

    def coordinator_said(self) -> str:
        return (self.logs / "coordinator.log").read_text()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Network(4) as network:
        cluster = Cluster(network, tmp_path_factory.mktemp("hosts"))
        cluster.start_head()
        cluster.start_coordinator()
        yield cluster


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.3)


def ids_at(cluster: Cluster, host: Host) -> list[str]:
    """The workers that the host's own endpoint shows."""
    health = cluster.get(host, "http://127.0.0.1:9091/health") or {"workers": []}
    return [worker["id"] for worker in health["workers"]]


def reboot(host: Host) -> Host:
    """The host with nothing on it, whatever the test before did."""
    host.power_off()
    host.boot()
    return host


def leave(host: Host, command: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, as a pod gets it that is to go, and the host off."""
    end(command)
    assert command.wait(60) == 0
    host.power_off()


def test_workers_outlive_the_coordinator_and_are_replaced_when_their_host_loses_power(
    cluster: Cluster,
) -> None:
    first, second, _ = cluster.hosts
    cluster.join(first)
    until(lambda: cluster.running() == 2, "the slots of a host that joined are not filled")
    assert ids_at(cluster, first) == ["w-1", "w-2"]

    cluster.kill_coordinator()
    assert ids_at(cluster, first) == ["w-1", "w-2"], "workers died with the coordinator"
    cluster.start_coordinator()
    until(lambda: cluster.running() == 2, "a new coordinator does not take the workers over")
    assert cluster.coordinator_said().count('"adopted":true') == 2

    other = cluster.join(second)
    until(lambda: cluster.running() == 4, "a second host gets no workers")
    first.power_off()
    until(lambda: cluster.workers().get("target") == 2, "the dead host still counts")
    until(lambda: cluster.running() == 2, "the other host's workers are gone too")
    assert len(ids_at(cluster, second)) == 2
    second.power_off()
    other.wait()


@pytest.mark.long
def test_a_host_drains_on_sigterm_and_comes_back(cluster: Cluster) -> None:
    host = reboot(cluster.hosts[2])
    command = cluster.join(host)
    until(lambda: cluster.running() == 2, "the host gets no workers")
    leave(host, command)
    until(lambda: cluster.workers().get("target") == 0, "the host that left still counts")
    host.boot()
    cluster.join(host)
    until(lambda: cluster.running() == 2, "a host that came back gets no workers")
    host.power_off()
    until(lambda: cluster.workers().get("target") == 0, "the dead host still counts")


@pytest.mark.long
def test_a_host_that_is_cut_off_is_survived_and_may_join_again(cluster: Cluster) -> None:
    host = reboot(cluster.hosts[2])
    command = cluster.join(host)
    until(lambda: cluster.running() == 2, "the host gets no workers")
    host.plug(into=False)
    until(lambda: cluster.workers().get("target") == 0, "the host that was cut off still counts")
    host.plug(into=True)
    # Ray ends a node that was given up for dead: its command ends, and whatever keeps it running starts it anew.
    assert command.wait(PATIENCE_S) != 0
    cluster.join(host)
    until(lambda: cluster.running() == 2, "a host that was cut off gets no workers again")
    host.power_off()
    until(lambda: cluster.workers().get("target") == 0, "the dead host still counts")


@pytest.mark.long
def test_a_replay_goes_on_when_a_host_dies_under_it(cluster: Cluster) -> None:
    one, other = reboot(cluster.hosts[2]), reboot(cluster.hosts[1])
    cluster.join(one)
    cluster.join(other)
    until(lambda: cluster.running() == 4, "the hosts get no workers")
    with (cluster.logs / "replay.log").open("wb") as log:
        replay = cluster.head.start(
            [
                BIN / "agenc",
                "run",
                "--url",
                "http://127.0.0.1:9090",
                "--report",
                "/dev/shm/report.json",
                "--time-scale",
                "0.5",
                "--out",
                "/dev/shm/run",
            ],
            environ=cluster.environ,
            log=log,
        )
        time.sleep(8)
        one.power_off()
        code = replay.wait(300)
    assert code == 0, (cluster.logs / "replay.log").read_text()
    report = json.loads(cluster.head.run(["cat", "/dev/shm/report.json"], environ=cluster.environ).stdout)
    for run in report["runs"]:
        assert run["confirmed"] == report["tasks"]
        assert all(run["invariants"].values()), run["invariants"]
    other.power_off()
    until(lambda: cluster.workers().get("target") == 0, "the dead hosts still count")


@pytest.mark.long
def test_who_has_another_token_does_not_join(cluster: Cluster) -> None:
    host = reboot(cluster.hosts[2])
    command = cluster.join(host, token="f" * 32)
    assert command.wait(PATIENCE_S) != 0
    assert "Ray at" in cluster.said(host)
    assert cluster.workers()["target"] == 0


@pytest.mark.long
def test_a_host_with_other_code_gets_no_workers_and_the_operator_reads_why(cluster: Cluster) -> None:
    host = reboot(cluster.hosts[2])
    offered = json.dumps({SLOT_RESOURCE: 2, code_resource("0123456789ab"): 2})
    joined = host.run(
        [
            BIN / "ray",
            "start",
            f"--address={cluster.head.address}:6379",
            f"--resources={offered}",
            f"--node-ip-address={host.address}",
            "--num-cpus=1",
            "--disable-usage-stats",
        ],
        environ=cluster.environ,
        timeout_s=PATIENCE_S,
    )
    assert joined.returncode == 0, joined.stdout
    until(lambda: bool(cluster.workers().get("refused_hosts")), "nobody tells of the refused host")
    (reason,) = cluster.workers()["refused_hosts"]
    assert host.address in reason
    assert "other code (0123456789ab)" in reason
    assert cluster.workers()["target"] == 0
    host.power_off()
