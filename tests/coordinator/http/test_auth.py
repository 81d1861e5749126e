"""Authentication: the operator's tokens and their file, agents' tokens, and the limit on failures."""

import stat
from pathlib import Path

import pytest
from fastapi import Request

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http.auth import TOKENS_FILE, Authenticator, Caller, FailureLimiter, OperatorTokens
from coordinator.settings import Settings


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


class TestOperatorTokens:
    def test_the_settings_token_is_the_environments(self, tmp_path: Path) -> None:
        tokens, made = OperatorTokens.open(settings("hunter2"), tmp_path)
        assert made is None
        assert tokens.name_of("hunter2") == "environment"
        assert tokens.name_of("hunter3") is None
        assert not (tmp_path / TOKENS_FILE).exists()

    def test_without_any_one_is_made_once_and_kept_for_the_owner_alone(self, tmp_path: Path) -> None:
        tokens, made = OperatorTokens.open(settings(), tmp_path / "data")
        assert made is not None
        assert len(made) >= 40
        assert tokens.name_of(made) == "first"
        path = tmp_path / "data" / TOKENS_FILE
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        again, made_again = OperatorTokens.open(settings(), tmp_path / "data")
        assert made_again is None
        assert again.name_of(made) == "first"

    def test_the_file_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        tokens, _ = OperatorTokens.open(settings("hunter2"), tmp_path)
        (tmp_path / TOKENS_FILE).write_text(
            "# night shift\nalice token-a\nbob token-b  # until May\n\ntoken-c\n"
        )
        assert [tokens.name_of(f"token-{x}") for x in "abc"] == ["alice", "bob", "line-5"]
        (tmp_path / TOKENS_FILE).write_text("alice token-a\n")
        assert tokens.name_of("token-b") is None
        (tmp_path / TOKENS_FILE).unlink()
        assert tokens.name_of("token-a") is None
        assert tokens.name_of("hunter2") == "environment"

    def test_a_file_that_others_can_read_is_closed(self, tmp_path: Path) -> None:
        path = tmp_path / TOKENS_FILE
        path.write_text("alice token-a\n")
        path.chmod(0o644)
        OperatorTokens.open(settings(), tmp_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_an_empty_token_is_nobodys(self, tmp_path: Path) -> None:
        (tmp_path / TOKENS_FILE).write_text("\n#\n  \n")
        tokens, made = OperatorTokens.open(settings(), tmp_path)
        assert made is not None
        assert tokens.name_of("") is None


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
        assert auth.caller(request("Bearer hunter2")) == Caller(operator="environment")
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
