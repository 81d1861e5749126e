"""The operator's API over real HTTP: what the runbook asks, and that nothing is written without the token."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.client.sync import Client
from coordinator.core.errors import ERRORS, ErrorCode
from coordinator.core.states import RollbackReason
from coordinator.metrics_table import METRICS
from coordinator.settings_table import KEYS
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem, unique

TOKEN = {"authorization": f"Bearer {OPERATOR_TOKEN}"}
CONFIRM_S = 60.0

READS = (
    "/admin/status",
    "/admin/config",
    "/admin/workers",
    "/admin/rollback-stats",
    "/admin/circuit-breaker",
    "/admin/blocked-operations",
    "/admin/slashes",
    "/admin/stake/status",
    "/admin/chain-status",
    "/admin/confirmation-status",
    "/admin/integrity-check",
    "/admin/audit",
    "/health/detailed",
    "/metrics",
)
WRITES = (
    "/admin/config",
    "/admin/emergency",
    "/admin/proof/clear-queue",
    "/admin/operations/timeout-stale",
    "/admin/circuit-breaker/reset",
)


@pytest.fixture
def http(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=90) as client:
        yield client


@pytest.fixture
def unlimited(system: RunningSystem) -> Iterator[None]:
    """Later tests come from the same address with tokens that it has not used yet."""
    yield
    system.app.state.context.auth._limiter._buckets.clear()


def errors_counted(http: httpx.Client, error_type: str) -> float:
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            if sample.labels.get("error_type") == error_type:
                return float(sample.value)
    return 0.0


def post(http: httpx.Client, path: str, body: Any = None) -> httpx.Response:
    """As the runbook's curls: no content type."""
    return http.post(path, content=None if body is None else json.dumps(body), headers=TOKEN)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


class TestTokens:
    @pytest.mark.parametrize("path", WRITES)
    def test_nothing_is_written_without_the_operators_token(
        self, http: httpx.Client, actor: Actor, path: str
    ) -> None:
        assert code_of(http.post(path, content=b"{}")) == (401, "unauthorized")
        wrong = http.post(path, content=b"{}", headers={"authorization": "Bearer wrong"})
        assert code_of(wrong) == (401, "unauthorized")
        assert wrong.headers["www-authenticate"] == "Bearer"
        agents = http.post(path, content=b"{}", headers={"authorization": f"Bearer {actor.token}"})
        assert code_of(agents) == (403, "forbidden")

    @pytest.mark.parametrize("path", READS)
    def test_reads_are_open_until_they_are_closed(
        self, http: httpx.Client, operator: Client, actor: Actor, path: str
    ) -> None:
        assert http.get(path).status_code == 200
        operator.set_config({"admin.require_token_for_reads": True})
        assert code_of(http.get(path)) == (401, "unauthorized")
        agents = http.get(path, headers={"authorization": f"Bearer {actor.token}"})
        assert code_of(agents) == (403, "forbidden")
        assert http.get(path, headers=TOKEN).status_code == 200
        assert http.get("/health").status_code == http.get("/ready").status_code == 200

    def test_closed_reads_of_v1_take_any_token(
        self, http: httpx.Client, operator: Client, actor: Actor
    ) -> None:
        operator.set_config({"admin.require_token_for_reads": True})
        path = f"/v1/agents/{actor.agent_id}"
        assert code_of(http.get(path)) == (401, "unauthorized")
        assert http.get(path, headers={"authorization": f"Bearer {actor.token}"}).status_code == 200

    def test_failures_are_counted_and_slowed_down(self, http: httpx.Client, unlimited: None) -> None:
        post(http, "/admin/circuit-breaker/reset")
        before = errors_counted(http, "unauthorized")
        codes = [
            http.post("/admin/config", headers={"authorization": f"Bearer guess-{at}"}).status_code
            for at in range(60)
        ]
        assert codes[0] == 401
        assert 429 in codes
        assert errors_counted(http, "unauthorized") == before + codes.count(401)
        # Whoever used the token before is not locked out.
        assert post(http, "/admin/circuit-breaker/reset").status_code == 200


