"""The one shape of every error, `{"error": {"code", "message", "detail"}}`, and who turns what into it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from coordinator.core.errors import ERRORS, CoreError, ErrorCode
from coordinator.core.states import Denial
from coordinator.service import SpeculationDenied

#: HTTP's "too early": the output exists, but speculating on it is denied for now.
TOO_EARLY = 425

#: Seconds after which a retry may help, by code.
RETRY_AFTER_S: Mapping[ErrorCode, int] = {
    ErrorCode.QUEUE_FULL: 1,
    ErrorCode.RATE_LIMITED: 1,
    ErrorCode.READ_ONLY: 5,
}

#: What `speculation_errors_total` counts; an agent's own mistakes are its own.
SEVERITIES: Mapping[ErrorCode, str] = {
    ErrorCode.UNAUTHORIZED: "warning",
    ErrorCode.FORBIDDEN: "warning",
    ErrorCode.RATE_LIMITED: "warning",
    ErrorCode.HOST_NOT_ALLOWED: "warning",
    ErrorCode.QUEUE_FULL: "warning",
    ErrorCode.READ_ONLY: "error",
    ErrorCode.INTERNAL: "critical",
}

#: (error type, severity)
CountError: TypeAlias = Callable[[str, str], None]

_BY_STATUS: Mapping[int, tuple[ErrorCode, str]] = {
    400: (ErrorCode.INVALID, "the request is malformed"),
    404: (ErrorCode.NOT_FOUND, "no such route"),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "the route exists, the method does not"),
    413: (ErrorCode.TOO_LARGE, "the request body is too large"),
    415: (ErrorCode.INVALID, "the body's encoding is not supported"),
}


Detail: TypeAlias = dict[str, bool | int | float | str | None]


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong: a stable code, a message for people, and a detail for programs."""

    code: str
    message: str
    detail: Detail


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: ErrorBody


def error_response(error: CoreError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an operating error, with Retry-After where waiting helps."""
    sent = dict(headers or {})
    if error.code in RETRY_AFTER_S:
        sent.setdefault("retry-after", str(RETRY_AFTER_S[error.code]))
    if error.code is ErrorCode.UNAUTHORIZED:
        sent.setdefault("www-authenticate", "Bearer")
    if error.code is ErrorCode.TOO_LARGE:
        # What is left of the body will not be read.
        sent.setdefault("connection", "close")
    return _answer(error.status, error_body(error), sent)


def error_body(error: CoreError) -> ErrorBody:
    """The error as it stands in a body: alone, or as one verdict of a batch."""
    facts = ERRORS[error.code]
    detail: Detail = {
        "advice": facts.advice,
        "retry": facts.retry,
    }
    if error.field is not None:
        detail["field"] = error.field
    return ErrorBody(code=error.code, message=error.message, detail=detail)


def error_object(error: CoreError) -> dict[str, Any]:
    """The error as plain data, for a verdict within a larger answer."""
    plain = msgspec.to_builtins(error_body(error))
    assert isinstance(plain, dict)
    return plain


def denial_response(denial: Denial) -> Response:
    """425: the parent's output is not given, because speculating on it would be denied."""
    detail: Detail = {
        "advice": "wait for the confirmation (?wait=30), or ask again later",
        "retry": True,
    }
    message = f"speculation on this output is denied: {denial}"
    return _answer(TOO_EARLY, ErrorBody(code=denial, message=message, detail=detail), {})


def internal_response(request_id: str) -> Response:
    """500: a defect. The log has the rest under the request id; the caller gets nothing of it."""
    facts = ERRORS[ErrorCode.INTERNAL]
    body = ErrorBody(
        code=ErrorCode.INTERNAL,
        message="an internal error; the log has it under the request id",
        detail={"advice": facts.advice, "retry": facts.retry, "request_id": request_id},
    )
    return _answer(facts.status, body, {})


def install_error_handlers(app: FastAPI, *, count_error: CountError) -> None:
    """Give every error the one shape, and count those that an operator should hear of."""

    async def core_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, CoreError)
        if error.code in SEVERITIES:
            count_error(error.code, SEVERITIES[error.code])
        return error_response(error)

    app.add_exception_handler(CoreError, core_error)
    app.add_exception_handler(SpeculationDenied, _denied)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _denied(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SpeculationDenied)
    return denial_response(error.denial)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = _BY_STATUS.get(error.status_code, (ErrorCode.INVALID, str(error.detail)))
    return error_response(CoreError(code, message), headers=error.headers)


async def _validation_error(_request: Request, error: Exception) -> Response:
    """A path or query parameter is wrong (bodies are parsed by `wire.read_body`)."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "query"
    return error_response(CoreError(ErrorCode.INVALID, f"{field}: {first['msg']}", field=field))


def _answer(status: int, body: ErrorBody, headers: Mapping[str, str]) -> Response:
    return Response(
        msgspec.json.encode(ErrorAnswer(error=body)),
        status_code=status,
        headers=dict(headers),
        media_type="application/json",
    )
