"""Authentication: who holds which token, what its scope allows, and the limit on failures."""

from pathlib import Path

import pytest
from fastapi import Request

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http.auth import Authenticator, Caller, FailureLimiter
from coordinator.settings import Settings
from coordinator.tokens import OperatorTokens, Scope, TokenFile


def settings(token: str | None = None) -> Settings:
    return Settings.load("test", None, {} if token is None else {"AGENC_ADMIN_TOKEN": token})


def request(authorization: str | None, *, client: str = "10.0.0.1") -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "headers": headers, "client": (client, 1)})


class Agents:
    """The service's answer to one known token."""

    def agent_for_token(self, token: str) -> str | None:
        return "agent-1" if token == "agents-token" else None


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class TestCaller:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def auth(self, tmp_path: Path, clock: Clock) -> Authenticator:
        tokens, _ = OperatorTokens.open(settings("hunter2"), tmp_path)
        limiter = FailureLimiter(burst=3, clock_s=clock)
        return Authenticator(operators=tokens, agents=Agents(), limiter=limiter)

    def test_who_is_asking(self, auth: Authenticator) -> None:
        assert auth.caller(request(None)) is None
        assert auth.caller(request("Bearer hunter2")) == Caller(operator="environment", scope=Scope.ADMIN)
        assert auth.caller(request("bearer  agents-token ")) == Caller(agent_id="agent-1")

    @pytest.mark.parametrize(
        "header",
        [
            "Bearer wrong",
            "Basic hunter2",
            "hunter2",
            "Bearer",
            "Bearer ",
            "",
            "Bearer " + "x" * 5000,
            "Bearer ä",
        ],
    )
    def test_a_header_without_a_known_token_is_refused(self, auth: Authenticator, header: str) -> None:
        with pytest.raises(CoreError) as caught:
            auth.caller(request(header))
        assert caught.value.code is ErrorCode.UNAUTHORIZED
        assert "hunter2" not in caught.value.message

    def test_what_each_may_do(self, auth: Authenticator) -> None:
        assert auth.operator(request("Bearer hunter2")) == "environment"
        assert auth.acting_for(request("Bearer hunter2"), "agent-9").operator
        assert auth.acting_for(request("Bearer agents-token"), "agent-1").agent_id == "agent-1"
        for ask, code in (
            (lambda: auth.operator(request(None)), ErrorCode.UNAUTHORIZED),
            (lambda: auth.operator(request("Bearer agents-token")), ErrorCode.FORBIDDEN),
            (lambda: auth.acting_for(request("Bearer agents-token"), "agent-2"), ErrorCode.FORBIDDEN),
            (lambda: auth.anyone(request(None)), ErrorCode.UNAUTHORIZED),
        ):
            with pytest.raises(CoreError) as caught:
                ask()
            assert caught.value.code is code

    @pytest.mark.parametrize("scope", Scope)
    def test_a_scope_is_enough_for_itself_and_for_less(
        self, auth: Authenticator, tmp_path: Path, scope: Scope
    ) -> None:
        token = TokenFile(tmp_path).create("someone", scope)
        asked = request(f"Bearer {token}")
        for needed in Scope:
            if scope.allows(needed):
                assert auth.operator(asked, needed) == "someone"
                continue
            for ask in (auth.operator, auth.anyone):
                with pytest.raises(CoreError) as caught:
                    ask(asked, needed)
                assert caught.value.code is ErrorCode.FORBIDDEN
                assert needed in caught.value.message
        assert [needed for needed in Scope if scope.allows(needed)] == list(Scope)[
            : list(Scope).index(scope) + 1
        ]

    @pytest.mark.parametrize("scope", [Scope.READ, Scope.OPERATE])
    def test_only_an_admin_acts_for_agents(self, auth: Authenticator, tmp_path: Path, scope: Scope) -> None:
        token = TokenFile(tmp_path).create("someone", scope)
        with pytest.raises(CoreError) as caught:
            auth.acting_for(request(f"Bearer {token}"), "agent-1")
        assert caught.value.code is ErrorCode.FORBIDDEN

    def test_guessing_is_slowed_down_even_for_the_right_guess(
        self, auth: Authenticator, clock: Clock
    ) -> None:
        self.guess(auth, 3)
        with pytest.raises(CoreError) as caught:
            auth.caller(request("Bearer hunter2"))
        assert caught.value.code is ErrorCode.RATE_LIMITED
        clock.now_s += 1.0
        assert auth.caller(request("Bearer hunter2")) is not None

    def test_a_client_that_used_the_token_before_is_not_locked_out(self, auth: Authenticator) -> None:
        auth.caller(request("Bearer hunter2"))
        self.guess(auth, 3)
        assert auth.caller(request("Bearer hunter2")) is not None

    def test_others_are_not_slowed_down(self, auth: Authenticator) -> None:
        self.guess(auth, 3)
        assert auth.caller(request("Bearer hunter2", client="10.0.0.2")) is not None

    def test_the_limit_forgets_after_a_while(self, auth: Authenticator, clock: Clock) -> None:
        self.guess(auth, 3)
        clock.now_s += 100.0
        self.guess(auth, 3)

    @staticmethod
    def guess(auth: Authenticator, times: int) -> None:
        for _ in range(times):
            with pytest.raises(CoreError) as caught:
                auth.caller(request("Bearer wrong"))
            assert caught.value.code is ErrorCode.UNAUTHORIZED


def test_the_limiter_keeps_a_bounded_number_of_clients() -> None:
    limiter = FailureLimiter(burst=3)
    for at in range(limiter._MAX_CLIENTS + 50):
        limiter.failed(f"client-{at}")
        limiter.succeeded(f"client-{at}", "token")
    assert len(limiter._buckets) == len(limiter._trusted) == limiter._MAX_CLIENTS