class TestHealth:
    def test_the_runbooks_answers(self, http: httpx.Client, operator: Client) -> None:
        on = http.get("/health").json()
        assert (on["status"], on["speculation"], on["rollout"]) == ("healthy", "enabled", 100)
        assert isinstance(on["rollout"], int)
        assert on["proofs"] == "mock"
        assert '"rollout":100' in http.get("/health").text
        operator.set_config({"speculation.features.rollout_percentage": 12.5})
        assert http.get("/health").json()["rollout"] == 12.5
        operator.set_config({"speculation.enabled": False})
        off = http.get("/health").json()
        assert (off["status"], off["speculation"]) == ("healthy", "disabled")
        assert "rollout" not in off

    def test_status_has_exactly_this_of_speculation(self, http: httpx.Client, operator: Client) -> None:
        status = http.get("/admin/status").json()
        assert status["speculation"] == {"enabled": True, "pending_operations": 0}
        operator.set_config({"speculation.enabled": False})
        assert http.get("/admin/status").json()["speculation"]["enabled"] is False

    def test_a_stop_shows_as_disabled(self, http: httpx.Client, operator: Client) -> None:
        post(http, "/admin/emergency", {"action": "drain_speculation"})
        assert http.get("/health").json()["speculation"] == "disabled"
        assert http.get("/admin/status").json()["latch"] == "draining"
        operator.set_config({"speculation.enabled": True})
        assert http.get("/health").json()["speculation"] == "enabled"

    def test_parts_of_the_score(self, http: httpx.Client) -> None:
        detailed = http.get("/health/detailed").json()
        assert detailed["score"] == min(detailed["parts"].values())
        assert set(detailed["parts"]) >= {"log", "chain", "circuit_breaker", "workers"}
        assert http.get("/ready").json() == {"ready": True, "reasons": []}


class TestConfig:
    def test_every_key_with_where_it_came_from(self, http: httpx.Client, operator: Client) -> None:
        operator.set_config({"speculation.max_depth": 4})
        answer = http.get("/admin/config").json()
        assert answer["keys"].keys() == KEYS.keys()
        depth = answer["keys"]["speculation.max_depth"]
        assert (depth["value"], depth["source"]) == (4, "runtime")
        assert depth["range"] == "a whole number from 1 to 20"
        assert answer["keys"]["speculation.proof.generator"]["source"] == "environment"
        assert answer["keys"]["speculation.max_parallel_branches"] | {"description": ""} == {
            "value": 2,
            "source": "mode",
            "detail": "conservative",
            "default": None,
            "type": "int",
            "range": "a whole number from 1 to 16",
            "unit": "",
            "restart_only": False,
            "description": "",
        }
        assert OPERATOR_TOKEN not in json.dumps(answer)
        assert answer["keys"]["admin.token"]["value"] == "(set)"

    def test_a_change_takes_effect_and_null_takes_it_back(self, http: httpx.Client, operator: Client) -> None:
        change = post(http, "/admin/config", {"speculation.features.rollout_percentage": 25}).json()
        assert change == {
            "before": {"speculation.features.rollout_percentage": 100},
            "after": {"speculation.features.rollout_percentage": 25},
        }
        back = post(http, "/admin/config", {"speculation.features.rollout_percentage": None}).json()
        assert back["after"] == {"speculation.features.rollout_percentage": 100}

    def test_a_change_is_all_or_nothing(self, http: httpx.Client, operator: Client) -> None:
        response = post(http, "/admin/config", {"speculation.max_depth": 7, "speculation.mode": "reckless"})
        assert code_of(response) == (422, "invalid")
        error = response.json()["error"]
        assert error["detail"]["field"] == "speculation.mode"
        assert error["message"] == (
            "speculation.mode: 'reckless' is not allowed; "
            "expected one of conservative, balanced, aggressive, custom"
        )
        assert http.get("/admin/config").json()["keys"]["speculation.max_depth"]["value"] == 3

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"speculation.nonsense": 1}, (422, "unknown_key")),
            ({"speculation.proof.worker_threads": 4}, (409, "pinned_by_environment")),
            ({"speculation.limits.max_memory_mb": 8192}, (409, "restart_required")),
            ({"speculation.max_depth": [1]}, (422, "invalid")),
            ({}, (422, "invalid")),
            ([], (422, "invalid")),
            ("x", (422, "invalid")),
        ],
    )
    def test_what_is_refused_and_why(self, http: httpx.Client, body: Any, expected: tuple[int, str]) -> None:
        assert code_of(post(http, "/admin/config", body)) == expected

    def test_a_key_given_twice_is_refused(self, http: httpx.Client) -> None:
        content = b'{"speculation.max_depth": 1, "speculation.max_depth": 20}'
        assert code_of(http.post("/admin/config", content=content, headers=TOKEN)) == (422, "invalid")

    def test_it_is_in_the_audit(self, http: httpx.Client, operator: Client) -> None:
        operator.set_config({"speculation.max_depth": 6})
        latest = http.get("/admin/audit?limit=1").json()
        assert len(latest) == 1
        assert (latest[0]["by"], latest[0]["action"]) == ("environment", "config")
        assert latest[0]["after"] == {"speculation.max_depth": 6}
        assert OPERATOR_TOKEN not in http.get("/admin/audit").text


