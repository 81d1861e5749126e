"""The base's two pods, run as the manifests say on hosts made of namespaces: an operation is proved and confirmed."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.pod import Surroundings, script
from tests.deploy.rendering import by_name, rendered
from tests.deploy.test_images import CPU, last_stage, text_of
from tests.system.hosts import Host, Network, end, why_not

ADMIN_TOKEN = "a-token-for-the-pods-of-the-tests"
PATIENCE_S = 240.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

#: Registers an agent and sees one operation through; prints the state that it ends in.
_ONE_OPERATION = """
import secrets, sys
from coordinator.client import Client
from coordinator.submission import OperationBody
from workers.statement import agent_key

url, token = sys.argv[1:]
secret, salt = secrets.token_bytes(24), secrets.token_bytes(24)
with Client(url, token=token) as operator:
    agent = operator.register_agent("a", agent_key=agent_key(secret), deposit_lamports=10**9)
with Client(url, token=agent.token) as client:
    client.submit(OperationBody(
        operation_id="o", agent_id="a", task_id="t", operation_type="test", output=b"42", salt=salt, secret=secret
    ))
    print(client.wait("o", timeout_s=120).state)
"""


@dataclass
class Pod:
    """A deployment's pod on a host of its own."""

    name: str
    host: Host
    log: Path
    process: "subprocess.Popen[bytes]"

    def said(self) -> str:
        return self.log.read_text()

    def status(self, url: str, *, host_header: str | None = None) -> int:
        """The status of a GET from within the pod's network; 0 while nobody answers."""
        header = [] if host_header is None else ["-H", f"Host: {host_header}"]
        asked = self.host.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", *header, url],
            environ=os.environ,
        )
        return int(asked.stdout or 0)


def _image_environment() -> dict[str, str]:
    """The image's variables but for those that name its own files; kernels are this machine's, not the image's."""
    pairs = dict(re.findall(r"(\w+)=(\S+)", text_of(last_stage(CPU), "ENV")))
    return {
        name: pairs[name]
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "RAY_USAGE_STATS_ENABLED")
    }


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pod]]:
    logs = tmp_path_factory.mktemp("pods")
    with Network(2) as network:
        surroundings = Surroundings(
            secrets={("agenc-admin", "token"): ADMIN_TOKEN, ("agenc-ray", "auth_token"): "5" * 32},
            names={"agenc": network.hosts[0].address, "agenc-ray": network.hosts[0].address},
            image_environment=_image_environment(),
        )
        started = {}
        for name, host in zip(("agenc", "proof-workers"), network.hosts, strict=True):
            template = by_name(rendered("base"), "Deployment", name)["spec"]["template"]
            path = logs / f"{name}.log"
            with path.open("wb") as log:
                process = host.start(
                    ["unshare", "--mount", "bash", "-c", script(template, host, surroundings)],
                    environ=os.environ,
                    log=log,
                )
            started[name] = Pod(name, host, path, process)
            if name == "agenc":  # so that the worker does not wait for its head, as a restarted pod would
                _until(
                    lambda: started["agenc"].status("http://127.0.0.1:9090/ready") == 200, started["agenc"]
                )
        yield started
    for pod in started.values():
        pod.process.wait()  # its host is off


def _until(holds: Callable[[], bool], pod: Pod) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert pod.process.poll() is None, f"{pod.name} ended: {pod.said()}"
        assert time.monotonic() < deadline_s, f"{pod.name}: {pod.said()}"
        time.sleep(0.5)


def test_the_pods_become_ready_prove_and_confirm(pods: dict[str, Pod]) -> None:
    coordinator, worker = pods["agenc"], pods["proof-workers"]
    _until(lambda: worker.status(f"http://{worker.host.address}:9091/ready") == 200, worker)
    asked = worker.host.run(
        [sys.executable, "-c", _ONE_OPERATION, f"http://{coordinator.host.address}:9090", ADMIN_TOKEN],
        environ={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout_s=180,
    )
    assert asked.stdout.strip() == "CONFIRMED", asked.stderr + coordinator.said()


def test_prometheus_may_scrape_by_the_names_and_addresses_it_uses(pods: dict[str, Pod]) -> None:
    coordinator, worker = pods["agenc"], pods["proof-workers"]
    own, workers_own = coordinator.host.address, worker.host.address
    for name in ("agenc:9090", f"{own}:9090", "agenc.agenc.svc.cluster.local:9090"):
        assert worker.status(f"http://{own}:9090/metrics", host_header=name) == 200, name
    assert worker.status(f"http://{own}:9090/metrics", host_header="attacker.example") == 421
    assert coordinator.status(f"http://{workers_own}:9091/metrics") == 200


def test_ray_is_closed_to_who_has_no_token(pods: dict[str, Pod]) -> None:
    worker = pods["proof-workers"]
    stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ray = Path(sys.executable).with_name("ray")
    address = f"{pods['agenc'].host.address}:6379"
    for token, code in (("5" * 32, 0), ("6" * 32, 1)):
        asked = worker.host.run(
            [ray, "health-check", "--address", address],
            environ=stranger | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "HOME": "/tmp"},
        )
        assert asked.returncode == code, asked.stderr


def test_each_pod_ends_by_itself_within_its_grace(pods: dict[str, Pod]) -> None:
    for name in ("proof-workers", "agenc"):
        spec = by_name(rendered("base"), "Deployment", name)["spec"]["template"]["spec"]
        end(pods[name].process)
        assert pods[name].process.wait(spec["terminationGracePeriodSeconds"]) == 0, pods[name].said()


def test_the_coordinators_log_is_json_lines_and_holds_no_secret(pods: dict[str, Pod]) -> None:
    said = pods["agenc"].said()
    assert ADMIN_TOKEN not in said
    assert "5" * 32 not in said
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert any(event.get("operation_ids") == ["o"] for event in events)
