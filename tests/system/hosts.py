"""Hosts of a network of their own: namespaces of this machine, each with its own address, processes, /tmp and /dev/shm.

What Ray takes for a host: a network, process and mount namespace. Commands are run inside with nsenter, beside a
sleeping process that holds the namespaces; when that is killed, everything on the host is, as by a power cut. No
traffic leaves these namespaces.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

#: The compiled kernels, which every host shares.
CACHE = Path(os.environ.get("AGENC_CACHE_DIR") or Path.home() / ".cache" / "agenc-prover")
NEEDED = ("ip", "unshare", "nsenter")
#: All of /tmp, unless this checkout or its kernels lie there; then at least Ray's folder.
_OWN = "/tmp/ray" if any(_name.startswith("/tmp/") for _name in (sys.prefix, str(CACHE))) else "/tmp"
_SETUP = (
    f"mkdir -p {_OWN} && mount -t tmpfs tmpfs {_OWN} && mount -t tmpfs tmpfs /dev/shm && exec sleep 100000"
)


def why_not() -> str | None:
    """Why hosts cannot be made here, or None."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--mount", "true"], capture_output=True, check=False
    )
    return None if probe.returncode == 0 else "this kernel allows no namespaces here"


class Host:
    """One host; `boot` before the first command."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self._init: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def boot(self) -> None:
        """Power on: an empty /tmp, no process but one that sleeps."""
        self._init = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                self.namespace,
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--mount-proc",
                "sh",
                "-c",
                _SETUP,
            ]
        )
        deadline_s = time.monotonic() + 10
        while not (children := psutil.Process(self._init.pid).children()) or children[0].name() != "sleep":
            assert time.monotonic() < deadline_s, "the host does not boot"
            time.sleep(0.02)
        self._pid = children[0].pid

    def power_off(self) -> None:
        """Everything on it is killed at once. Idempotent."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            self._init = None

    def plug(self, *, into: bool) -> None:
        """Put the network cable in, or pull it."""
        _ip("-n", self.namespace, "link", "set", "eth0", "up" if into else "down")

    def start(
        self, command: Sequence[str | Path], *, environ: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Begin a command on the host; signals go to it through `end`."""
        return subprocess.Popen(
            self._inside(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def run(
        self, command: Sequence[str | Path], *, environ: Mapping[str, str], timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """A command on the host, to its end."""
        return subprocess.run(
            self._inside(command),
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _inside(self, command: Sequence[str | Path]) -> list[str]:
        assert self._init is not None, "boot comes first"
        return ["nsenter", f"--target={self._pid}", "--net", "--pid", "--mount", "--"] + [
            str(word) for word in command
        ]


class Network:
    """Hosts on one switch; leaves nothing behind."""

    def __init__(self, count: int) -> None:
        self._prefix = f"agenc{os.getpid()}"
        self._switch = f"{self._prefix}sw"
        self.hosts = [Host(f"{self._prefix}h{n}", f"10.77.0.{n}") for n in range(1, count + 1)]

    def __enter__(self) -> Self:
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "br0", "up")
            for number, host in enumerate(self.hosts):
                self._wire(host, f"port{number}")
                host.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Power everything off and take the network down."""
        for host in self.hosts:
            host.power_off()
        for name in (self._switch, *(host.namespace for host in self.hosts)):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _wire(self, host: Host, port: str) -> None:
        _ip("netns", "add", host.namespace)
        _ip(
            *("-n", host.namespace, "link", "add", "eth0", "type", "veth"),
            *("peer", "name", port, "netns", self._switch),
        )
        _ip("-n", self._switch, "link", "set", port, "master", "br0")
        _ip("-n", self._switch, "link", "set", port, "up")
        _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        host.plug(into=True)


def end(process: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGTERM) -> None:
    """Signal the command behind nsenter, which does not pass signals on."""
    for child in psutil.Process(process.pid).children():
        child.send_signal(number)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
