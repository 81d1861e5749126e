"""The OpenAPI document: routes say which structs go in and out, the schemas come from the structs.

Bodies are parsed by msgspec, which FastAPI knows nothing of; `describe` puts them into the document.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from coordinator.core.errors import ERRORS, ErrorCode
from coordinator.http.errors import TOO_EARLY, ErrorAnswer
from coordinator.http.gate import OPEN_PATHS
from coordinator.tokens import Scope

_REF = "#/components/schemas/{name}"
_TYPES: set[Any] = {ErrorAnswer}
#: What any route may answer before its handler is asked: who is calling, how often, by what name, with what parameters.
_EVERYWHERE = (
    ErrorCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN,
    ErrorCode.HOST_NOT_ALLOWED,
    ErrorCode.INVALID,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL,
)


class RouteDocs(TypedDict):
    """Keyword arguments of a FastAPI route."""

    summary: str
    status_code: int
    responses: dict[int | str, dict[str, Any]]
    openapi_extra: dict[str, Any]


def describe(
    summary: str,
    *,
    answers: Mapping[int, Any],
    body: Any = None,
    body_example: Any = None,
    example: Any = None,
    body_required: bool = True,
    errors: Iterable[ErrorCode] = (),
    denials: bool = False,
    secured: bool = False,
    scope: Scope | None = None,
    media_type: str = "application/json",
) -> RouteDocs:
    """Document a route: what goes in, what comes out by status, and which errors it answers.

    `answers` maps a status to a struct (or a generic of structs, or None for plain text). `example` is of the
    first of them. `scope`: what an operator's token needs, where it is not `operate`.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for at, (status, kind) in enumerate(answers.items()):
        content = _content(kind, example if at == 0 else None, media_type)
        responses[status] = {"description": summary, "content": content}
    for status, codes in _codes_by_status(errors).items():
        responses[status] = _error_response(status, codes)
    if denials:
        responses[TOO_EARLY] = _error_response(TOO_EARLY, ["the typed denial"])
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = {"required": body_required, "content": _content(body, body_example)}
    if secured or scope is not None:
        extra["security"] = [{"bearer": [] if scope is None else [scope.value]}]
    return RouteDocs(
        summary=summary, status_code=next(iter(answers)), responses=responses, openapi_extra=extra
    )


def install_openapi(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Make `app.openapi()` the full document of its routers, built once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, routers)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to replace it


def _document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(msgspec.json.schema_components(sorted(_TYPES, key=repr), ref_template=_REF)[1])
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for route in (route for router in routers for route in router.routes):
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            _complete(document["paths"][route.path_format][method.lower()], route)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return dict(_ecmascript_patterns(document))


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    """What FastAPI leaves out of the contents that we gave it (null fields of examples), and its own 422."""
    own = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
    if own.get("schema", {}).get("$ref", "").endswith("HTTPValidationError"):
        operation["responses"]["422"] = _error_response(422, [ErrorCode.INVALID])
    for status, response in route.responses.items():
        operation["responses"][str(status)]["content"] = response["content"]
    if route.path_format not in OPEN_PATHS:
        for code in _EVERYWHERE:
            status = str(ERRORS[code].status)
            operation["responses"].setdefault(status, _error_response(int(status), [code]))
    if route.path_format.startswith("/admin") and operation.get("security") == [{"bearer": []}]:
        operation["security"] = [{"bearer": [Scope.OPERATE.value]}]
    if route.openapi_extra and "requestBody" in route.openapi_extra:
        operation["requestBody"] = route.openapi_extra["requestBody"]


def _content(kind: Any, example: Any, media_type: str = "application/json") -> dict[str, Any]:
    if kind is None:
        schema: dict[str, Any] = {"type": "string"}
    else:
        _TYPES.add(kind)
        (schema,), _ = msgspec.json.schema_components((kind,), ref_template=_REF)
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = msgspec.json.decode(msgspec.json.encode(example))
    return {media_type: content}


def _codes_by_status(errors: Iterable[ErrorCode]) -> dict[int, list[str]]:
    by_status: dict[int, list[str]] = {}
    for code in errors:
        by_status.setdefault(ERRORS[code].status, []).append(code)
    return by_status


def _error_response(status: int, codes: Iterable[str]) -> dict[str, Any]:
    content = _content(ErrorAnswer, None)
    return {"description": f"{status}: " + ", ".join(codes), "content": content}


def _ecmascript_patterns(node: Any) -> Any:
    r"""Python's `\Z` (the true end; `$` would allow a newline) is `$` in a JSON schema."""
    if isinstance(node, dict):
        return {
            key: value.replace(r"\Z", "$") if key == "pattern" else _ecmascript_patterns(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_ecmascript_patterns(item) for item in node]
    return node
