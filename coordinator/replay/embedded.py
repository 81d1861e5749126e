"""The system a replay brings with it: `agenc up` as a child process with its own data, ports and profile.

It leaves nothing behind: it is stopped with SIGTERM and then, after a bound, killed with whatever it started;
and it stops by itself when this process dies, however it dies.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

#: With a cold kernel cache the first worker compiles for minutes.
START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 45.0
LEFTOVER_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.05
LOG_TAIL_LINES = 12


class EmbeddedError(Exception):
    """The embedded system did not start, or died; the message has the end of its log."""


@dataclass(frozen=True)
class Endpoints:
    """Where a running system answers."""

    url: str
    workers_url: str


class Embedded:
    """An `agenc up` child, as an async context manager. `folder` is made, and holds its data and its log."""

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str], faults: Mapping[str, object] | None = None
    ) -> None:
        self.folder = folder
        self._environment = dict(environment)
        self._faults = faults
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def log_path(self) -> Path:
        """Everything the system says."""
        return self.folder / "server.log"

    @property
    def endpoints(self) -> Endpoints:
        """Where it answers.

        Raises:
            EmbeddedError: it has not written that yet.
        """
        try:
            written = json.loads((self._data_dir / "endpoints.json").read_text())
            return Endpoints(url=written["url"], workers_url=written["workers_url"])
        except (OSError, ValueError, KeyError, TypeError):
            raise EmbeddedError("the embedded system has not said where it answers") from None

    def require_alive(self) -> None:
        """Raises EmbeddedError when the process has ended."""
        if self._process is not None and self._process.returncode is not None:
            raise EmbeddedError(
                f"the embedded system ended with code {self._process.returncode}: {self.log_tail()}"
            )

    def log_tail(self) -> str:
        """The last lines of its log, on one line each."""
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-LOG_TAIL_LINES:])

    async def stop(self) -> None:
        """Ends the process and everything it started. Harmless when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        started = _descendants(process.pid)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(process.wait()), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.to_thread(_end_leftovers, started)

    @property
    def _data_dir(self) -> Path:
        return self.folder / "data"

    async def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = ["up", "--env", "dev", "--host", "127.0.0.1", "--port", "0", "--workers-port", "0"]
        arguments += ["--data-dir", str(self._data_dir), "--parent-pid", str(os.getpid())]
        if self._faults is not None:
            path = self.folder / "faults.json"
            path.write_text(json.dumps(self._faults, indent=1))
            arguments += ["--faults", str(path)]
        with self.log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "coordinator.cli.main",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_clean_environment() | self._environment,
                start_new_session=True,  # the terminal's Ctrl-C reaches us alone; we stop it in our own time
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._until_ready()
        except TimeoutError:
            raise EmbeddedError(
                f"the embedded system was not ready after {START_TIMEOUT_S:.0f} s: {self.log_tail()}"
            ) from None

    async def _until_ready(self) -> None:
        """Until operations are taken and a worker can prove them: a replay measures neither's start."""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            while True:
                self.require_alive()
                try:
                    both = (self.endpoints.url, self.endpoints.workers_url)
                    answers = [await client.get(url + "/ready") for url in both]
                    if all(answer.status_code == httpx.codes.OK for answer in answers):
                        return
                except (EmbeddedError, httpx.TransportError):
                    pass  # not listening yet
                await asyncio.sleep(POLL_INTERVAL_S)


def _clean_environment() -> dict[str, str]:
    """Our environment without the settings of some other system; where the caches lie is kept."""
    kept = {"AGENC_CACHE_DIR", "AGENC_CONFIG_DIR"}
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("AGENC_", "RAY_"))
    }


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end_leftovers(processes: list[psutil.Process]) -> None:
    """Waits for what the system had started and kills what does not end; psutil knows reused process ids."""
    _, left = psutil.wait_procs(processes, timeout=LEFTOVER_TIMEOUT_S)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=LEFTOVER_TIMEOUT_S)
