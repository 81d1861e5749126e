"""docs/API.md, made from the OpenAPI document: `python -m coordinator.http.api_docs` prints it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.http.app import routed_app

_INTRODUCTION = """\
# The HTTP API

<!-- Made by `python -m coordinator.http.api_docs` from the routes: change it there. -->

A running coordinator serves this as OpenAPI 3.1 at `/openapi.json`. Bodies are JSON whatever their content type says;
digests are 64 hex digits, bytes are base64, times are RFC 3339 UTC, stake is in lamports. Every error has the shape
`{"error": {"code", "message", "detail"}}`, where `detail` says what to do (`advice`) and whether a retry can help
(`retry`). Routes marked 🔒 need `Authorization: Bearer TOKEN`: an agent's own under `/v1`, the operator's under
`/admin`. Lists take `limit` and `cursor`; a `Link` header, or `next_cursor`, leads to the next page.

| route | |
| --- | --- |
"""

Document = Mapping[str, Any]


def api_page() -> str:
    """The whole page, as Markdown."""
    document = routed_app().openapi()
    operations = list(_operations(document))
    parts = [_INTRODUCTION]
    parts += [f"| [`{name}`](#{_anchor(name)}) | {facts['summary']} |\n" for name, facts in operations]
    parts += ["".join(_section(document, name, facts)) for name, facts in operations]
    return "".join(parts)


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, methods in document["paths"].items():
        for method, facts in methods.items():
            yield f"{method.upper()} {path}", facts


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(document: Document, name: str, facts: Document) -> Iterator[str]:
    yield f"\n## {name}\n\n{'🔒 ' * bool(facts.get('security'))}{facts['summary']}."
    description = " ".join(facts.get("description", "").split())
    yield f" {description}\n" if description else "\n"
    parameters = facts.get("parameters", [])
    if parameters:
        yield "\n| parameter | in | |\n| --- | --- | --- |\n"
        yield from map(_parameter, parameters)
    body = facts.get("requestBody")
    if body is not None:
        yield from _content(
            "Body" if body["required"] else "Body, which may be left out", body["content"], document
        )
    for status, response in facts["responses"].items():
        if int(status) < 300:
            yield from _content(f"Answers {status}", response["content"], document)
    errors = [_error(status, r) for status, r in facts["responses"].items() if int(status) >= 300]
    if errors:
        yield f"\nErrors: {'; '.join(errors)}.\n"


def _error(status: str, response: Document) -> str:
    described = str(response["description"])
    return described if described.startswith(status) else f"{status}, with the body of a success"


def _parameter(facts: Document) -> str:
    schema = facts["schema"]
    bounds = ", ".join(_bounds(schema))
    words = [facts.get("description", ""), f"({bounds})" if bounds else ""]
    name = f"`{facts['name']}`" + (" *" if facts.get("required") else "")
    return f"| {name} | {facts['in']} | {' '.join(filter(None, words))} |\n"


def _bounds(schema: Document) -> Iterator[str]:
    for choice in schema.get("anyOf", [schema]):
        named = [("from", choice.get("minimum")), ("to", choice.get("maximum"))]
        limits = " ".join(f"{word} {value}" for word, value in named if value is not None)
        if limits:
            yield limits
    if schema.get("default") is not None:
        yield f"default {schema['default']}"


def _content(title: str, content: Document, document: Document) -> Iterator[str]:
    (media_type, facts), *_ = content.items()
    schema = facts["schema"].get("$ref", "").rpartition("/")[2]
    described = document["components"]["schemas"].get(schema, {}).get("description", "") if schema else ""
    yield f"\n{title}"
    yield f", {media_type}" if media_type != "application/json" else ""
    yield f": {' '.join(described.split())}\n" if described else ".\n"
    example = facts.get("example")
    if example is not None and media_type == "application/json":
        yield f"\n```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```\n"
    elif example is not None:
        yield f"\n```text\n{str(example).rstrip()}\n```\n"


if __name__ == "__main__":
    print(api_page(), end="")
