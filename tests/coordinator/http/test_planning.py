"""The planner over HTTP: its plan with reasons, the what-if, delegations, and stuck stake."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from coordinator.answers_planner import MAX_SIMULATED, PlanAnswer, SimulateAnswer
from coordinator.client.sync import Client
from coordinator.core.errors import ERRORS, ErrorCode
from coordinator.core.states import OperationState
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem

TOKEN = {"authorization": f"Bearer {OPERATOR_TOKEN}"}


@pytest.fixture
def http(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=60) as client:
        yield client


def bearer(actor: Actor) -> dict[str, str]:
    return {"authorization": f"Bearer {actor.token}"}


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def refusal(code: ErrorCode) -> tuple[int, str]:
    return ERRORS[code].status, code.value


class TestPlan:
    def test_an_empty_queue_has_nothing_to_start(self, http: httpx.Client) -> None:
        answer = msgspec.json.decode(http.get("/admin/plan").content, type=PlanAnswer)
        assert answer.batches == ()
        assert answer.expected_confirmation_ms > 0
        assert answer.max_batch_operations == 4_096

    def test_every_operation_that_is_in_no_batch_has_a_reason(
        self, http: httpx.Client, frozen_chain: None, operator: Client, actor: Actor
    ) -> None:
        operator.set_config({"speculation.proof.gather_ratio": 0.5, "speculation.max_depth": 1})
        with actor.client as client:
            first = client.submit(actor.body())
            second = client.submit(actor.body(None, first.operation_id))
            denied = client.submit(actor.body(None, second.operation_id))
        assert denied.state == OperationState.DEFERRED
        answer = msgspec.json.decode(http.get("/admin/plan").content, type=PlanAnswer)
        explained = {one: group.reason for group in answer.waiting for one in group.operation_ids}
        assert explained[denied.operation_id] == "parents"
        assert all(group.detail for group in answer.waiting)


class TestSimulate:
    BODY: dict[str, Any] = {  # noqa: RUF012  # read only
        "operations": [
            {"operation_id": "a", "runtime_ms": 100},
            {"operation_id": "c", "depends_on": ["b"], "runtime_ms": 100},
            {"operation_id": "b", "depends_on": ["a"], "runtime_ms": 100},
        ],
        "settings": {"speculation.enabled": True},
        "confirmation_ms": 10_000,
        "proof_ms": 200,
        "workers": 1,
    }

    def ask(self, http: httpx.Client, **changes: Any) -> httpx.Response:
        return http.post("/v1/simulate", content=json.dumps(self.BODY | changes), headers=TOKEN)

    def test_a_workload_has_its_batches_and_its_gain(self, http: httpx.Client) -> None:
        answer = msgspec.json.decode(self.ask(http).content, type=SimulateAnswer)
        assert answer.critical_path_ms == 300
        assert 10_500 <= answer.makespan_ms <= 11_600
        assert answer.without_speculation_ms == pytest.approx(3 * 10_300, abs=10)
        assert answer.speedup > 2.5
        (batch,) = answer.batches
        assert batch.operation_ids == ("a", "b", "c")
        assert [one.depth for one in answer.operations] == [0, 1, 2]
        assert self.ask(http).json() == json.loads(msgspec.json.encode(answer)), "one question, one answer"

    def test_settings_are_tried_and_not_kept(self, http: httpx.Client, system: RunningSystem) -> None:
        before, admitted = (
            dict(system.service.engine.state.overrides),
            system.service.engine.state.totals.admitted,
        )
        answer = self.ask(http, settings={"speculation.enabled": False}).json()
        assert answer["makespan_ms"] == answer["without_speculation_ms"]
        assert system.service.engine.state.overrides == before
        assert system.service.engine.state.totals.admitted == admitted

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"operations": []}, ErrorCode.INVALID),
            ({"operations": [{"operation_id": "a", "depends_on": ["x"]}]}, ErrorCode.UNKNOWN_PARENT),
            ({"operations": [{"operation_id": "a", "depends_on": ["a"]}]}, ErrorCode.CYCLE),
            ({"operations": [{"operation_id": "a"}, {"operation_id": "a"}]}, ErrorCode.ID_CONFLICT),
            (
                {"operations": [{"operation_id": f"o{n}"} for n in range(MAX_SIMULATED + 1)]},
                ErrorCode.INVALID,
            ),
            ({"settings": {"no.such.key": 1}}, ErrorCode.UNKNOWN_KEY),
            ({"settings": {"speculation.max_depth": 0}}, ErrorCode.INVALID),
            ({"settings": {"speculation.limits.max_memory_mb": 512}}, ErrorCode.RESTART_REQUIRED),
            ({"workers": 0}, ErrorCode.INVALID),
            ({"confirmation_ms": -1}, ErrorCode.INVALID),
        ],
    )
    def test_a_question_that_makes_no_sense_is_refused(
        self, http: httpx.Client, changes: dict[str, Any], code: ErrorCode
    ) -> None:
        assert code_of(self.ask(http, **changes)) == refusal(code)

    def test_it_needs_a_token(self, http: httpx.Client) -> None:
        response = http.post("/v1/simulate", content=json.dumps(self.BODY))
        assert code_of(response) == refusal(ErrorCode.UNAUTHORIZED)


class TestDelegation:
    def give(self, http: httpx.Client, giver: Actor, taker_id: str, cap: int) -> httpx.Response:
        body = {"agent_id": taker_id, "cap_lamports": cap}
        return http.post(
            f"/v1/agents/{giver.agent_id}/delegate", content=json.dumps(body), headers=bearer(giver)
        )

    def test_an_agent_without_stake_bonds_on_its_delegators(
        self, http: httpx.Client, operator: Client, new_actor: Any, frozen_chain: None
    ) -> None:
        operator.set_config({"speculation.features.enable_stake_delegation": True})
        giver, taker = new_actor(), new_actor(0)
        answer = self.give(http, giver, taker.agent_id, 5_000_000).json()
        assert answer["active"] is True
        with taker.client as client:
            bonded = client.submit(taker.body()).speculation.stake_lamports
        (received,) = http.get(f"/v1/agents/{taker.agent_id}/delegations").json()["received"]
        assert received == {
            "delegator_id": giver.agent_id,
            "agent_id": taker.agent_id,
            "cap_lamports": 5_000_000,
            "used_lamports": bonded,
        }
        assert bonded == 1_000_000
        assert http.get(f"/v1/agents/{giver.agent_id}").json()["bonded_lamports"] == bonded

    def test_it_is_revoked_with_a_cap_of_nothing(self, http: httpx.Client, new_actor: Any) -> None:
        giver, taker = new_actor(), new_actor()
        assert self.give(http, giver, taker.agent_id, 7).json()["given"][0]["cap_lamports"] == 7
        assert self.give(http, giver, taker.agent_id, 0).json()["given"] == []

    def test_only_the_delegator_gives(self, http: httpx.Client, new_actor: Any) -> None:
        giver, taker = new_actor(), new_actor()
        body = json.dumps({"agent_id": taker.agent_id, "cap_lamports": 7})
        path = f"/v1/agents/{giver.agent_id}/delegate"
        assert code_of(http.post(path, content=body)) == refusal(ErrorCode.UNAUTHORIZED)
        assert code_of(http.post(path, content=body, headers=bearer(taker))) == refusal(ErrorCode.FORBIDDEN)

    def test_what_makes_no_sense_is_refused(self, http: httpx.Client, new_actor: Any) -> None:
        giver = new_actor()
        assert code_of(self.give(http, giver, giver.agent_id, 1)) == refusal(ErrorCode.INVALID)
        assert code_of(self.give(http, giver, "nobody", 1)) == refusal(ErrorCode.UNKNOWN_AGENT)
        assert code_of(self.give(http, giver, "nobody", -1)) == refusal(ErrorCode.INVALID)
        assert code_of(http.get("/v1/agents/nobody/delegations")) == refusal(ErrorCode.UNKNOWN_AGENT)


class TestStuckStake:
    def test_stuck_stake_is_listed_and_freed(
        self, http: httpx.Client, system: RunningSystem, operator: Client, actor: Actor, frozen_chain: None
    ) -> None:
        with actor.client as client:
            held = client.submit(actor.body()).operation_id
        # Nothing moves while the chain is frozen; the tests' clock is moved instead of waiting for half a minute.
        service = system.service
        clock_ms, service._clock_ms = service._clock_ms, lambda: clock_ms() + 40_000
        try:
            stuck = http.get("/admin/stake/stuck").json()
            assert stuck["older_than_seconds"] == 30
            (mine,) = [one for one in stuck["agents"] if one["agent_id"] == actor.agent_id]
            assert mine["operation_ids"] == [held]
            assert mine["stuck_lamports"] == 1_000_000
            answer = http.post(
                "/admin/stake/recover",
                content=json.dumps({"agent_ids": [actor.agent_id, "agent2"]}),
                headers=TOKEN,
            ).json()
            assert [one["verdict"] for one in answer["results"]] == ["recovered", "unknown_agent"]
            assert answer["returned_lamports"] == 1_000_000
            everyone = http.post("/admin/stake/recover-all", headers=TOKEN).json()
            assert everyone == {"returned_lamports": 0, "pending_lamports": 0, "results": []}
        finally:
            service._clock_ms = clock_ms
        assert http.get(f"/v1/agents/{actor.agent_id}").json()["bonded_lamports"] == 0
        assert http.get("/admin/audit").json()[0]["action"] == "recover_stake"

    def test_writes_need_the_operator_and_a_body(self, http: httpx.Client, actor: Actor) -> None:
        for path in ("/admin/stake/recover", "/admin/stake/recover-all"):
            assert code_of(http.post(path)) == refusal(ErrorCode.UNAUTHORIZED)
            assert code_of(http.post(path, headers=bearer(actor))) == refusal(ErrorCode.FORBIDDEN)
        body = json.dumps({"agent_ids": []})
        assert code_of(http.post("/admin/stake/recover", content=body, headers=TOKEN)) == refusal(
            ErrorCode.INVALID
        )
