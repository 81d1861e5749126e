"""Who is asking: the operator's tokens, the agents' own, and the limit on failures.

A token is compared by its SHA-256 in constant time, and never logged. The operator's tokens are `admin.token`
(AGENC_ADMIN_TOKEN) and the lines of `admin-tokens` in the data folder, which is read again when it changes.
"""

import hashlib
import hmac
import os
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastapi import Request

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.settings import Settings

TOKENS_FILE = "admin-tokens"
_TOKEN_BYTES = 32
_MAX_TOKEN_CHARS = 1_024
_MAX_TOKENS = 100


class OperatorTokens:
    """The operator's tokens by name: `environment` from the settings, the others from the data folder's file.

    Each line of the file is `NAME TOKEN`, or a token alone; `#` begins a comment.
    """

    def __init__(self, *, setting: str | None, path: Path) -> None:
        self._path = path
        self._fixed = {} if setting is None else {"environment": _digest(setting)}
        self._stamp: tuple[int, int] | None = None
        self._from_file: dict[str, bytes] = {}
        self._reload()

    @classmethod
    def open(cls, settings: Settings, folder: Path) -> tuple["OperatorTokens", str | None]:
        """The tokens, and the one that was made just now because there was none: show it once.

        Raises:
            OSError: the file cannot be written.
        """
        tokens = cls(setting=settings.optional_text("admin.token"), path=folder / TOKENS_FILE)
        return tokens, None if tokens.any() else tokens._make_first()

    def any(self) -> bool:
        """Whether at least one token exists."""
        return bool(self._fixed or self._from_file)

    def name_of(self, token: str) -> str | None:
        """The name of the token's holder, or None. Every known token is compared, whichever matches."""
        self._reload()
        offered = _digest(token)
        found = None
        for name, known in (*self._fixed.items(), *self._from_file.items()):
            if hmac.compare_digest(offered, known):
                found = name
        return found

    def _make_first(self) -> str:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Created with its mode: a chmod afterwards would leave a moment in which others can read it.
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("# The operator's tokens, a line each: NAME TOKEN. Changes take effect at once.\n")
            file.write(f"first {token}\n")
        self._reload()
        return token

    def _reload(self) -> None:
        try:
            facts = self._path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size)
            if stamp == self._stamp:
                return
            self._from_file = _parse_tokens(self._path.read_text(encoding="utf-8", errors="replace"))
            self._stamp = stamp
            if stat.S_IMODE(facts.st_mode) & 0o077:
                self._path.chmod(0o600)
        except FileNotFoundError:
            self._from_file, self._stamp = {}, None


def _parse_tokens(text: str) -> dict[str, bytes]:
    lines = (line.split("#", 1)[0].split() for line in text.splitlines())
    pairs = [
        (words[0] if len(words) > 1 else f"line-{at}", words[-1])
        for at, words in enumerate(lines, 1)
        if words
    ]
    return {name: _digest(token) for name, token in pairs[:_MAX_TOKENS]}


@dataclass
class FailureLimiter:
    """How many wrong tokens one client may offer: a bucket of `burst` that refills by one a `refill_s`.

    With an empty bucket even a right token is refused (else guesses could be tried at any rate), except to a
    client that has used that very token before: a stale script must not lock the operator out at 3 am.
    """

    burst: int = 30
    refill_s: float = 1.0
    clock_s: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _trusted: OrderedDict[tuple[str, bytes], None] = field(default_factory=OrderedDict)

    _MAX_CLIENTS = 10_000

    def allows(self, client: str, token: str) -> bool:
        """Whether the client's token may be looked at."""
        return self._left(client) >= 1 or (client, _digest(token)) in self._trusted

    def failed(self, client: str) -> None:
        """Count a wrong token."""
        self._buckets[client] = (self._left(client) - 1, self.clock_s())
        self._buckets.move_to_end(client)
        self._bound(self._buckets)

    def succeeded(self, client: str, token: str) -> None:
        """Remember that this client holds this token."""
        key = (client, _digest(token))
        self._trusted[key] = None
        self._trusted.move_to_end(key)
        self._bound(self._trusted)

    def _left(self, client: str) -> float:
        if client not in self._buckets:
            return self.burst
        left, at_s = self._buckets[client]
        return min(left + (self.clock_s() - at_s) / self.refill_s, self.burst)

    def _bound(
        self, entries: OrderedDict[str, tuple[float, float]] | OrderedDict[tuple[str, bytes], None]
    ) -> None:
        while len(entries) > self._MAX_CLIENTS:
            entries.popitem(last=False)


class AgentTokens(Protocol):
    """What authentication needs of the service."""

    def agent_for_token(self, token: str) -> str | None:
        """The agent that holds the token."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request: an operator by the token's name, or an agent."""

    operator: str | None = None
    agent_id: str | None = None

    def may_act_for(self, agent_id: str) -> bool:
        """Whether this caller may write as the agent."""
        return self.operator is not None or self.agent_id == agent_id


class Authenticator:
    """Finds the caller of a request and says what it may do."""

    def __init__(
        self,
        *,
        operators: OperatorTokens,
        agents: AgentTokens,
        limiter: FailureLimiter,
    ) -> None:
        self._operators = operators
        self._agents = agents
        self._limiter = limiter

    def caller(self, request: Request) -> Caller | None:
        """The caller, or None without an Authorization header.

        Raises:
            CoreError: unauthorized (the token is nobody's), or rate_limited.
        """
        header = request.headers.get("authorization")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        token = token.strip()
        client = request.client.host if request.client else ""
        if not self._limiter.allows(client, token):
            raise CoreError(ErrorCode.RATE_LIMITED, "too many failed authentications; wait a moment")
        if scheme.lower() == "bearer" and 0 < len(token) <= _MAX_TOKEN_CHARS:
            operator = self._operators.name_of(token)
            agent_id = None if operator else self._agents.agent_for_token(token)
            if operator or agent_id:
                self._limiter.succeeded(client, token)
                return Caller(operator=operator, agent_id=agent_id)
        self._limiter.failed(client)
        raise CoreError(ErrorCode.UNAUTHORIZED, "the bearer token is not known")

    def anyone(self, request: Request) -> Caller:
        """An operator or any agent. Raises CoreError: unauthorized."""
        caller = self.caller(request)
        if caller is None:
            raise CoreError(ErrorCode.UNAUTHORIZED, "a bearer token is needed")
        return caller

    def operator(self, request: Request) -> str:
        """The operator's token name. Raises CoreError: unauthorized, or forbidden for an agent."""
        caller = self.anyone(request)
        if caller.operator is None:
            raise CoreError(ErrorCode.FORBIDDEN, "the operator's token is needed")
        return caller.operator

    def acting_for(self, request: Request, agent_id: str) -> Caller:
        """A caller that may act for the agent. Raises CoreError: unauthorized or forbidden."""
        caller = self.anyone(request)
        if not caller.may_act_for(agent_id):
            raise CoreError(ErrorCode.FORBIDDEN, f"the token does not belong to {agent_id}")
        return caller


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
