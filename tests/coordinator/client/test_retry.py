"""When the client asks again: bounded pauses, Retry-After, and only what may be repeated."""

import random

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.client.aio import AsyncClient
from coordinator.client.errors import ApiError, Invalid, Overloaded, Unavailable, Unreachable
from coordinator.client.retry import NO_RETRY, RetryPolicy
from coordinator.submission import OperationBody

BODY = OperationBody(
    operation_id="op-1",
    agent_id="a",
    task_id="t",
    operation_type="x",
    output=b"",
    salt=bytes(24),
    secret=bytes(24),
)
QUICK = RetryPolicy(attempts=3, base_s=0.0)


def error(status: int, code: str, headers: dict[str, str] | None = None) -> httpx.Response:
    body = {"error": {"code": code, "message": "m", "detail": {"retry": status in (429, 503)}}}
    return httpx.Response(status, content=msgspec.json.encode(body), headers=headers)


class Server:
    """Answers from a list, and remembers what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def client(self, retry: RetryPolicy = QUICK) -> AsyncClient:
        return AsyncClient("http://test", transport=httpx.MockTransport(self._answer), retry=retry)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class TestPolicy:
    @given(
        attempt=st.integers(1, 100),
        retry_after=st.none() | st.text(max_size=5) | st.integers(0, 10**6).map(str),
    )
    def test_a_pause_is_bounded(self, attempt: int, retry_after: str | None) -> None:
        policy = RetryPolicy(attempts=50, base_s=0.1, cap_s=10.0, rng=random.Random(1))
        pause_s = policy.pause_s(attempt, retry_after=retry_after)
        assert (pause_s is None) == (attempt >= 50)
        assert pause_s is None or 0 <= pause_s <= 20

    def test_pauses_grow_and_honour_the_servers_word(self) -> None:
        policy = RetryPolicy(attempts=10, base_s=0.1, cap_s=10.0, rng=random.Random(1))
        bounds = [max(policy.pause_s(attempt) or 0 for _ in range(200)) for attempt in (1, 3, 5)]
        assert bounds[0] <= 0.1 < bounds[1] <= 0.4 < bounds[2] <= 1.6
        assert (policy.pause_s(1, retry_after="3") or 0) >= 3

    def test_one_attempt_is_no_retry(self) -> None:
        assert NO_RETRY.pause_s(1, retry_after="1") is None


class TestRetries:
    async def test_waits_out_a_full_queue(self) -> None:
        server = Server(
            error(429, "queue_full", {"retry-after": "0"}),
            httpx.Response(200, content=b'{"status":"healthy","speculation":"disabled"}'),
        )
        async with server.client() as client:
            assert (await client.health()).status == "healthy"
        assert len(server.requests) == 2

    @pytest.mark.parametrize(("status", "kind"), [(429, Overloaded), (503, Unavailable)])
    async def test_gives_up_with_what_the_server_said(self, status: int, kind: type[ApiError]) -> None:
        server = Server(*[error(status, "queue_full") for _ in range(3)])
        async with server.client() as client:
            with pytest.raises(kind) as caught:
                await client.submit(BODY)
        assert (caught.value.code, caught.value.retry) == ("queue_full", True)
        assert len(server.requests) == 3

    async def test_a_refusal_is_not_asked_again(self) -> None:
        server = Server(error(422, "invalid"))
        async with server.client() as client:
            with pytest.raises(Invalid):
                await client.submit(BODY)
        assert len(server.requests) == 1

    async def test_a_submission_may_be_sent_again_when_nothing_was_heard(self) -> None:
        server = Server(
            httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("gone"), error(409, "id_conflict")
        )
        async with server.client() as client:
            with pytest.raises(ApiError, match="id_conflict"):
                await client.submit(BODY)
        assert len(server.requests) == 3
        assert len({request.content for request in server.requests}) == 1

    async def test_a_deposit_may_not_unless_it_never_left(self) -> None:
        server = Server(httpx.ConnectError("refused"), httpx.ReadTimeout("slow"))
        async with server.client() as client:
            with pytest.raises(Unreachable):
                await client.deposit("a", 1)
        assert len(server.requests) == 2

    async def test_an_answer_of_something_else_is_no_answer(self) -> None:
        for response in (httpx.Response(502, content=b"<html>"), httpx.Response(200, content=b"[]")):
            async with Server(response).client() as client:
                with pytest.raises(Unreachable):
                    await client.health()
