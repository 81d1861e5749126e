"""The operator's desk of the runbook's tests: a live system under load, a shell as a person has it, and the means to
bring trouble about.

The system is real but for its proofs (mock: they are not the subject) and its clock, which can be put forward. In its
shell curl, jq, grep, watch and go are the real ones; kubectl is a stand-in that refuses every call but the runbook's
and keeps them.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from coordinator import logs
from coordinator.chain.faults import NO_FAULTS, FaultPlan, Window, WindowKind
from coordinator.client.errors import AgencError
from coordinator.client.retry import NO_RETRY
from coordinator.client.sync import Client
from coordinator.core.states import OperationState
from tests.coordinator.conftest import Actor, RunningSystem, unique
from tests.docs.runbook.blocks import Block
from workers.messages import StartError, StartErrorCode
from workers.statement import agent_key

PORT, WORKERS_PORT = 9090, 9091
#: The cheat sheet's first line sets this.
TOKEN = "your-token-here"
#: Short enough for a test, long enough to catch an operation on its way.
SLOT_MS = 100
WAIT_S = 60.0
#: Memory that the system may take before its limit stops speculation.
HEADROOM_MB = 400

_KUBECTL = """\
#!/usr/bin/env bash
# Stands in for the cluster: keeps every call, and knows no other than the runbook's.
echo "$*" >> "$DESK/kubectl.calls"
case "$*" in
  "scale deployment proof-workers --replicas="[0-9]*) echo "deployment.apps/proof-workers scaled" ;;
  "rollout restart deployment agenc") echo "deployment.apps/agenc restarted" ;;
  "logs -l app=agenc --since=1h" | "logs -l app=proof-workers --tail=100") cat "$DESK/agenc.log" ;;
  "delete pod -l app=proof-workers --field-selector=status.phase=Failed") echo "No resources found" ;;
  "port-forward svc/prometheus 9090:9090") echo "Forwarding from 127.0.0.1:9090 -> 9090" ;;
  *) echo "kubectl: not in the runbook: $*" >&2; exit 64 ;;
esac
"""
_CURLRC = 'write-out = "%{stderr}HTTP %{http_code} %{method} %{url_effective}\\n"\n'
_CALL = re.compile(r"^HTTP (?P<status>\d+) (?P<method>\w+) (?P<url>\S+)$", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\([A-Z]|[=>])|\r")


class Clock:
    """The system's clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@dataclass(frozen=True)
class Ran:
    """What a block did: exit status, standard output, and the HTTP calls of its curls as (status, method, path)."""

    status: int
    output: str
    complaints: str
    calls: tuple[tuple[int, str, str], ...]

    @property
    def answers(self) -> list[Any]:
        """Every JSON document of the output, one after the other."""
        found, at, decoder = [], 0, json.JSONDecoder()
        while (start := re.compile(r"[{\[]").search(self.output, at)) is not None:
            try:
                value, at = decoder.raw_decode(self.output, start.start())
                found.append(value)
            except ValueError:
                at = start.start() + 1
        return found

    def succeed(self) -> "Ran":
        """Asserts that the last command and every call succeeded."""
        assert self.status == 0, self
        assert all(200 <= status < 300 for status, _, _ in self.calls), self
        return self


