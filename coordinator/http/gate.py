"""The outermost layer: who may talk to us at all, and what no caller may ever see.

A page in a browser can send requests to localhost. It cannot choose Host (DNS rebinding shows in it) nor hide
Origin, so both are checked. What no handler caught ends here as `internal`, with its trace in the log alone.
"""

import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http.errors import SEVERITIES, CountError, error_response, internal_response
from coordinator.logs import get_logger
from workers.http_server import host_allowed

_log = get_logger("http")

#: Probes (kubelet, load balancers) come by address, so these paths answer whatever Host says.
OPEN_PATHS = frozenset({"/health", "/ready"})

#: What a browser is told of every answer: it is data, for nobody's page, and not to be kept. A handler that serves a
#: page sets its own.
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
HTTPS_HEADERS = ((b"strict-transport-security", b"max-age=31536000"),)


class Gate:
    """ASGI middleware: Host and Origin against the allowed names, a request id, and the catch-all."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str], count_error: CountError) -> None:
        self._app = app
        self._count_error = count_error
        self._allowed = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            self._count_error(refusal.code, SEVERITIES[refusal.code])
            await error_response(refusal)(scope, receive, _marked(scope, send))
            return
        await self._guarded(scope, receive, send)

    def _refusal(self, scope: Scope) -> CoreError | None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN_PATHS and not self._allows(headers.get("host", "")):
            return CoreError(
                ErrorCode.HOST_NOT_ALLOWED, "the Host header names no allowed host", field="host"
            )
        origin = headers.get("origin")
        if origin is not None and not self._allows(_authority(origin)):
            return CoreError(
                ErrorCode.FORBIDDEN, "requests of other sites' pages are refused", field="origin"
            )
        return None

    def _allows(self, authority: str) -> bool:
        return host_allowed(authority, self._allowed)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(8)
        started = False

        async def send_first(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        send_marked = _marked(scope, send_first, (b"x-request-id", request_id.encode()))
        try:
            await self._app(scope, receive, send_marked)
        except Exception:
            self._count_error(ErrorCode.INTERNAL, SEVERITIES[ErrorCode.INTERNAL])
            _log.exception(
                "request_failed", request_id=request_id, method=scope["method"], path=scope["path"]
            )
            if not started:
                await internal_response(request_id)(scope, receive, send_marked)


def _marked(scope: Scope, send: Send, *more: tuple[bytes, bytes]) -> Send:
    """`send`, with the headers of every answer that the handler did not set itself."""
    headers = (*more, *SECURITY_HEADERS, *(HTTPS_HEADERS if scope.get("scheme") == "https" else ()))

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message["headers"]
            names = {name for name, _ in own}
            message["headers"] = [*own, *(header for header in headers if header[0] not in names)]
        await send(message)

    return send_marked


def _authority(origin: str) -> str:
    """`https://host:1` → `host:1`; nothing for `null` and for what is no origin."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
