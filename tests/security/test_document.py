"""schemathesis over the OpenAPI document: whatever is sent, within what it allows or not, nothing answers with a 5xx,
nothing answers what is not documented, and nothing that the document forbids is taken.
"""

from collections.abc import Iterator
from typing import Any

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

EXAMPLES = 12
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
def operations(system: RunningSystem) -> list[Any]:
    document = schemathesis.openapi.from_url(f"{system.url}/openapi.json")
    found = [result.ok() for result in document.get_all_operations()]
    return [operation for operation in found if operation.path not in LEFT_OUT]


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
        except (Exception, ExceptionGroup) as found:
            causes = found.exceptions if isinstance(found, ExceptionGroup) else (found,)
            yield f"{operation.label}: " + "\n".join(str(cause) for cause in causes)


def test_the_document_is_true(operations: list[Any]) -> None:
    assert len(operations) > 35
    assert not list(problems(operations, examples=EXAMPLES))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_document_is_true_whatever_is_sent(operations: list[Any]) -> None:
    assert not list(problems(operations, examples=LONG_EXAMPLES))
