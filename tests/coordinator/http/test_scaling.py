"""Scaling over HTTP: the autoscaler's explanation, the manual scale that holds it, and what workers cost."""

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from coordinator.answers_admin import WorkersAnswer
from coordinator.answers_planner import ScalingAnswer
from coordinator.cli.main import invoke
from coordinator.client.sync import Client
from coordinator.core.states import OperationState
from tests.coordinator.conftest import OPEN_REGISTRATION, QUICK, Actor, RunningSystem, running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """As the shared one, but that the number of workers may be changed."""
    with running(tmp_path_factory.mktemp("system"), QUICK | OPEN_REGISTRATION) as started:
        yield started


@pytest.fixture
def http(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=60) as client:
        yield client


def explained(http: httpx.Client) -> ScalingAnswer:
    return msgspec.json.decode(http.get("/admin/scaling").content, type=ScalingAnswer)


def workers(http: httpx.Client) -> WorkersAnswer:
    return msgspec.json.decode(http.get("/admin/workers").content, type=WorkersAnswer)


def test_the_autoscaler_explains_itself_though_it_is_off(http: httpx.Client) -> None:
    answer = explained(http)
    assert (answer.mode, answer.machines) == ("off", "fixed")
    assert answer.target == answer.current >= 1
    assert answer.detail


def test_sixteen_workers_are_accepted_and_what_limits_them_is_said(
    http: httpx.Client, operator: Client
) -> None:
    operator.set_config({"speculation.proof.worker_threads": 16})
    answer = workers(http)
    assert answer.desired == 16
    assert answer.target <= 16
    assert (answer.limited_by is None) == (answer.target == 16)
    held = explained(http)
    assert (held.reason, held.target) == ("held", held.current)
    assert held.held_until is not None
    operator.set_config({"speculation.max_depth": 3})
    assert workers(http).desired == 16, "other settings leave the number alone"


def test_the_limits_must_fit_each_other(http: httpx.Client, operator: Client) -> None:
    with pytest.raises(Exception, match=r"scaling\.min_workers"):
        operator.set_config({"scaling.min_workers": 9, "scaling.max_workers": 8})


def test_a_worker_that_has_proved_shows_what_its_proofs_cost(
    http: httpx.Client, operator: Client, actor: Actor
) -> None:
    with actor.client as client:
        done = client.submit(actor.body())
        client.wait(done.operation_id, OperationState.CONFIRMED, timeout_s=30)
    known = [worker.cost for worker in workers(http).workers if worker.cost is not None]
    assert known
    assert all(cost.samples >= 1 and cost.fixed_ms >= 0.0 and cost.unit_ms >= 0.0 for cost in known)


def test_the_command_says_the_same_in_words(
    system: RunningSystem, http: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["scaling", "--url", system.url]) == 0
    said = capsys.readouterr().out
    answer = explained(http)
    assert f"{answer.current} now, {answer.wanted} wanted, {answer.target} next" in said
    assert f"{answer.reason}: {answer.detail}" in said
    assert "shown here only" in said
