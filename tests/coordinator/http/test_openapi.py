"""The OpenAPI document: valid, covering every route, and its examples are what its schemas say."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from jsonschema import Draft202012Validator

from coordinator.http.app import routed_app


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return routed_app()


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": document["components"]})


def contents(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every media type object, named by where it stands."""
    found = []
    for name, operation in operations(document):
        bodies = {"body": operation.get("requestBody", {})} | operation["responses"]
        found += [
            (f"{name} {status}", content)
            for status, body in bodies.items()
            for content in body.get("content", {}).values()
        ]
    return found


def test_every_route_is_there(app: FastAPI, document: dict[str, Any]) -> None:
    routes = {
        f"{method} {context.path_format}"
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute) and context.original_route.include_in_schema
        for method in context.methods or ()
    }
    assert {name for name, _ in operations(document)} == routes
    assert len(routes) > 35


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        success = [status for status in operation["responses"] if status.startswith("2")]
        assert success, name


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for item in node.values() for found in references(item)]
        if isinstance(node, list):
            return [found for item in node for found in references(item)]
        return []

    names = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert names == document["components"]["schemas"].keys()


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert "\\Z" not in str(schema), name


def test_every_example_is_of_its_schema(document: dict[str, Any]) -> None:
    checked = 0
    for name, content in contents(document):
        if "example" in content:
            problems = list(validator(document, content["schema"]).iter_errors(content["example"]))
            assert not problems, (name, problems)
            checked += 1
    assert checked > 35


def test_every_json_success_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        first = next(
            response for status, response in operation["responses"].items() if status.startswith("2")
        )
        media_type, content = next(iter(first["content"].items()))
        assert "example" in content or media_type == "application/octet-stream", name


def test_errors_have_the_one_shape(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("4"):
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (name, status)


def test_every_write_of_the_operator_is_marked_as_secured(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if name.startswith(("POST /admin", "DELETE")):
            (scheme,) = operation["security"]
            scopes = [] if name.startswith("DELETE") else ["operate"]
            assert scheme["bearer"] in (scopes, ["admin"]), name
            assert {"401", "403"} <= operation["responses"].keys(), name


async def test_it_is_served(app: FastAPI, document: dict[str, Any]) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        served = (await client.get("/openapi.json")).json()
    assert served == json.loads(json.dumps(document))
