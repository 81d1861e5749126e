"""The agents' API over real HTTP: every route, and every error by its code."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from coordinator.client.sync import Client
from coordinator.core.errors import ERRORS, ErrorCode
from coordinator.core.states import OperationState
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem, unique
from workers.statement import agent_key, constraint_hash

CONFIRM_S = 60.0


@pytest.fixture
def http(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=90) as client:
        yield client


@pytest.fixture
def held(frozen_chain: None, operator: Client, actor: Actor) -> str:
    """An operation with a bond that stays unconfirmed for the test."""
    with actor.client as client:
        return client.submit(actor.body()).operation_id


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def post_operation(http: httpx.Client, actor: Actor, body: Any) -> httpx.Response:
    return http.post("/v1/operations", content=msgspec.json.encode(body), headers=bearer(actor.token))


def assert_error(response: httpx.Response, code: ErrorCode, field: str | None = None) -> dict[str, Any]:
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (ERRORS[code].status, code), response.text
    assert set(error) == {"code", "message", "detail"}
    assert error["message"]
    assert error["detail"]["advice"]
    if field is not None:
        assert error["detail"]["field"] == field
    return dict(error)


class TestAgents:
    def test_registration_answers_a_token_that_works(self, http: httpx.Client) -> None:
        agent_id, secret = unique("agent"), bytes(24)
        body = {"agent_id": agent_id, "agent_key": agent_key(secret).hex(), "deposit_lamports": 5_000_000}
        response = http.post("/v1/agents", content=json.dumps(body))
        assert response.status_code == 201
        registered = response.json()
        assert registered | {"token": ""} == {
            "agent_id": agent_id,
            "token": "",
            "balance_lamports": 5_000_000,
            "in_rollout": True,
        }
        assert http.get(f"/v1/agents/{agent_id}").json()["balance_lamports"] == 5_000_000
        moved = http.post(
            f"/v1/agents/{agent_id}/withdraw", content=b'{"lamports": 1}', headers=bearer(registered["token"])
        )
        assert moved.json()["balance_lamports"] == 4_999_999

    def test_an_id_is_registered_once(self, http: httpx.Client, actor: Actor) -> None:
        body = {"agent_id": actor.agent_id, "agent_key": agent_key(actor.secret).hex()}
        assert_error(http.post("/v1/agents", content=json.dumps(body)), ErrorCode.ID_CONFLICT)

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"agent_id": "a/b"}, "agent_id"),
            ({"agent_id": "x" * 129}, "agent_id"),
            ({"agent_key": "ff" * 32}, "agent_key"),
            ({"agent_key": "00" * 31}, "agent_key"),
            ({"deposit_lamports": -1}, "deposit_lamports"),
            ({"deposit_lamports": 2**53}, "deposit_lamports"),
            ({"deposit_lamports": 1.5}, "deposit_lamports"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_what_is_wrong_is_named(self, http: httpx.Client, change: dict[str, Any], field: str) -> None:
        body = {"agent_id": unique("agent"), "agent_key": "00" * 32} | change
        assert_error(http.post("/v1/agents", content=json.dumps(body)), ErrorCode.INVALID, field)

    def test_stake_moves_with_the_agents_or_the_operators_token_alone(
        self, http: httpx.Client, actor: Actor, new_actor: Callable[..., Actor]
    ) -> None:
        path, content = f"/v1/agents/{actor.agent_id}/deposit", b'{"lamports": 10}'
        assert_error(http.post(path, content=content), ErrorCode.UNAUTHORIZED)
        assert_error(http.post(path, content=content, headers=bearer("wrong")), ErrorCode.UNAUTHORIZED)
        assert_error(http.post(path, content=content, headers=bearer(new_actor().token)), ErrorCode.FORBIDDEN)
        for token in (actor.token, OPERATOR_TOKEN):
            assert http.post(path, content=content, headers=bearer(token)).status_code == 200
        assert http.get(f"/v1/agents/{actor.agent_id}").json()["balance_lamports"] == 1_000_000_020

    def test_no_more_is_withdrawn_than_is_free(self, http: httpx.Client, actor: Actor) -> None:
        path = f"/v1/agents/{actor.agent_id}/withdraw"
        response = http.post(path, content=b'{"lamports": 1000000001}', headers=bearer(actor.token))
        assert_error(response, ErrorCode.STAKE_INSUFFICIENT)
        assert_error(
            http.post(path, content=b'{"lamports": 0}', headers=bearer(actor.token)), ErrorCode.INVALID
        )

    def test_an_unknown_agent(self, http: httpx.Client) -> None:
        assert_error(http.get("/v1/agents/nobody"), ErrorCode.UNKNOWN_AGENT)
        path = "/v1/agents/nobody/deposit"
        response = http.post(path, content=b'{"lamports": 1}', headers=bearer(OPERATOR_TOKEN))
        assert_error(response, ErrorCode.UNKNOWN_AGENT)


class TestTasks:
    def test_a_claim_holds_until_it_expires(
        self, http: httpx.Client, actor: Actor, new_actor: Callable[..., Actor]
    ) -> None:
        task_id = unique("task")
        body = json.dumps({"task_id": task_id, "claim_ttl_s": 600})
        made = http.post("/v1/tasks", content=body, headers=bearer(actor.token))
        assert (made.status_code, made.json()["claim_ttl_s"]) == (201, 600)
        claimed = http.post(f"/v1/tasks/{task_id}/claim", headers=bearer(actor.token))
        assert claimed.json()["claim_expires_at"].endswith("Z")
        taken = http.post(f"/v1/tasks/{task_id}/claim", headers=bearer(new_actor().token))
        assert_error(taken, ErrorCode.TASK_CLAIMED)

    def test_an_operator_names_the_agent(self, http: httpx.Client, actor: Actor) -> None:
        task_id = unique("task")
        http.post("/v1/tasks", content=json.dumps({"task_id": task_id}), headers=bearer(OPERATOR_TOKEN))
        path = f"/v1/tasks/{task_id}/claim"
        assert_error(http.post(path, headers=bearer(OPERATOR_TOKEN)), ErrorCode.INVALID, "agent_id")
        named = json.dumps({"agent_id": actor.agent_id})
        assert http.post(path, content=named, headers=bearer(OPERATOR_TOKEN)).status_code == 200

    def test_tasks_are_for_those_with_a_token(self, http: httpx.Client, actor: Actor) -> None:
        assert_error(http.post("/v1/tasks", content=b'{"task_id": "t"}'), ErrorCode.UNAUTHORIZED)
        assert_error(http.post("/v1/tasks/t/claim"), ErrorCode.UNAUTHORIZED)
        missing = http.post("/v1/tasks/no-such/claim", headers=bearer(actor.token))
        assert_error(missing, ErrorCode.UNKNOWN_TASK)
        named = json.dumps({"agent_id": "someone-else"})
        other = http.post("/v1/tasks/no-such/claim", content=named, headers=bearer(actor.token))
        assert_error(other, ErrorCode.FORBIDDEN)

    def test_a_task_has_one_constraint(self, http: httpx.Client, actor: Actor) -> None:
        task_id = unique("task")
        for text, status in (("01000000" * 8, 201), ("02000000" * 8, 409)):
            body = json.dumps({"task_id": task_id, "constraint_hash": text})
            assert http.post("/v1/tasks", content=body, headers=bearer(actor.token)).status_code == status


class TestSubmit:
    def test_an_operation_goes_all_the_way(self, http: httpx.Client, actor: Actor) -> None:
        body = actor.body(output=b"the result")
        response = post_operation(http, actor, body)
        assert response.status_code == 202
        submitted = response.json()
        assert submitted["operation_id"] == body.operation_id
        assert submitted["depth"] == 0
        assert submitted["statement"]["constraint_hash"] == constraint_hash(b"the result").hex()
        assert set(submitted["statement"]) == {
            "constraint_hash",
            "output_commitment",
            "nullifier",
            "agent_key",
            "public_digest",
            "binding",
        }
        assert set(submitted["speculation"]) == {"granted", "reason", "stake_lamports"}
        path = f"/v1/operations/{body.operation_id}"
        waited = http.get(path, params={"wait": "CONFIRMED", "timeout": "60"}).json()
        assert waited["state"] == "CONFIRMED"
        output = http.get(
            f"{path}/output", params={"agent": actor.agent_id}, headers=bearer(actor.token)
        ).json()
        assert output == {
            "output": "dGhlIHJlc3VsdA==",
            "output_commitment": submitted["statement"]["output_commitment"],
            "final": True,
        }

    def test_the_receipt_exists_once_it_is_confirmed(self, http: httpx.Client, actor: Actor) -> None:
        body = actor.body()
        with actor.client as client:
            client.submit(body)
            client.wait(body.operation_id, timeout_s=CONFIRM_S)
        receipt = http.get(f"/v1/operations/{body.operation_id}/proof").json()
        assert receipt["mock"] is True
        assert receipt["operation"] == body.operation_id
        assert receipt["batch"]["statements"][receipt["batch"]["index"]] == receipt["statement"]["statement"]
        assert set(receipt) >= {"version", "statement", "proof", "parameters", "chain", "work"}
        path = f"/v1/operations/{body.operation_id}/proof"
        assert http.get(path, params={"wire": "plonky3-0.6.2"}).json() == receipt
        for wire in ("agenc-pruned-1", "morse"):  # a mock proof has no other encoding
            assert_error(http.get(path, params={"wire": wire}), ErrorCode.INVALID)

    def test_the_same_again_is_the_same_operation(self, http: httpx.Client, actor: Actor) -> None:
        body = actor.body()
        first, again = post_operation(http, actor, body), post_operation(http, actor, body)
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.json()["statement"] == first.json()["statement"]

    def test_an_id_with_other_content_conflicts(self, http: httpx.Client, actor: Actor) -> None:
        body = actor.body()
        post_operation(http, actor, body)
        other = msgspec.structs.replace(body, output=b"something else")
        assert_error(post_operation(http, actor, other), ErrorCode.ID_CONFLICT)

    def test_parents_have_to_be_known(self, http: httpx.Client, actor: Actor) -> None:
        assert_error(post_operation(http, actor, actor.body(None, "no-such-op")), ErrorCode.UNKNOWN_PARENT)

    def test_an_operation_is_not_its_own_parent(self, http: httpx.Client, actor: Actor) -> None:
        name = unique("op")
        assert_error(post_operation(http, actor, actor.body(name, name)), ErrorCode.CYCLE, "depends_on")

    def test_one_operation_for_a_task_and_its_parents(self, http: httpx.Client, actor: Actor) -> None:
        first = actor.body()
        post_operation(http, actor, first)
        again = actor.body(task_id=first.task_id, output=b"another try")
        assert_error(post_operation(http, actor, again), ErrorCode.NULLIFIER_USED)

    def test_a_confirmed_task_has_its_result(
        self, http: httpx.Client, actor: Actor, new_actor: Callable[..., Actor]
    ) -> None:
        first = actor.body()
        with actor.client as client:
            client.submit(first)
            client.wait(first.operation_id, timeout_s=CONFIRM_S)
        other = new_actor()
        response = post_operation(http, other, other.body(task_id=first.task_id))
        assert_error(response, ErrorCode.TASK_CONFIRMED)

    def test_a_registered_constraint_is_enforced(self, http: httpx.Client, actor: Actor) -> None:
        task_id = unique("task")
        task = json.dumps({"task_id": task_id, "constraint_hash": constraint_hash(b"right").hex()})
        http.post("/v1/tasks", content=task, headers=bearer(actor.token))
        wrong = post_operation(http, actor, actor.body(task_id=task_id, output=b"wrong"))
        assert_error(wrong, ErrorCode.CONSTRAINT_MISMATCH)
        assert post_operation(http, actor, actor.body(task_id=task_id, output=b"right")).status_code == 202

    def test_the_secret_has_to_be_the_agents(self, http: httpx.Client, actor: Actor) -> None:
        response = post_operation(http, actor, actor.body(secret=bytes(24)))
        assert_error(response, ErrorCode.AGENT_KEY_MISMATCH)

    def test_a_token_is_for_its_own_agent(
        self, http: httpx.Client, actor: Actor, new_actor: Callable[..., Actor]
    ) -> None:
        other = new_actor()
        assert_error(post_operation(http, other, actor.body()), ErrorCode.FORBIDDEN, "agent_id")
        unsigned = http.post("/v1/operations", content=msgspec.json.encode(actor.body()))
        assert_error(unsigned, ErrorCode.UNAUTHORIZED)

    def test_the_operator_may_submit_for_an_agent(self, http: httpx.Client, actor: Actor) -> None:
        content = msgspec.json.encode(actor.body())
        response = http.post("/v1/operations", content=content, headers=bearer(OPERATOR_TOKEN))
        assert response.status_code == 202

    def test_an_agent_that_is_not_registered(self, http: httpx.Client, actor: Actor) -> None:
        content = msgspec.json.encode(actor.body(agent_id="nobody"))
        response = http.post("/v1/operations", content=content, headers=bearer(OPERATOR_TOKEN))
        assert_error(response, ErrorCode.UNKNOWN_AGENT)

    def test_an_output_has_a_greatest_size(self, http: httpx.Client, actor: Actor) -> None:
        assert post_operation(http, actor, actor.body(output=bytes(65_536))).status_code == 202
        response = post_operation(http, actor, actor.body(output=bytes(65_537)))
        assert_error(response, ErrorCode.OUTPUT_TOO_LARGE, "output")
        response = post_operation(http, actor, actor.body(output=bytes(2**20)))
        assert_error(response, ErrorCode.TOO_LARGE)

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"salt": "AAAA"}, "salt"),
            ({"secret": "not base64!"}, "secret"),
            ({"output": 7}, "output"),
            ({"depends_on": "op-1"}, "depends_on"),
            ({"depends_on": ["op-1", "op-1"]}, "depends_on"),
            ({"parent_outputs": {"op-1": "00" * 32}}, "parent_outputs"),
            ({"priority": 1e3}, "priority"),
            ({"deadline": "tomorrow"}, "deadline"),
            ({"operation_type": ""}, "operation_type"),
            ({"output_": ""}, "output_"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, http: httpx.Client, actor: Actor, change: dict[str, Any], field: str
    ) -> None:
        body = msgspec.to_builtins(actor.body()) | change
        assert_error(post_operation(http, actor, body), ErrorCode.INVALID, field)

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 200_000, b'{"a":NaN}', b"{}", b"{" * 5_000],
    )
    def test_no_body_makes_it_fail_otherwise(self, http: httpx.Client, actor: Actor, content: bytes) -> None:
        for path in ("/v1/operations", "/v1/operations/batch", "/v1/tasks", "/v1/agents"):
            response = http.post(path, content=content, headers=bearer(actor.token))
            assert_error(response, ErrorCode.INVALID)


class TestBatch:
    def submit(self, http: httpx.Client, actor: Actor, operations: Any) -> list[dict[str, Any]]:
        content = msgspec.json.encode({"operations": operations})
        response = http.post("/v1/operations/batch", content=content, headers=bearer(actor.token))
        assert response.status_code == 200, response.text
        return list(response.json()["results"])

    def test_a_verdict_for_each_in_order(
        self, http: httpx.Client, actor: Actor, new_actor: Callable[..., Actor]
    ) -> None:
        root = actor.body()
        child = actor.body(None, root.operation_id)
        orphan = actor.body(None, "no-such-op")
        broken = msgspec.to_builtins(actor.body()) | {"salt": "AAAA"}
        foreign = new_actor().body()
        results = self.submit(http, actor, [root, child, orphan, broken, foreign, root, 7])
        assert [result["status"] for result in results] == [202, 202, 409, 422, 403, 200, 422]
        assert [result.get("operation_id") for result in results] == [
            root.operation_id,
            child.operation_id,
            orphan.operation_id,
            broken["operation_id"],
            foreign.operation_id,
            root.operation_id,
            None,
        ]
        assert [result.get("error", {}).get("code") for result in results] == [
            None,
            None,
            "unknown_parent",
            "invalid",
            "forbidden",
            None,
            "invalid",
        ]
        assert results[0]["state"]

    def test_its_size_is_bounded(self, http: httpx.Client, actor: Actor) -> None:
        for content in (b'{"operations": []}', b'{"operations": [' + b",".join([b"1"] * 10_001) + b"]}"):
            response = http.post("/v1/operations/batch", content=content, headers=bearer(actor.token))
            assert_error(response, ErrorCode.INVALID, "operations")

    def test_a_thousand_confirm(self, http: httpx.Client, actor: Actor, operator: Client) -> None:
        operator.set_config({"speculation.proof.queue_size": 5_000})
        bodies = [actor.body() for _ in range(1_000)]
        results = self.submit(http, actor, bodies)
        assert {result["status"] for result in results} == {202}
        with actor.client as client:
            client.wait(bodies[-1].operation_id, timeout_s=CONFIRM_S)

    def test_a_full_queue_says_when_to_come_again(
        self, http: httpx.Client, actor: Actor, operator: Client, system: RunningSystem
    ) -> None:
        operator.set_config({"speculation.proof.queue_size": 100})
        content = msgspec.json.encode({"operations": [actor.body() for _ in range(400)]})
        response = http.post("/v1/operations/batch", content=content, headers=bearer(actor.token))
        refused = [result for result in response.json()["results"] if result["status"] == 429]
        assert refused
        assert refused[0]["error"]["code"] == "queue_full"
        assert refused[0]["error"]["detail"]["retry"] is True
        assert int(response.headers["retry-after"]) >= 1


class TestRead:
    def test_an_unknown_operation(self, http: httpx.Client, actor: Actor) -> None:
        for method, path in (
            ("GET", "/v1/operations/nothing"),
            ("GET", "/v1/operations/%00"),
            ("GET", "/v1/operations/%ff%fe"),
            ("GET", "/v1/operations/nothing/proof"),
            ("GET", f"/v1/operations/nothing/output?agent={actor.agent_id}"),
            ("DELETE", "/v1/operations/nothing"),
        ):
            response = http.request(method, path, headers=bearer(actor.token))
            assert_error(response, ErrorCode.UNKNOWN_OPERATION)

    def test_a_receipt_before_the_confirmation(self, http: httpx.Client, held: str) -> None:
        assert_error(http.get(f"/v1/operations/{held}/proof"), ErrorCode.NOT_CONFIRMED)

    @pytest.mark.parametrize(
        "query",
        [
            "wait=DONE",
            "wait=CONFIRMED&timeout=-1",
            "wait=CONFIRMED&timeout=nan",
            "wait=CONFIRMED&timeout=1e9",
        ],
    )
    def test_a_wrong_wait(self, http: httpx.Client, actor: Actor, query: str) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
        assert_error(http.get(f"/v1/operations/{name}?{query}"), ErrorCode.INVALID)

    def test_a_wait_ends_with_its_time(self, http: httpx.Client, held: str) -> None:
        begun_s = time.monotonic()
        waited = http.get(f"/v1/operations/{held}", params={"wait": "CONFIRMED", "timeout": "0.2"}).json()
        assert waited["state"] != "CONFIRMED"
        assert time.monotonic() - begun_s >= 0.2

    def test_the_list_goes_through_all_a_page_at_a_time(self, http: httpx.Client, actor: Actor) -> None:
        with actor.client as client:
            names = [client.submit(actor.body()).operation_id for _ in range(5)]
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            params = {"agent": actor.agent_id, "limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = http.get("/v1/operations", params=params).json()
            assert len(page["operations"]) <= 2
            seen += [operation["operation_id"] for operation in page["operations"]]
            cursor = page["next_cursor"]
        assert seen == names

    def test_the_list_filters_by_state(self, http: httpx.Client, actor: Actor, held: str) -> None:
        states = {}
        for state in OperationState:
            page = http.get("/v1/operations", params={"state": state.value, "agent": actor.agent_id}).json()
            states[state.value] = [operation["operation_id"] for operation in page["operations"]]
        assert [state for state, names in states.items() if held in names] == [held_state(http, held)]

    @pytest.mark.parametrize(
        "query", ["state=NOWHERE", "limit=0", "limit=1001", "limit=x", "cursor=-1", "cursor=abc"]
    )
    def test_a_wrong_list(self, http: httpx.Client, query: str) -> None:
        assert_error(http.get(f"/v1/operations?{query}"), ErrorCode.INVALID, query.split("=")[0])


class TestOutput:
    def test_the_answer_is_the_speculation_decision(
        self, http: httpx.Client, actor: Actor, operator: Client, held: str
    ) -> None:
        path, params = f"/v1/operations/{held}/output", {"agent": actor.agent_id}
        given = http.get(path, params=params, headers=bearer(actor.token))
        assert (given.status_code, given.json()["final"]) == (200, False)
        operator.set_config({"speculation.enabled": False})
        denied = http.get(path, params=params, headers=bearer(actor.token))
        error = denied.json()["error"]
        assert (denied.status_code, error["code"]) == (425, "disabled")
        assert error["detail"]["retry"] is True

    def test_it_is_the_agents_own(
        self, http: httpx.Client, actor: Actor, new_actor: Callable[..., Actor]
    ) -> None:
        with actor.client as client:
            name = client.submit(actor.body()).operation_id
        path, params = f"/v1/operations/{name}/output", {"agent": actor.agent_id}
        assert_error(http.get(path, params=params), ErrorCode.UNAUTHORIZED)
        assert_error(http.get(path, params=params, headers=bearer(new_actor().token)), ErrorCode.FORBIDDEN)
        assert_error(http.get(path, headers=bearer(actor.token)), ErrorCode.INVALID, "agent")
        wrong = http.get(path, params={"agent": "a/b"}, headers=bearer(actor.token))
        assert_error(wrong, ErrorCode.INVALID, "agent")


class TestCancel:
    def test_it_goes_with_its_descendants(self, http: httpx.Client, actor: Actor, held: str) -> None:
        with actor.client as client:
            child = client.submit(actor.body(None, held)).operation_id
        response = http.delete(f"/v1/operations/{held}", headers=bearer(actor.token))
        assert response.json() == {"operation_id": held, "rolled_back": [child, held]}
        assert http.get(f"/v1/operations/{child}").json()["state"] == "ROLLED_BACK"
        again = http.delete(f"/v1/operations/{held}", headers=bearer(actor.token))
        assert_error(again, ErrorCode.NOT_CANCELLABLE)
        gone = http.get(
            f"/v1/operations/{held}/output", params={"agent": actor.agent_id}, headers=bearer(actor.token)
        )
        assert_error(gone, ErrorCode.UNKNOWN_PARENT)

    def test_it_is_the_agents_own(
        self, http: httpx.Client, new_actor: Callable[..., Actor], held: str
    ) -> None:
        assert_error(http.delete(f"/v1/operations/{held}"), ErrorCode.UNAUTHORIZED)
        response = http.delete(f"/v1/operations/{held}", headers=bearer(new_actor().token))
        assert_error(response, ErrorCode.FORBIDDEN)


class TestEvents:
    def test_they_come_in_order_and_resume(self, system: RunningSystem, actor: Actor) -> None:
        with actor.client as client:
            body = actor.body()
            client.submit(body)
            client.wait(body.operation_id, timeout_s=CONFIRM_S)
            seen = []
            for event in client.events(after=0):
                seen.append(event)
                if event.name == "BatchConfirmed":
                    break
            assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
            resumed = next(iter(client.events(after=seen[2].seq)))
            assert resumed == seen[3]

    def test_nothing_secret_is_in_them(self, system: RunningSystem, actor: Actor) -> None:
        with actor.client as client:
            body = actor.body()
            client.submit(body)
            for event in client.events(after=0):
                text = json.dumps(event.data)
                assert "token_hash" not in text
                assert body.secret.hex() not in text
                if body.operation_id in text:
                    break
        assert event.name == "OperationsAdmitted"
        assert event.data["at"].endswith("Z")

    @pytest.mark.parametrize("header", ["x", "-1", "1.5", "9" * 30])
    def test_a_wrong_place_to_begin(self, http: httpx.Client, header: str) -> None:
        response = http.get("/v1/events", headers={"last-event-id": header})
        assert_error(response, ErrorCode.INVALID, "last-event-id")


def held_state(http: httpx.Client, name: str) -> str:
    return str(http.get(f"/v1/operations/{name}").json()["state"])
