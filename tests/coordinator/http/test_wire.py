"""Bodies: strict JSON under a limit, whatever the content type; nothing that is sent makes it fail otherwise."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from fastapi import FastAPI, Request, Response
from hypothesis import given
from hypothesis import strategies as st

from coordinator.answers_admin import Scalar
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http import wire
from coordinator.http.errors import install_error_handlers
from coordinator.http.wire import MAX_VALUES, answer, parse_json, read_body, rfc3339, whole

LIMIT = 1_000


class Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: int = 0
    inner: dict[str, int] = {}


def refused(text: bytes) -> CoreError:
    with pytest.raises(CoreError) as caught:
        parse_json(text, Body)
    return caught.value


class TestParse:
    def test_a_body_of_the_type_passes(self) -> None:
        assert parse_json(b' {"name": "x", "count": 3} ', Body) == Body("x", 3)

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            (b'{"count": 1}', "name"),
            (b'{"name": 1}', "name"),
            (b'{"name": "x", "inner": {"a": "b"}}', "inner[...]"),
            (b'{"name": "x", "colour": 1}', "colour"),
            (b'{"name": "x", "name": "y"}', "name"),
            (b'{"name": "x", "inner": {"a": 1, "a": 2}}', "a"),
            (b'{"name": "x", "count": 1e400}', "count"),
            (b"[]", "body"),
            (b"", "body"),
            (b"{", "body"),
            (b'{"name": NaN}', "body"),
            (b'{"name": "x", "count": -Infinity}', "body"),
            (b'{"name": "\xff"}', "body"),
            (b'{"name": "\\ud800"}', "body"),
            (b'{"name": "x"} x', "body"),
            (b'\xef\xbb\xbf{"name": "x"}', "body"),
            ('{"name": "x"}'.encode("utf-16"), "body"),
            (b"[" * 100_000, "body"),
            (b'{"name": "x", "inner":' * 50_000, "body"),
            (b'{"name": "x", "count": ' + b"9" * 10_000 + b"}", "body"),
        ],
    )
    def test_what_is_wrong_is_named(self, text: bytes, field: str) -> None:
        error = refused(text)
        assert (error.code, error.field) == (ErrorCode.INVALID, field)
        assert error.message

    def test_more_values_than_fit_are_refused_before_they_are_built(self) -> None:
        assert refused(b"[" + b"[]," * (MAX_VALUES // 2 + 1)).code is ErrorCode.TOO_LARGE

    @given(st.binary(max_size=200))
    def test_no_bytes_crash(self, text: bytes) -> None:
        try:
            parse_json(text, Body)
        except CoreError as error:
            assert error.status in (413, 422)  # noqa: PT017  # bytes that are a body pass, and that is right

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        )
    )
    def test_json_of_any_shape_is_answered(self, value: object) -> None:
        try:
            parsed = parse_json(msgspec.json.encode(value), dict[str, Scalar])
        except CoreError as error:
            assert error.code is ErrorCode.INVALID  # noqa: PT017  # see above
        else:
            assert isinstance(parsed, dict)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_error_handlers(app, count_error=lambda _code, _severity: None)

    @app.post("/echo")
    async def echo(request: Request, optional: bool = False) -> Response:
        return answer(await read_body(request, dict[str, str], limit_bytes=LIMIT, optional=optional))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


class TestRead:
    @pytest.mark.parametrize(
        "content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", None]
    )
    async def test_the_content_type_does_not_matter(
        self, client: httpx.AsyncClient, content_type: str | None
    ) -> None:
        headers = {} if content_type is None else {"content-type": content_type}
        response = await client.post("/echo", content=b'{"a":"b"}', headers=headers)
        assert (response.status_code, response.json()) == (200, {"a": "b"})

    async def test_an_announced_size_is_refused_at_once(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/echo", content=b" " * (LIMIT + 1))
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_large"
        assert response.headers["connection"] == "close"

    async def test_a_stream_is_refused_soon_after_it_is_too_long(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wire, "DISCARDED_BYTES", 500)
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(1_000):
                sent += 100
                yield b" " * 100

        response = await client.post("/echo", content=endless())
        assert response.status_code == 413
        assert sent <= LIMIT + 500 + 200

    async def test_a_body_at_the_limit_passes(self, client: httpx.AsyncClient) -> None:
        body = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
        assert len(body) == LIMIT
        assert (await client.post("/echo", content=body)).status_code == 200

    async def test_an_absent_body_is_an_empty_object_where_that_is_allowed(
        self, client: httpx.AsyncClient
    ) -> None:
        assert (await client.post("/echo?optional=true")).json() == {}
        assert (await client.post("/echo")).status_code == 422

    async def test_a_compressed_body_is_refused(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/echo", content=b"{}", headers={"content-encoding": "gzip"})
        assert response.json()["error"]["detail"]["field"] == "content-encoding"

    async def test_unknown_paths_methods_and_parameters_have_the_one_shape(
        self, client: httpx.AsyncClient
    ) -> None:
        for response, status, code in (
            (await client.get("/nowhere"), 404, "not_found"),
            (await client.get("/echo"), 405, "method_not_allowed"),
            (await client.post("/echo?optional=perhaps"), 422, "invalid"),
        ):
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (status, code)
            assert set(error) == {"code", "message", "detail"}


def test_times_and_whole_numbers() -> None:
    assert rfc3339(1_769_860_800_500) == "2026-01-31T12:00:00.500Z"
    assert msgspec.json.encode([whole(100.0), whole(12.5)]) == b"[100,12.5]"
