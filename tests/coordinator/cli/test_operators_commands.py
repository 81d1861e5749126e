"""`agenc top`, `ops` and `agents` against a running coordinator, as a script uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.cli.errors import BAD_INPUT, REFUSED
from coordinator.cli.main import invoke
from coordinator.cli.ops import next_name
from coordinator.cli.top import bars
from coordinator.client.sync import Client
from coordinator.core.states import OperationState
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem, unique
from workers.statement import agent_key

Agenc = Callable[..., list[str]]


@pytest.fixture
def agenc(
    system: RunningSystem, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Agenc:
    """Runs a command against the system; the lines that it printed."""
    monkeypatch.setenv("AGENC_URL", system.url)
    monkeypatch.setenv("AGENC_ADMIN_TOKEN", OPERATOR_TOKEN)

    def run(*arguments: str, code: int = 0) -> list[str]:
        capsys.readouterr()
        assert invoke(arguments) == code
        said = capsys.readouterr()
        lines = (said.err if code else said.out).splitlines()
        return [line for line in lines if " component=" not in line]  # the system's own log, from its thread

    return run


def test_a_snapshot_names_every_figure_with_its_level(agenc: Agenc) -> None:
    lines = agenc("top", "--once")
    assert lines[0].startswith("status healthy score ")
    assert [line.split()[0] for line in lines[2:]] == [
        "rollback_rate",
        "memory",
        "proof_queue",
        "confirmation_p99",
        "stake_utilization",
        "worker_utilization",
        "depth",
    ]
    assert all(line.split()[-1] in ("ok", "warning", "critical") for line in lines[2:])


def test_operations_are_listed_shown_and_cancelled(
    agenc: Agenc, actor: Actor, operator: Client, frozen_chain: None
) -> None:
    parent, child = unique("parent"), unique("child")
    with actor.client as client:
        client.submit(actor.body(parent))
        client.submit(actor.body(child, parent))
    listed = [json.loads(line) for line in agenc("ops", "list", "--agent", actor.agent_id, "--json")]
    assert [one["operation_id"] for one in listed] == [parent, child]
    assert any(
        child in line and "depth 1" in line for line in agenc("ops", "list", "--agent", actor.agent_id)
    )
    shown = agenc("ops", "show", child)
    assert shown[0].startswith(child)
    assert any(line.startswith("speculation granted") for line in shown)
    assert agenc("ops", "cancel", parent) == [child, parent]
    detail = json.loads(agenc("ops", "show", parent, "--json")[0])
    assert detail["detail"]["operation"]["state"] == OperationState.ROLLED_BACK
    assert detail["timeline"][-1]["state"] == OperationState.ROLLED_BACK


def test_a_rolled_back_operation_is_retried_under_the_next_name(
    agenc: Agenc, actor: Actor, operator: Client, frozen_chain: None, tmp_path: Path
) -> None:
    body = actor.body()
    with actor.client as client:
        client.submit(body)
        client.cancel(body.operation_id)
    file = tmp_path / "body.json"
    file.write_bytes(msgspec.json.encode(body))
    assert agenc("ops", "retry", body.operation_id, str(file)) == [f"{body.operation_id}~1"]
    with actor.client as client:
        assert client.operation(f"{body.operation_id}~1").retry_of == body.operation_id


def test_an_agent_is_registered_funded_and_shown(agenc: Agenc) -> None:
    name = unique("agent")
    key = agent_key(bytes(24)).hex()
    (token,) = agenc("agents", "register", name, key, "--deposit", "1000")
    assert len(token) >= 32
    agenc("agents", "deposit", name, "500")
    agenc("agents", "withdraw", name, "200")
    (shown,) = agenc("agents", "show", name, "--json")
    assert json.loads(shown)["balance_lamports"] == 1300
    assert name in [
        json.loads(line)["agent_id"] for line in agenc("agents", "list", "--limit", "5000", "--json")
    ]


def test_what_is_refused_is_one_line_and_a_code(agenc: Agenc, tmp_path: Path) -> None:
    (line,) = agenc("ops", "show", "no-such-operation", code=REFUSED)
    assert "unknown_operation" in line or "no operation" in line
    agenc("ops", "list", "--state", "BROKEN", code=BAD_INPUT)
    agenc("agents", "register", unique("agent"), "not-hex", code=BAD_INPUT)
    agenc("ops", "retry", "op", str(tmp_path / "absent.json"), code=BAD_INPUT)


@given(st.integers(0, 12))
def test_names_of_retries_count_on(times: int) -> None:
    name = "op"
    for _ in range(times):
        name = next_name(name)
    assert name == ("op" if times == 0 else f"op~{times}")


@given(st.lists(st.floats(0, 1e9), max_size=200))
def test_a_line_of_bars_fits_and_shows_the_greatest_full(values: list[float]) -> None:
    line = bars(values)
    assert len(line) == min(len(values), 60)
    if values and max(values[-60:]) > 0:
        assert "█" in line
