"""Who is asking, what they may do, and the limit on failures.

An operator's token has a scope: `read` for what the system shows, `operate` for the runbook's commands, `admin` for
acting as any agent and for the settings of access itself. An agent's token acts for that agent. None is ever logged.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.tokens import OperatorTokens, Scope, digest_of

_MAX_TOKEN_CHARS = 1_024


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
        return self._left(client) >= 1 or (client, digest_of(token)) in self._trusted

    def failed(self, client: str) -> None:
        """Count a wrong token."""
        self._buckets[client] = (self._left(client) - 1, self.clock_s())
        self._buckets.move_to_end(client)
        self._bound(self._buckets)

    def succeeded(self, client: str, token: str) -> None:
        """Remember that this client holds this token."""
        key = (client, digest_of(token))
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
    """Who sent the request: an operator by the token's name, with its scope, or an agent."""

    operator: str | None = None
    scope: Scope | None = None
    agent_id: str | None = None

    def has(self, scope: Scope) -> bool:
        """Whether this is an operator whose token allows as much."""
        return self.scope is not None and self.scope.allows(scope)

    def may_act_for(self, agent_id: str) -> bool:
        """Whether this caller may write as the agent."""
        return self.has(Scope.ADMIN) or self.agent_id == agent_id


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
            caller = self._known(token)
            if caller is not None:
                self._limiter.succeeded(client, token)
                return caller
        self._limiter.failed(client)
        raise CoreError(ErrorCode.UNAUTHORIZED, "the bearer token is not known")

    def anyone(self, request: Request, scope: Scope = Scope.ADMIN) -> Caller:
        """Any agent, or an operator with the scope. Raises CoreError: unauthorized or forbidden."""
        caller = self.caller(request)
        if caller is None:
            raise CoreError(ErrorCode.UNAUTHORIZED, "a bearer token is needed")
        if caller.agent_id is None and not caller.has(scope):
            raise CoreError(ErrorCode.FORBIDDEN, f"a token of scope {scope} is needed, not {caller.scope}")
        return caller

    def operator(self, request: Request, scope: Scope = Scope.OPERATE) -> str:
        """The name of the operator's token. Raises CoreError: unauthorized, or forbidden for an agent and for a token
        of too weak a scope.
        """
        caller = self.anyone(request, scope)
        if caller.operator is None:
            raise CoreError(ErrorCode.FORBIDDEN, "the operator's token is needed")
        return caller.operator

    def acting_for(self, request: Request, agent_id: str) -> Caller:
        """A caller that may act for the agent. Raises CoreError: unauthorized or forbidden."""
        caller = self.anyone(request)
        if not caller.may_act_for(agent_id):
            raise CoreError(ErrorCode.FORBIDDEN, f"the token does not belong to {agent_id}")
        return caller

    def _known(self, token: str) -> Caller | None:
        holder = self._operators.holder_of(token)
        if holder is not None:
            return Caller(operator=holder.name, scope=holder.scope)
        agent_id = self._agents.agent_for_token(token)
        return None if agent_id is None else Caller(agent_id=agent_id)
