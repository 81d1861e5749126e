"""The service over its real parts (mock proofs, to be quick): restarts, corruption, refusals by the chain, faults."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from coordinator.chain.faults import FaultPlan
from coordinator.chain.interface import EXTERNAL
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.states import OperationState, RollbackReason
from coordinator.service import Service
from coordinator.settings import Settings
from coordinator.shell.settling import TREASURY, account_of
from coordinator.store.witnesses import Witness
from coordinator.submission import NewOperation
from workers.statement import agent_key, constraint_hash

SECRETS = {"ann": bytes(range(24)), "bob": bytes(range(1, 25))}
DEPOSIT = 1_000_000_000
ENVIRONMENT = {
    "AGENC_ADMIN_WORKERS_PORT": "0",
    "AGENC_CHAIN_SLOT_MS": "20",
    "AGENC_SPECULATION_ENABLED": "true",
    "AGENC_SPECULATION_FEATURES_ENABLE_CROSS_AGENT_SPECULATION": "true",
    "AGENC_SPECULATION_MODE": "aggressive",
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
}
CONFIRM_S = 60.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _operation(name: str, *parents: str, agent: str = "ann", output: bytes | None = None) -> NewOperation:
    return NewOperation(
        operation_id=name,
        agent_id=agent,
        task_id=f"task-{name}",
        operation_type="test",
        depends_on=parents,
        parent_outputs=None,
        output=f"output of {name}".encode() if output is None else output,
        salt=os.urandom(24),
        secret=SECRETS[agent],
        priority=0,
        deadline_ms=None,
        retry_of=None,
    )


@asynccontextmanager
async def _service(
    folder: Path, *, faults: tuple[str, ...] = (), tasks: dict[str, bytes] | None = None
) -> AsyncIterator[Service]:
    settings = Settings.load("test", None, ENVIRONMENT | {"AGENC_DATA_DIR": str(folder)})
    service = await Service.open(
        settings, faults=FaultPlan.parse(faults), chain_tasks=tasks, clock_ms=_now_ms
    )
    try:
        yield service
    finally:
        await service.close()


async def _register(service: Service) -> None:
    for agent_id, secret in SECRETS.items():
        await service.register_agent(agent_id, agent_key(secret), DEPOSIT)


async def _admit(service: Service, *operations: NewOperation) -> None:
    for result in await service.submit(operations):
        assert result.error is None, result
        assert result.created


async def _end_of(service: Service, operation_id: str) -> OperationState:
    confirmed = {OperationState.CONFIRMED}
    return (await service.wait_operation(operation_id, confirmed, CONFIRM_S)).state


def _until_settled(service: Service) -> None:
    deadline_s = time.monotonic() + 10
    while service.parts.settling.waiting and time.monotonic() < deadline_s:
        time.sleep(0.05)


async def _sound(service: Service) -> dict[str, int]:
    """The chain's balances, after everything was found in order."""
    await asyncio.to_thread(_until_settled, service)
    report = await service.integrity()
    assert report["status"] == "ok", report
    assert report["chain"]["checked"], report
    return dict(service.chain.balances())


