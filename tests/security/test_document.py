"""schemathesis over the OpenAPI document: whatever is sent, within what it allows or not, nothing answers with a 5xx,
nothing answers what is not documented, and nothing that the document forbids is taken.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.coordinator.conftest import OPERATOR_TOKEN, RunningSystem

EXAMPLES = 8
LONG_EXAMPLES = 100
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
#: Not asked: a stream that does not end, and answers that take as long as they were told to.
LEFT_OUT = {"/v1/events", "/admin/debug/profile/start", "/admin/debug/profile/result"}


@pytest.fixture(scope="module")
def document(system: RunningSystem) -> dict[str, Any]:
    with httpx.Client() as http:
        served = http.get(f"{system.url}/openapi.json").json()
    assert isinstance(served, dict)
    return served | {"servers": [{"url": system.url}]}


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Any]:
    asked = [operation for operation in operations_of(document) if operation.path not in LEFT_OUT]
    # Last: while the state is rebuilt every write answers 503.
    return sorted(asked, key=lambda operation: operation.path == "/admin/recovery")


def operations_of(document: dict[str, Any]) -> list[Any]:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=document["servers"][0]["url"])
    return [result.ok() for result in schema.get_all_operations()]


def problems(operations: list[Any], *, examples: int) -> Iterator[str]:
    """What does not hold, a line for each operation; the first counterexample in full."""
    for operation in operations:

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def holds(case: Any) -> None:
            answer = case.call(headers={"authorization": f"Bearer {OPERATOR_TOKEN}"}, timeout=30)
            case.validate_response(answer, checks=CHECKS)

        try:
            holds()
        except (Exception, BaseExceptionGroup) as found:
            yield f"{operation.label}: {found}"


def test_an_answer_that_is_not_documented_is_noticed(document: dict[str, Any]) -> None:
    path = "/v1/operations/{operation_id}"
    known = document["paths"][path]["get"]
    silent = known | {"responses": {"200": known["responses"]["200"]}}
    (operation,) = operations_of(document | {"paths": {path: {"get": silent}}})
    (problem,) = problems([operation], examples=EXAMPLES)
    assert "Undocumented status code" in problem


def test_the_document_is_true(operations: list[Any]) -> None:
    assert len(operations) > 35
    assert not list(problems(operations, examples=EXAMPLES))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_document_is_true_whatever_is_sent(operations: list[Any]) -> None:
    assert not list(problems(operations, examples=LONG_EXAMPLES))
