"""What a connection may cost before a handler sees it: slow, endless, broken and too many ones are given up."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from workers import http_server
from workers.http_server import MAX_HEAD_BYTES, HttpServer, host_allowed

PATIENCE_S = 20
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n"


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length; `/large` with more than a socket holds."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), bool(message.get("more_body"))
    body = b"x" * 50_000_000 if _scope["path"] == "/large" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Served:
    """A server on a free port."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.server = HttpServer(echo, grace_s=1)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def exchange(self, *parts: bytes) -> bytes:
        """Sends the parts one after the other; what came until the server closed, or until it answered for good."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gives up after a moment."""
    for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "STALL_TIMEOUT_S"):
        monkeypatch.setattr(http_server, name, 0.3)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    serving = asyncio.create_task(made.server.serve(sockets=[made.socket]))
    await made.server.listening.wait()
    yield made
    made.server.should_exit = True
    await serving


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_S * 50):
        if holds():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not come about")


def refused(answer: bytes) -> tuple[int, str]:
    """The status and the code of an answer in the one shape of errors."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert error.keys() == {"code", "message", "detail"}
    return int(head.split()[1]), error["code"]


async def test_requests_are_answered(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        for size in (0, 1, 100_000, 3_000_000):
            assert (await client.post("/", content=b"x" * size)).text == str(size)
        assert "server" not in (await client.get("/")).headers


async def test_a_body_in_ordinary_chunks_is_no_excess(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2_000):
            yield b"x" * 1_000

    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.post("/", content=chunks())).text == "2000000"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /", GET, GET + b"x-more: ", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc"],
    ids=["nothing", "half a line", "half a head", "half a header", "half a body"],
)
async def test_what_does_not_arrive_in_time_is_given_up(served: Served, sent: bytes) -> None:
    assert refused(await served.exchange(sent)) == (408, "too_slow")


@pytest.mark.usefixtures("impatient")
async def test_a_further_request_has_its_time_too(served: Served) -> None:
    answer = await served.exchange(GET + b"\r\n", GET)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer


@pytest.mark.parametrize(
    "parts",
    [
        [GET] + [b"x-more: 1\r\n" * 1_000] * 10,
        [GET + b"x-long: "] + [b"y" * 8_192] * 10,
        [b"GET /"] + [b"z" * 8_192] * 10,
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"]
        + [b"1;" + b"e" * 8_192 + b"\r\nx\r\n"] * 10,
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"]
        + [b"t: " + b"u" * 8_192 + b"\r\n"] * 10,
    ],
    ids=["many headers", "a long header", "a long path", "chunk extensions", "trailers"],
)
async def test_more_than_a_little_beside_the_body_is_refused(served: Served, parts: list[bytes]) -> None:
    answer = await served.exchange(*parts)
    # Closed while we still send, the answer may be lost on the way.
    assert answer == b"" or refused(answer)[0] in (400, 431)
    assert sum(map(len, parts)) > MAX_HEAD_BYTES


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n\x00", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n"]
)
async def test_what_is_no_http_is_told_in_the_one_shape(served: Served, sent: bytes) -> None:
    assert refused(await served.exchange(sent)) == (400, "invalid")


@pytest.mark.usefixtures("impatient")
async def test_a_reader_who_stalls_is_cut_off(served: Served) -> None:
    reader, writer = await asyncio.open_connection(*served.address, limit=1_024)
    writer.write(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.read(1)
    await eventually(lambda: not served.server.server_state.connections)
    writer.close()


async def test_there_is_an_end_to_connections(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    held = [await asyncio.open_connection(*served.address) for _ in range(3)]
    assert await served.exchange(GET + b"\r\n") == b""
    for _, writer in held:
        writer.close()
    await eventually(lambda: not served.server.server_state.connections)
    assert (await served.exchange(GET + b"connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_header_does_not_choose_the_clients_address() -> None:
    config = HttpServer(echo).config
    config.load()
    assert not config.proxy_headers


@given(st.lists(st.lists(st.binary(max_size=200), max_size=4), min_size=20, max_size=30))
@hypothesis_settings(max_examples=4, deadline=None)
def test_no_bytes_break_it(connections: list[list[bytes]]) -> None:
    async def fuzz() -> None:
        made = Served()
        serving = asyncio.create_task(made.server.serve(sockets=[made.socket]))
        await made.server.listening.wait()
        for parts in connections:
            _, writer = await asyncio.open_connection(*made.address)
            writer.writelines(parts)
            writer.write_eof()
            assert (await made.exchange(GET + b"connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
        made.server.should_exit = True
        await serving

    asyncio.run(fuzz())


@pytest.mark.parametrize(
    ("authority", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:9", True),
        ("[::1", False),
        ("::1", False),
        ("", False),
        ("a", False),
    ],
)
def test_names_of_hosts(authority: str, allowed: bool) -> None:
    assert host_allowed(authority, {"localhost", "[::1]"}) is allowed
    assert host_allowed(authority, {"*"})
