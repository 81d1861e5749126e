"""Who may call what: every route of the application without a token, with a wrong one and with too weak a one.

The table is the application's own OpenAPI document, so that a new route is tested without a line here.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import httpx
import pytest

from coordinator.client.trust import trusted
from coordinator.http.admin.config import ACCESS_KEYS
from coordinator.http.gate import OPEN_PATHS, SECURITY_HEADERS
from coordinator.tokens import Scope, TokenFile
from tests.coordinator.conftest import OPERATOR_TOKEN, RunningSystem, unique
from tests.security.conftest import Callers

#: Questions that need a body: they change nothing and are open as reads are.
ASKING = {("POST", "/v1/simulate")}
PUBLIC = OPEN_PATHS | {"/openapi.json", "/"}

_addresses = count(2)


class Route(NamedTuple):
    """A route, and what an operator's token needs for it (None: no token is declared; "": an agent's will do)."""

    method: str
    path: str
    scope: str | None
    query: str = ""

    @property
    def url(self) -> str:
        return self.path.replace("{", "").replace("}", "") + self.query


@pytest.fixture(scope="module")
def callers(system: RunningSystem) -> Callers:
    file = TokenFile(system.folder)
    operators = {scope.value: file.create(f"an-{scope}", scope) for scope in Scope}
    with client() as http:
        made = http.post(
            f"{system.url}/v1/agents",
            json={"agent_id": unique("agent"), "agent_key": "01" * 32},
            headers=bearer(OPERATOR_TOKEN),
        )
    assert made.status_code == 201, made.text
    return Callers(operators, made.json()["token"])


@pytest.fixture
def closed_reads(system: RunningSystem) -> Iterator[None]:
    change(system, {"admin.require_token_for_reads": True})
    yield
    change(system, {"admin.require_token_for_reads": None})


def change(system: RunningSystem, changes: dict[str, Any], token: str = OPERATOR_TOKEN) -> None:
    with client() as http:
        answer = http.post(f"{system.url}/admin/config", json=changes, headers=bearer(token))
    assert answer.is_success, answer.text


def client() -> httpx.Client:
    """A client with an address of its own: failures are limited by address."""
    verify = trusted("http://", None)  # quickly made, where the default reads every authority's certificate
    address = f"127.0.1.{next(_addresses) % 250}"
    transport = httpx.HTTPTransport(local_address=address, verify=verify)
    return httpx.Client(transport=transport, verify=verify, timeout=30)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def routes(system: RunningSystem) -> list[Route]:
    found = []
    for path, methods in system.app.openapi()["paths"].items():
        for method, operation in methods.items():
            security = operation.get("security")
            scope = None if security is None else "".join(security[0]["bearer"])
            asked = [
                f"{given['name']}=x"
                for given in operation.get("parameters", ())
                if given["in"] == "query" and given.get("required")
            ]
            found.append(Route(method.upper(), path, scope, f"?{'&'.join(asked)}" if asked else ""))
    return found


def status(system: RunningSystem, route: Route, token: str | None) -> int:
    """What a call with a body that no route takes is answered; an event stream is left at once."""
    headers = {} if token is None else bearer(token)
    with (
        client() as http,
        http.stream(route.method, system.url + route.url, headers=headers, content=b"[]") as answer,
    ):
        return answer.status_code


def test_every_route_that_changes_something_needs_a_token(system: RunningSystem) -> None:
    writes = [route for route in routes(system) if route.method != "GET" and route[:2] not in ASKING]
    assert len(writes) > 12
    for route in writes:
        assert route.scope is not None, route
        assert status(system, route, None) == 401, route
        assert status(system, route, "wrong") == 401, route


def test_every_admin_route_that_changes_something_needs_its_scope(
    system: RunningSystem, callers: Callers
) -> None:
    writes = [route for route in routes(system) if route.method != "GET" and route.path.startswith("/admin")]
    assert len(writes) > 5
    for route in writes:
        assert route.scope in ("operate", "admin"), route
        assert status(system, route, callers.agent) == 403, route
        for scope, token in callers.operators.items():
            enough = Scope(scope).allows(Scope(route.scope))
            assert (status(system, route, token) not in (401, 403)) is enough, (route, scope)


def test_only_admins_write_for_agents(system: RunningSystem, callers: Callers) -> None:
    for route in routes(system):
        if route.path.startswith("/v1") and route.method == "POST" and route[:2] not in ASKING:
            for scope in ("read", "operate"):
                assert status(system, route, callers.operators[scope]) == 403, (route, scope)
            assert status(system, route, callers.operators["admin"]) not in (401, 403), route


def test_reads_are_open_until_they_are_closed(system: RunningSystem) -> None:
    for route in routes(system):
        if route.method == "GET" and route.scope is None:
            assert status(system, route, None) not in (401, 403), route


@pytest.mark.usefixtures("closed_reads")
def test_closed_reads_need_a_token_of_scope_read(system: RunningSystem, callers: Callers) -> None:
    reads = [route for route in routes(system) if route.method == "GET" and route.path not in PUBLIC]
    assert len(reads) > 25
    for route in reads:
        assert status(system, route, None) == 401, route
        assert status(system, route, "wrong") == 401, route
        if not route.path.startswith("/v1"):
            assert status(system, route, callers.agent) == 403, route
        if route.scope is None:
            assert status(system, route, callers.operators["read"]) not in (401, 403), route
    for path in OPEN_PATHS:
        assert status(system, Route("GET", path, None), None) == 200


@pytest.mark.parametrize("prefix", ACCESS_KEYS)
def test_who_may_do_what_is_for_admins_to_change(
    system: RunningSystem, callers: Callers, prefix: str
) -> None:
    key = {
        "admin.": "admin.max_body_bytes",
        "agents.": "agents.open_registration",
        "tasks.": "tasks.require_registration",
    }
    with client() as http:
        answer = http.post(
            f"{system.url}/admin/config",
            json={key[prefix]: None},
            headers=bearer(callers.operators["operate"]),
        )
    assert answer.json()["error"]["code"] == "forbidden"
    change(system, {key[prefix]: None}, callers.operators["admin"])
    change(system, {"speculation.max_depth": None}, callers.operators["operate"])


def test_a_revoked_token_is_refused_at_once(system: RunningSystem) -> None:
    token = TokenFile(system.folder).create("short-lived", Scope.OPERATE)
    change(system, {"speculation.max_depth": None}, token)
    TokenFile(system.folder).revoke("short-lived")
    with client() as http:
        answer = http.post(f"{system.url}/admin/gc", headers=bearer(token))
    assert answer.status_code == 401


def test_guesses_are_limited_and_counted(system: RunningSystem) -> None:
    with client() as http:
        answers = [http.post(f"{system.url}/admin/gc", headers=bearer(f"guess-{at}")) for at in range(40)]
        assert {answer.status_code for answer in answers} == {401, 429}
        assert answers[-1].headers["retry-after"]
        # Not even the right token, as long as the guessing goes on.
        assert http.post(f"{system.url}/admin/gc", headers=bearer(OPERATOR_TOKEN)).status_code == 429
        metrics = http.get(f"{system.url}/metrics").text
    assert 'speculation_errors_total{error_type="rate_limited",severity="warning"}' in metrics
    with client() as other:
        assert other.post(f"{system.url}/admin/gc", headers=bearer(OPERATOR_TOKEN)).status_code == 200


def test_a_forwarded_header_does_not_choose_whose_failures_are_counted(system: RunningSystem) -> None:
    with httpx.Client() as http:  # from the address that a server tends to take for a proxy's
        for at in range(40):
            headers = bearer("guess") | {"x-forwarded-for": f"10.0.0.{at}"}
            answer = http.post(f"{system.url}/admin/gc", headers=headers)
    assert answer.status_code == 429


def test_no_page_of_another_site_gets_anywhere(system: RunningSystem) -> None:
    """CORS is closed: no answer allows an origin, a preflight is refused, and a form cannot write without the token."""
    origin = {"origin": "https://evil.example"}
    with client() as http:
        preflight = http.options(
            f"{system.url}/admin/config", headers=origin | {"access-control-request-method": "POST"}
        )
        reading = http.get(f"{system.url}/admin/status", headers=origin)
        form = http.post(
            f"{system.url}/admin/gc", headers={"content-type": "application/x-www-form-urlencoded"}
        )
        own = http.get(f"{system.url}/admin/status", headers={"origin": system.url})
    assert (preflight.status_code, reading.status_code, form.status_code, own.status_code) == (
        403,
        403,
        401,
        200,
    )
    for answer in (preflight, reading, form, own):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_every_answer_says_that_it_is_nobodys_page(system: RunningSystem) -> None:
    wanted = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
    with client() as http:
        for answer in (
            http.get(f"{system.url}/health"),
            http.get(f"{system.url}/nowhere"),
            http.post(f"{system.url}/admin/gc"),
            http.get(f"{system.url}/admin/status", headers={"host": "evil.example"}),
        ):
            assert wanted.items() <= dict(answer.headers).items(), answer.status_code


def test_the_workers_port_answers_to_its_names_alone(system: RunningSystem) -> None:
    url = f"http://127.0.0.1:{system.service.parts.node.port}"
    with client() as http:
        assert http.get(f"{url}/metrics").status_code == 200
        refused = http.get(f"{url}/metrics", headers={"host": "evil.example"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (421, "host_not_allowed")
        assert http.get(f"{url}/health", headers={"host": "10.1.2.3"}).status_code == 200
