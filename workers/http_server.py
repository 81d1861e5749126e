"""The HTTP server of both ports: uvicorn, with limits on what a connection may cost before a handler sees it.

uvicorn alone waits for ever for a request's head, keeps as many header bytes as come, and lets a reader stall an
answer. Here a connection is given up when its head or its body takes too long, when it sends more than a little besides
the body, and when it does not read what it asked for; and there is an end to how many there may be.
"""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Collection, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: From the connection, or from the first byte of a further request, to the end of its headers.
HEAD_TIMEOUT_S: Final = 10.0
#: From there to the end of the body; the handlers' own limit is shorter and answers with a typed error.
BODY_TIMEOUT_S: Final = 90.0
#: An answer that nobody reads for so long is cut off.
STALL_TIMEOUT_S: Final = 60.0
#: What a request may have besides its body: request line, headers, chunk framing, trailers.
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 1_000

_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.REQUEST_TIMEOUT: "too_slow",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "too_large",
}


class Tls(NamedTuple):
    """A certificate chain and its private key, PEM files."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises OSError or ssl.SSLError where the pair cannot be used."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)


def host_allowed(authority: str, allowed: Collection[str]) -> bool:
    """Whether a Host header's `name` or `name:port` is one of the allowed names (in lower case); "*" allows all."""
    if "*" in allowed:
        return True
    bracket = authority.find("]") + 1
    name = authority[:bracket] if authority.startswith("[") else authority.partition(":")[0]
    return name.lower() in allowed


class HttpServer(uvicorn.Server):
    """uvicorn that tells when it listens, and leaves signals to the process that it is a part of: it would end that
    before everything else has closed.
    """

    def __init__(self, app: Any, *, tls: Tls | None = None, grace_s: int | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=GuardedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Else a header could choose the client's address, by which failures are limited.
                proxy_headers=False,
                ssl_certfile=None if tls is None else tls.certificate,
                ssl_keyfile=None if tls is None else tls.key,
                timeout_graceful_shutdown=grace_s,
            )
        )
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: see the class."""
        yield


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol under the limits above."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._excess_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, unless there are too many."""
        if len(self.connections) >= MAX_CONNECTIONS:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._within(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, while what is not body stays small."""
        if self.transport.is_closing():
            return
        if self._timer is None:  # whatever comes between requests, too
            self._within(HEAD_TIMEOUT_S)
        self._excess_bytes += len(data)
        super().data_received(data)
        if self._excess_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")

    def on_message_begin(self) -> None:
        """A further request, maybe in the bytes that completed the one before."""
        super().on_message_begin()
        if self._timer is None:
            self._within(HEAD_TIMEOUT_S)

    def on_headers_complete(self) -> None:
        """The head is there: now the body has its time."""
        self._within(BODY_TIMEOUT_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Body bytes pay for themselves, and for as many of framing."""
        self._excess_bytes -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has been received: nothing more is waited for."""
        self._excess_bytes = 0
        self._disarm()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read: not for ever."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self.flow is not None:
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed, in the one shape of every error."""
        self._refuse(HTTPStatus.BAD_REQUEST, "no valid HTTP request")

    def _within(self, timeout_s: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(timeout_s, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer, where no answer has begun, and close."""
        self._disarm()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            detail = {"advice": "send a complete and smaller request in time", "retry": False}
            error = {"code": _CODES[status], "message": message, "detail": detail}
            body = json.dumps({"error": error}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