@dataclass
class Desk:
    """One running system and the shell before it."""

    system: RunningSystem
    clock: Clock
    folder: Path
    workers_port: int

    # -- the shell -----------------------------------------------------------------------------------------------------

    def run(
        self, block: Block, *, timeout_s: float = WAIT_S, strict: bool = False, **placeholders: str
    ) -> Ran:
        """Run a block to its end, as printed but for placeholders. `strict`: its first failure ends it."""
        return self.ended(self.start(block, strict=strict, **placeholders), timeout_s=timeout_s)

    def ended(self, process: "subprocess.Popen[str]", *, timeout_s: float = WAIT_S) -> Ran:
        """What a block that was started did, once it has ended."""
        try:
            output, complaints = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        calls = tuple(
            (int(call["status"]), call["method"], "/" + call["url"].split("/", 3)[3])
            for call in _CALL.finditer(complaints)
        )
        return Ran(process.returncode, _ESCAPES.sub(" ", output), complaints, calls)

    def watch(self, block: Block, shows: str) -> None:
        """Run a block that never ends until its first screen shows a pattern."""
        process = self.start(block)
        assert process.stdout is not None
        shown, deadline_s = "", time.monotonic() + WAIT_S
        try:
            os.set_blocking(process.stdout.fileno(), False)
            while not re.search(shows, shown):
                assert time.monotonic() < deadline_s, f"not shown within {WAIT_S} s: {shown!r}"
                assert process.poll() is None, shown
                time.sleep(0.05)
                with contextlib.suppress(BlockingIOError):
                    shown += _ESCAPES.sub(" ", os.read(process.stdout.fileno(), 65_536).decode())
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            process.stdout.close()

    def start(self, block: Block, *, strict: bool = False, **placeholders: str) -> "subprocess.Popen[str]":
        """Begin a block in a process group of its own, as printed but for placeholders."""
        text = block.text
        for name, value in placeholders.items():
            assert name in text, f"{name} is not in {block.name}"
            text = text.replace(name, value)
        script = self.folder / "block.sh"
        script.write_text(self._on_our_ports(text))
        return subprocess.Popen(
            ["bash", *(("-eo", "pipefail") if strict else ()), str(script)],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _on_our_ports(self, text: str) -> str:
        """The text as it is, unless another program has the ports that it names."""
        port = self.system.url.rpartition(":")[2]
        return text.replace(f"localhost:{PORT}", f"localhost:{port}").replace(
            f"localhost:{WORKERS_PORT}", f"localhost:{self.workers_port}"
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{kept['PATH']}",
            "CURL_HOME": str(self.folder),
            "DESK": str(self.folder),
            "ADMIN_TOKEN": TOKEN,
            "AGENC_ADMIN_TOKEN": TOKEN,
            "AGENC_URL": self.system.url,
            "AGENC_DATA_DIR": str(self.system.folder),
            "WORKERS_URL": f"http://localhost:{self.workers_port}",
            "TERM": "xterm",
            "BROWSER": "true",
        }

    def kubectl_calls(self) -> list[str]:
        """What kubectl was asked since the last look."""
        path = self.folder / "kubectl.calls"
        calls = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return calls

    # -- asking --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def operator(self) -> Iterator[Client]:
        """The operator's client."""
        with Client(self.system.url, token=TOKEN) as client:
            yield client

    def configure(self, **keys: Any) -> None:
        """Change keys of `speculation.`, dots as double underscores."""
        with self.operator() as client:
            client.set_config({"speculation." + key.replace("__", "."): value for key, value in keys.items()})

    def reset(self) -> None:
        """Speculation on, nothing else set at run time, no stop, the breaker closed, the chain well, kubectl's calls
        forgotten.
        """
        self.faults(NO_FAULTS)
        self.kubectl_calls()
        with self.operator() as client:
            client.set_config({"speculation.enabled": True})  # ends a stop
            others = self.system.service.engine.state.overrides.keys() - {"speculation.enabled"}
            if others:
                client.set_config(dict.fromkeys(sorted(others)))
        self.on_loop(lambda: self.system.service.reset_breaker("desk"))

    def on_loop(self, work: Any) -> Any:
        """Run a coroutine of the system's own."""
        return self.system.on_loop(work)

    def text_of(self, path: str) -> str:
        """An answer's body."""
        return httpx.get(self.system.url + path, timeout=WAIT_S).text

    def value_of(self, path: str, *keys: str) -> Any:
        """A value out of a JSON answer."""
        found = json.loads(self.text_of(path))
        for key in keys:
            found = found[key]
        return found

    def until(self, what: str, holds: Any) -> None:
        """Waits until something holds."""
        deadline_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline_s, f"not within {WAIT_S} s: {what}"
            time.sleep(0.05)

    # -- agents and trouble --------------------------------------------------------------------------------------------

    def new_actor(self, deposit_lamports: int = 1_000_000_000, *, agent_id: str | None = None) -> Actor:
        """A registered agent that nobody else uses."""
        secret, agent_id = os.urandom(24), agent_id or unique("agent")
        with Client(self.system.url) as client:
            registered = client.register_agent(
                agent_id, agent_key=agent_key(secret), deposit_lamports=deposit_lamports
            )
        return Actor(agent_id, secret, registered.token, self.system.url)

    def submit(self, actor: Actor, *parents: str, **fields: Any) -> str:
        """Submit one operation; its id."""
        with Client(self.system.url, token=actor.token) as client:
            return client.submit(actor.body(None, *parents, **fields)).operation_id

    def wait(self, operation_id: str, state: OperationState = OperationState.CONFIRMED) -> str:
        """Until the operation is there or has ended; its state."""
        with self.operator() as client:
            return client.wait(operation_id, state, timeout_s=WAIT_S).state

    def faults(self, plan: FaultPlan) -> None:
        """From now on the chain has these faults; their times count from its start."""
        self.system.service.parts.chain._faults = plan

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """The chain cannot be reached."""
        self.faults(FaultPlan(windows=(Window(kind=WindowKind.OUTAGE, start_ms=0, end_ms=10**12),)))
        status = "/admin/chain-status", "connection_status"
        self.until("disconnected", lambda: self.value_of(*status) == "disconnected")
        yield
        self.faults(NO_FAULTS)
        self.until("connected", lambda: self.value_of(*status) != "disconnected")


class Load:
    """Agents that go on submitting chains of three, whatever happens, until told to stop."""

    def __init__(self, actors: list[Actor], url: str) -> None:
        self._actors = actors
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.admitted = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        clients = [Client(self._url, token=actor.token, retry=NO_RETRY) for actor in self._actors]
        while not self._stop.is_set():
            for actor, client in zip(self._actors, clients, strict=True):
                parents: tuple[str, ...] = ()
                for _ in range(3):
                    # A refusal (a stop, a full queue, a lost parent) is the runbook's business, not the agent's.
                    with contextlib.suppress(AgencError):
                        parents = (client.submit(actor.body(None, *parents)).operation_id,)
                        self.admitted += 1
                    if self._stop.wait(0.1):
                        return


def loaded(desk: Desk) -> Load:
    """Three agents at work."""
    return Load([desk.new_actor() for _ in range(3)], desk.system.url)


def missing_tools() -> list[str]:
    """Programs that the runbook uses and this machine lacks."""
    return [name for name in ("bash", "curl", "jq", "grep", "watch") if shutil.which(name) is None]


@contextlib.contextmanager
def open_desk(folder: Path, **environment: str) -> Iterator[Desk]:
    """A desk with its system, on the runbook's ports where they are free."""
    (folder / "bin").mkdir(parents=True)
    kubectl = folder / "bin" / "kubectl"
    kubectl.write_text(_KUBECTL)
    kubectl.chmod(0o755)
    (folder / ".curlrc").write_text(_CURLRC)
    environ = {
        "AGENC_ADMIN_TOKEN": TOKEN,
        "AGENC_AGENTS_OPEN_REGISTRATION": "true",
        "AGENC_CHAIN_SLOT_MS": str(SLOT_MS),
        "AGENC_SPECULATION_LIMITS_MAX_MEMORY_MB": str(max(512, resident_mb() + HEADROOM_MB)),
        "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    }
    clock = Clock()
    with (folder / "agenc.log").open("a", buffering=1) as log:
        logs.configure(console=False, stream=log)
        system, workers_port = _started(folder / "data", environ | environment, clock)
        try:
            yield Desk(system, clock, folder, workers_port)
        finally:
            system.stop()
            logs.configure()


def _started(data: Path, environ: dict[str, str], clock: Clock) -> tuple[RunningSystem, int]:
    """The system and its workers' port: the runbook's, unless somebody has it or takes it meanwhile."""
    for workers_port in (_free(WORKERS_PORT), _free(0)):
        port = {"AGENC_ADMIN_WORKERS_PORT": str(workers_port)}
        system = RunningSystem(data, environ | port, port=_free(PORT), clock_ms=clock)
        try:
            system.start()
        except StartError as error:
            if error.code is not StartErrorCode.PORT_TAKEN:
                raise
        else:
            return system, workers_port
    raise AssertionError("every port that was free is taken")


def resident_mb() -> int:
    """Memory of this process, which the system shares."""
    return int(psutil.Process().memory_info().rss >> 20)


def _free(port: int) -> int:
    """The port if nothing listens there, else any free one."""
    for wanted in (port, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as probe:
            return int(probe.getsockname()[1])
    raise AssertionError("no port is free")
