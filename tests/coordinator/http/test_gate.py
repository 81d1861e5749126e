"""The gate: names it answers to, pages it refuses, and what becomes of a defect."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from coordinator.http.gate import Gate

counted: list[tuple[str, str]] = []


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    counted.clear()
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post("/write")
    async def write() -> dict[str, bool]:
        return {"written": True}

    @app.get("/defect")
    async def defect() -> None:
        raise RuntimeError("a secret of the inside")

    app.add_middleware(
        Gate,
        allowed_hosts=("localhost", "127.0.0.1", "[::1]", "Prover.example"),
        count_error=lambda code, severity: counted.append((code, severity)),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:9090") as client:
        yield client


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:9090", "127.0.0.1:1", "[::1]:9090", "[::1]", "LOCALHOST", "prover.example"],
)
async def test_it_answers_to_its_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.post("/write", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:9090", "", "[::2]", "localhost@evil"]
)
async def test_it_does_not_answer_to_others(client: httpx.AsyncClient, host: str) -> None:
    response = await client.post("/write", headers={"host": host})
    assert (response.status_code, response.json()["error"]["code"]) == (421, "host_not_allowed")
    assert counted == [("host_not_allowed", "warning")]


async def test_probes_come_by_address(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health", headers={"host": "10.1.2.3:9090"})).status_code == 200


async def test_another_sites_page_is_refused(client: httpx.AsyncClient) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://[::1", "x", ""):
        response = await client.post("/write", headers={"origin": origin})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert (await client.post("/write", headers={"origin": "http://localhost:3000"})).status_code == 200


async def test_a_defect_is_answered_without_its_trace(client: httpx.AsyncClient) -> None:
    response = await client.get("/defect")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "internal")
    assert error["detail"]["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert counted == [("internal", "critical")]


async def test_a_defect_after_the_answer_began_only_ends_it() -> None:
    """The answer stays incomplete, so that the server closes the connection and the client sees that it broke
    off.
    """

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        raise RuntimeError("a secret of the inside")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
    counted.clear()
    gate = Gate(app, allowed_hosts=["localhost"], count_error=lambda *error: counted.append(error))
    await gate(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert counted == [("internal", "critical")]


async def test_every_answer_has_a_request_id_of_its_own(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/health")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