async def test_a_chain_sent_in_one_call_in_any_order_is_proved_in_one_batch(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        await _register(service)
        await _admit(service, _operation("c", "b"), _operation("b", "a"), _operation("a"))
        assert await _end_of(service, "c") is OperationState.CONFIRMED
        batches = {service.operation(name).batch_id for name in "abc"}
        assert len(batches) == 1
        assert service.operation("c").depth == 2
        balances = await _sound(service)
        assert balances[account_of("ann")] == DEPOSIT
        assert balances[EXTERNAL] == -len(SECRETS) * DEPOSIT


async def test_the_same_submission_again_is_the_same_operation(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        await _register(service)
        first = _operation("a")
        await _admit(service, first)
        (again,) = await service.submit([first])
        assert (again.created, again.error) == (False, None)
        (other,) = await service.submit([_operation("a")])
        assert other.error is not None
        assert other.error.code is ErrorCode.ID_CONFLICT


async def test_a_restart_goes_on_where_it_was_and_forgets_no_token(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        token = await service.register_agent("ann", agent_key(SECRETS["ann"]), DEPOSIT)
        await service.set_config({"speculation.max_depth": 7}, "operator")
        await _admit(service, _operation("a"), _operation("b", "a"))
        before = service.engine.state.dump()
        head = service.parts.log.head
    async with _service(tmp_path) as service:
        assert service.parts.log.head.seq >= head.seq
        assert service.agent_for_token(token) == "ann"
        assert service.engine.config.max_depth == 7
        assert await _end_of(service, "b") is OperationState.CONFIRMED
        await _sound(service)
        kept = service.parts.log.witnesses.get(["a", "b"])
        assert {name: witness.output for name, witness in kept.items()} == {
            "a": b"output of a",
            "b": b"output of b",
        }
    assert before, "the state before the stop was not empty"


async def test_secrets_are_erased_once_an_operation_is_confirmed(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        await _register(service)
        await _admit(service, _operation("a"))
        assert await _end_of(service, "a") is OperationState.CONFIRMED
        await service.parts.housekeeping._clean()
        assert service.parts.log.witnesses.with_secrets() == frozenset()
    assert not _is_on_disk(tmp_path, SECRETS["ann"])


async def test_a_lie_that_only_the_chain_sees_is_slashed_and_its_children_roll_back(tmp_path: Path) -> None:
    truth = {"task-lie": constraint_hash(b"the truth")}
    async with _service(tmp_path, tasks=truth) as service:
        await _register(service)
        await _admit(
            service,
            _operation("root"),
            _operation("lie", "root"),
            _operation("child", "lie", agent="bob"),
            _operation("grandchild", "child", agent="bob"),
            _operation("bystander", "root"),
        )
        for name in ("lie", "grandchild", "bystander"):
            await _end_of(service, name)
        states = {name: service.operation(name).state for name in ("root", "lie", "child", "bystander")}
        assert states == {
            "root": OperationState.CONFIRMED,
            "lie": OperationState.FAILED,
            "child": OperationState.ROLLED_BACK,
            "bystander": OperationState.CONFIRMED,
        }
        assert service.operation("child").reason == RollbackReason.PARENT_FAILED
        assert service.operation("grandchild").state is OperationState.ROLLED_BACK
        (slash,) = service.engine.state.slashes.values()
        assert slash.lamports == slash.bond_lamports // 10
        balances = await _sound(service)
        assert balances[account_of("ann")] == DEPOSIT - slash.lamports
        assert balances[account_of("bob")] == DEPOSIT + slash.lamports // 2
        assert balances[TREASURY] == slash.lamports - slash.lamports // 2


async def test_what_the_chain_rejects_without_a_fault_fails_and_costs_nothing(tmp_path: Path) -> None:
    async with _service(tmp_path, faults=("reject@op:task-b",)) as service:
        await _register(service)
        await _admit(
            service, _operation("a"), _operation("b", "a"), _operation("c", "b"), _operation("d", "a")
        )
        ends = {name: await _end_of(service, name) for name in "abcd"}
        assert ends == {
            "a": OperationState.CONFIRMED,
            "b": OperationState.FAILED,
            "c": OperationState.ROLLED_BACK,
            "d": OperationState.CONFIRMED,
        }
        balances = await _sound(service)
        assert balances[account_of("ann")] == DEPOSIT


@pytest.mark.parametrize(
    "fault", ["kill-worker@batch:1", "drop@t:0:0.5", "delay@t:0:1", "outage@t:0.3:1", "reorg@slot:60:3"]
)
async def test_faults_of_others_cost_time_and_nothing_else(tmp_path: Path, fault: str) -> None:
    async with _service(tmp_path, faults=(fault,)) as service:
        await _register(service)
        await _admit(service, _operation("a"), _operation("b", "a"))
        assert await _end_of(service, "b") is OperationState.CONFIRMED
        balances = await _sound(service)
        assert balances[account_of("ann")] == DEPOSIT


def _is_on_disk(folder: Path, secret: bytes) -> bool:
    return any(secret in path.read_bytes() for path in folder.glob("witnesses*"))


def _flip_a_byte(folder: Path) -> None:
    connection = sqlite3.connect(folder / "log.sqlite3")
    with connection:
        (body,) = connection.execute("SELECT body FROM log WHERE seq = 2").fetchone()
        changed = bytes([body[0], body[1] ^ 1, *body[2:]])
        connection.execute("UPDATE log SET body = ? WHERE seq = 2", (changed,))
    connection.close()


async def test_a_corrupted_log_is_served_read_only_and_named(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        await _register(service)
    _flip_a_byte(tmp_path)
    async with _service(tmp_path) as service:
        assert service.read_only is not None
        with pytest.raises(CoreError) as refused:
            await service.submit([_operation("a")])
        assert refused.value.code is ErrorCode.READ_ONLY
        report = await service.integrity()
        assert report["status"] == "corrupted"
        assert report["log"]["at_event"] == 2


async def test_every_write_is_refused_while_read_only(tmp_path: Path) -> None:
    calls: dict[str, Callable[[Service], Awaitable[object]]] = {
        "deposit": lambda service: service.deposit("ann", 1),
        "withdraw": lambda service: service.withdraw("ann", 1),
        "register_task": lambda service: service.register_task("t", None, (), None),
        "claim_task": lambda service: service.claim_task("t", "ann"),
        "set_config": lambda service: service.set_config({"speculation.enabled": False}, "operator"),
        "clear_queue": lambda service: service.clear_queue("operator"),
    }
    async with _service(tmp_path) as service:
        await _register(service)
        service.parts.journal.read_only = "the disk is full"
        for name, call in calls.items():
            with pytest.raises(CoreError) as refused:
                await call(service)
            assert refused.value.code is ErrorCode.READ_ONLY, name
        assert not service.engine.take_events()


async def test_a_witness_that_rotted_is_found_before_proving_and_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _service(tmp_path) as service:
        await _register(service)
        store = service.parts.log.witnesses
        read = store.get

        def rotten(operation_ids: Sequence[str]) -> dict[str, Witness]:
            found = read(operation_ids)
            if "bad" in found:
                found["bad"] = msgspec.structs.replace(found["bad"], output=b"something else")
            return found

        monkeypatch.setattr(store, "get", rotten)
        await _admit(service, *(_operation(name) for name in ("one", "bad", "two")))
        for name, state in (
            ("one", OperationState.CONFIRMED),
            ("two", OperationState.CONFIRMED),
            ("bad", OperationState.ROLLED_BACK),
        ):
            ended = await service.wait_operation(name, {state}, CONFIRM_S)
            assert ended.state is state
        assert ended.reason == RollbackReason.PROOF_FAILED
        assert ended.end_cause is not None
        assert "invalid_witness" in ended.end_cause
        assert service.engine.state.agents["ann"].slashed_lamports == 0