class TestOperations:
    def test_an_operation_in_full(
        self, http: httpx.Client, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        with actor.client as client:
            parent = client.submit(actor.body()).operation_id
            child = client.submit(actor.body(None, parent)).operation_id
        detail = http.get(f"/admin/operation/{child}").json()
        assert detail["operation"]["operation_id"] == child
        assert detail["operation"]["speculation"]["granted"] is True
        assert detail["decision"]["rule"] == "granted"
        assert 0 < detail["decision"]["probability"] <= 1
        assert detail["depth_now"] == 1
        assert http.get(f"/admin/operation/{parent}").json()["children"] == [child]
        timeline = http.get(f"/admin/operation/{child}/timeline").json()["timeline"]
        assert [entry["state"] for entry in timeline[:3]] == ["SUBMITTED", "SPECULATING", "QUEUED"]
        assert timeline[-1]["duration_ms"] is None
        assert all(entry["at"].endswith("Z") and entry["reason"] for entry in timeline)
        for path in ("/admin/operation/nothing", "/admin/operation/nothing/timeline"):
            assert code_of(http.get(path)) == (404, "unknown_operation")

    def test_what_blocks_each(
        self, http: httpx.Client, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        with actor.client as client:
            parent = client.submit(actor.body()).operation_id
            client.operation(parent)
            operator.set_config({"speculation.enabled": False})
            child = client.submit(actor.body(None, parent)).operation_id
        blocked = http.get("/admin/blocked-operations").json()
        found = {item["operation_id"]: item for item in blocked}
        assert found[child]["state"] == "DEFERRED"
        assert found[child]["blocked_by"]["kind"] == "parents"
        assert found[child]["blocked_by"]["ids"] == [parent]
        assert found[parent]["blocked_by"]["kind"] in ("worker", "proof", "submission")
        assert all(item["age_seconds"] >= 0 for item in blocked)

    def test_the_list_of_blocked_has_pages(
        self, http: httpx.Client, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        with actor.client as client:
            names = [client.submit(actor.body()).operation_id for _ in range(3)]
        path: str | None = "/admin/blocked-operations?limit=2"
        seen = []
        while path is not None:
            response = http.get(path)
            seen += [item["operation_id"] for item in response.json()]
            link = response.headers.get("link")
            path = None if link is None else re.fullmatch(r'<(.+)>; rel="next"', link).group(1)  # type: ignore[union-attr]  # or it fails
        assert seen == names

    def test_stale_operations_time_out(
        self, http: httpx.Client, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
        before = http.get("/admin/rollback-stats").json()
        young = post(http, "/admin/operations/timeout-stale", {"older_than_seconds": 300}).json()
        assert young == {"timed_out": 0, "rolled_back": [], "pending": []}
        ended = post(http, "/admin/operations/timeout-stale", {"older_than_seconds": 0}).json()
        assert ended == {"timed_out": 1, "rolled_back": [name], "pending": []}
        after = http.get("/admin/rollback-stats").json()
        assert set(after["by_reason"]) == set(RollbackReason)
        assert sum(after["by_reason"].values()) == after["total_rollbacks_1h"]
        assert after["by_reason"]["confirmation_timeout"] == before["by_reason"]["confirmation_timeout"] + 1
        rolled_back = http.get(f"/admin/agent/{actor.agent_id}/rollbacks?limit=10").json()
        assert [(item["operation_id"], item["reason"]) for item in rolled_back] == [
            (name, "confirmation_timeout")
        ]

    @pytest.mark.parametrize(
        "body", [{}, {"older_than_seconds": -1}, {"older_than_seconds": "x"}, {"older": 1}]
    )
    def test_a_wrong_age(self, http: httpx.Client, body: dict[str, Any]) -> None:
        assert code_of(post(http, "/admin/operations/timeout-stale", body)) == (422, "invalid")

    def test_clearing_the_queue_drops_nothing(self, http: httpx.Client, actor: Actor) -> None:
        with actor.client as client:
            names = [client.submit(actor.body()).operation_id for _ in range(20)]
            cleared = post(http, "/admin/proof/clear-queue").json()
            assert set(cleared) == {"batches_discarded", "operations_held"}
            for name in names:
                assert client.wait(name, timeout_s=CONFIRM_S).state == "CONFIRMED"


class TestEmergency:
    def test_force_rolls_back_at_once(
        self, http: httpx.Client, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
        answer = post(http, "/admin/emergency", {"action": "disable_speculation", "force": True}).json()
        assert (answer["latch"], answer["rolled_back"], answer["drain_until"]) == ("disabled", [name], None)
        with actor.client as client:
            ended = client.operation(name)
            assert (ended.state, ended.reason) == ("ROLLED_BACK", "emergency")
            assert client.agent(actor.agent_id).bonded_lamports == 0
            assert client.agent(actor.agent_id).balance_lamports == 1_000_000_000

    def test_a_drain_has_a_deadline(self, http: httpx.Client, operator: Client) -> None:
        answer = post(http, "/admin/emergency", {"action": "drain_speculation", "deadline_seconds": 5}).json()
        assert answer["latch"] == "draining"
        assert answer["drain_until"].endswith("Z")

    @pytest.mark.parametrize(
        "body", [{}, {"action": "panic"}, {"action": 1}, {"action": "drain_speculation", "force": "yes"}]
    )
    def test_a_wrong_action(self, http: httpx.Client, body: dict[str, Any]) -> None:
        assert code_of(post(http, "/admin/emergency", body)) == (422, "invalid")
        assert http.get("/admin/status").json()["latch"] is None


class TestViews:
    def test_the_breaker(self, http: httpx.Client) -> None:
        answer = http.get("/admin/circuit-breaker").json()
        assert (answer["state"], answer["window_seconds"]) == ("closed", 60)
        assert (answer["rollback_ratio_limit"], answer["error_ratio_limit"]) == (0.3, 0.1)
        reset = post(http, "/admin/circuit-breaker/reset").json()
        assert (reset["state"], reset["finished"]) == ("closed", 0)
        assert code_of(post(http, "/admin/circuit-breaker/reset", {"a": 1})) == (422, "invalid")

    def test_stake_is_conserved(self, http: httpx.Client, actor: Actor) -> None:
        status = http.get("/admin/stake/status").json()
        assert status["conserved"] is True
        assert status["deposited_lamports"] == (
            status["withdrawn_lamports"]
            + status["free_lamports"]
            + status["locked_lamports"]
            + status["treasury_lamports"]
        )

    def test_the_chain_and_the_confirmations(
        self, http: httpx.Client, actor: Actor, operator: Client, frozen_chain: None
    ) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
        chain = http.get("/admin/chain-status").json()
        assert (chain["connection_status"], chain["slot_ms"]) == ("connected", 20)
        assert chain["domain"].startswith("local:")
        confirmations = http.get("/admin/confirmation-status").json()
        assert confirmations["oldest_pending_operation"] == name
        assert 0 <= confirmations["oldest_pending_age"] < CONFIRM_S
        assert confirmations["pending_confirmations"] == sum(confirmations["by_state"].values()) == 1

    def test_the_workers(self, http: httpx.Client) -> None:
        answer = http.get("/admin/workers").json()
        assert answer["desired"] == len(answer["workers"]) == 1
        assert set(answer) == {
            "desired",
            "running",
            "target",
            "limited_by",
            "refused_hosts",
            "hedging",
            "workers",
        }

    def test_an_agents_speculation(self, http: httpx.Client, actor: Actor) -> None:
        with actor.client as client:
            body = actor.body()
            client.submit(body)
            client.wait(body.operation_id, timeout_s=CONFIRM_S)
        answer = http.get(f"/admin/agent/{actor.agent_id}/speculation").json()
        assert answer["by_type"]["test"]["confirmed"] == 1
        for path in ("speculation", "rollbacks"):
            assert code_of(http.get(f"/admin/agent/nobody/{path}")) == (404, "unknown_agent")

    def test_a_slash_by_its_id(
        self,
        http: httpx.Client,
        actor: Actor,
        new_actor: Callable[..., Actor],
        operator: Client,
        frozen_chain: None,
    ) -> None:
        """An agent that cancels work it holds the claim of, while another has staked on it, is slashed."""
        operator.set_config({"speculation.features.enable_cross_agent_speculation": True})
        other, task_id = new_actor(), unique("task")
        with actor.client as client, other.client as others:
            client.register_task(task_id, claim_ttl_s=600)
            client.claim_task(task_id)
            parent = client.submit(actor.body(task_id=task_id)).operation_id
            others.submit(other.body(None, parent))
            client.cancel(parent)
        (slash,) = http.get("/admin/slashes?limit=1").json()
        assert (slash["agent_id"], slash["reason"]) == (actor.agent_id, "claim_abandoned")
        assert slash["slashed_lamports"] == sum(slash["victims"].values()) + slash["treasury_lamports"]
        assert http.get(f"/admin/slash/{slash['slash_id']}").json() == slash
        assert code_of(http.get("/admin/slash/none")) == (404, "not_found")

    def test_the_metrics_are_what_the_table_says(self, http: httpx.Client) -> None:
        response = http.get("/metrics")
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        exposed = {line.split()[2] for line in response.text.splitlines() if line.startswith("# TYPE")}
        assert exposed == set(METRICS)
        assert list(text_string_to_metric_families(response.text))

    def test_integrity(self, http: httpx.Client) -> None:
        response = http.get("/admin/integrity-check")
        assert response.json()["status"] == "ok", response.text
        assert "corrupted" not in response.text


class TestNeverFailsOtherwise:
    @pytest.mark.parametrize("path", WRITES)
    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"null",
            b"[1]",
            b"\xff",
            b'{"a": NaN}',
            b"[" * 100_000,
            b'{"a":1,"a":2}',
            b'{"action":["x"]}',
        ],
    )
    def test_a_body_of_any_kind(self, http: httpx.Client, path: str, content: bytes) -> None:
        response = http.post(path, content=content, headers=TOKEN)
        assert response.status_code == ERRORS[ErrorCode.INVALID].status, response.text
        assert set(response.json()["error"]) == {"code", "message", "detail"}

    @pytest.mark.parametrize(
        "path",
        [
            "/admin/slashes?limit=0",
            "/admin/slashes?limit=x",
            "/admin/audit?limit=1001",
            "/admin/blocked-operations?limit=-1",
            "/admin/blocked-operations?cursor=-1",
            "/admin/blocked-operations?limit=1e3",
        ],
    )
    def test_a_wrong_parameter(self, http: httpx.Client, path: str) -> None:
        assert code_of(http.get(path)) == (422, "invalid")

    def test_other_paths_and_methods(self, http: httpx.Client) -> None:
        for method, path, expected in (
            ("GET", "/admin", (404, "not_found")),
            ("GET", "/admin/status/", (404, "not_found")),
            ("GET", "/docs", (404, "not_found")),
            ("DELETE", "/admin/config", (405, "method_not_allowed")),
            ("POST", "/health", (405, "method_not_allowed")),
            ("GET", "/admin/emergency", (405, "method_not_allowed")),
        ):
            assert code_of(http.request(method, path)) == expected
        assert http.request("DELETE", "/health").headers["allow"] == "GET"

    def test_a_foreign_host(self, http: httpx.Client) -> None:
        response = http.get("/admin/status", headers={"host": "rebound.example"})
        assert code_of(response) == (421, "host_not_allowed")


def test_a_registration_needs_the_operator_where_it_is_not_open(
    http: httpx.Client, operator: Client, system: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = msgspec.json.encode({"agent_id": unique("agent"), "agent_key": "00" * 32})
    monkeypatch.setitem(
        system.settings._resolved, "agents.open_registration", (False, system.settings.provenance("strict"))
    )
    assert code_of(http.post("/v1/agents", content=body)) == (401, "unauthorized")
    assert http.post("/v1/agents", content=body, headers=TOKEN).status_code == 201
