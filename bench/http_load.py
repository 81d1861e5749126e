"""An HTTP client that costs little, so that a load is the server's: kept connections, bodies made beforehand."""

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Request(NamedTuple):
    """One request: its bytes, made beforehand by `request`."""

    data: bytes


class Answer(NamedTuple):
    """A response's status and body."""

    status: int
    body: bytes


def request(method: str, path: str, *, token: str | None = None, body: bytes = b"") -> Request:
    """The request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    return Request("\r\n".join([*lines, "", ""]).encode() + body)


class Connection:
    """One kept connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Self:
        """A connection to the server of a URL."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, asked: Request) -> Answer:
        """The server's answer (uvicorn gives every one of ours its length)."""
        self._writer.write(asked.data)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return Answer(int(head.split(b" ", 2)[1]), await self._reader.readexactly(length))


class Paced(NamedTuple):
    """Latencies of an open-loop run, from when each request was due, sorted; and how long it all took."""

    latencies_s: list[float]
    wall_s: float
    refused: int

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the requests did not exceed."""
        return round(
            1e3 * self.latencies_s[min(int(share * len(self.latencies_s)), len(self.latencies_s) - 1)], 2
        )


async def paced(url: str, requests: Sequence[Request], *, rate_per_s: float, connections: int) -> Paced:
    """Sends the requests at a fixed rate whatever the answers take: a slow server cannot slow the load down.

    A latency runs from the moment a request was due, so that waiting for a free connection counts.
    """
    opened = [await Connection.open(url) for _ in range(connections)]
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for one in opened:
        free.put_nowait(one)
    latencies: list[float] = []
    refused = 0

    async def send(asked: Request, due_s: float) -> None:
        nonlocal refused
        connection = await free.get()
        answer = await connection.ask(asked)
        free.put_nowait(connection)
        latencies.append(time.perf_counter() - due_s)
        refused += answer.status >= 300

    start_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, asked in enumerate(requests):
            due_s = start_s + number / rate_per_s
            if (left_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s)
            group.create_task(send(asked, due_s))
    wall_s = time.perf_counter() - start_s
    for one in opened:
        async with one:
            pass
    return Paced(sorted(latencies), wall_s, refused)
