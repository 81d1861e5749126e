"""Replay bundles: a failed batch is proved again from its file, which has no secret in it."""

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import bundle as bundles
from coordinator.bundle import Bundle, BundledOperation, BundleError
from coordinator.cli.main import invoke
from coordinator.shell.bundling import MAX_BUNDLES, Bundling
from coordinator.store.witnesses import Witness, WitnessStore
from tests.coordinator.core.world import World
from workers.messages import BatchRequest
from workers.statement import OperationWitness, compute_statements

DOMAIN = b"local:0011223344556677"
SALT, SECRET = b"the salt: 24 bytes of it", b"the secret: 24 of bytes."


def witness_of(operation_id: str) -> OperationWitness:
    return OperationWitness(
        task_id=f"task-{operation_id}".encode(),
        agent_id=b"alice",
        output=f"output of {operation_id}".encode(),
        salt=SALT,
        secret=SECRET,
        parents=(),
    )


def failed_bundle(*operation_ids: str, generator: str = "mock", **changes: Any) -> Bundle:
    witnesses = [witness_of(one) for one in operation_ids]
    statements = compute_statements(DOMAIN, witnesses)
    operations = tuple(
        BundledOperation(
            operation_id=operation_id,
            task_id=f"task-{operation_id}",
            agent_id="alice",
            parents=(),
            output=witness.output,
            statement=statement.statement.hex(),
        )
        for operation_id, witness, statement in zip(operation_ids, witnesses, statements, strict=True)
    )
    values = {
        "format": bundles.FORMAT,
        "batch_id": "batch-7",
        "attempt": 1,
        "failed_at_ms": 1_700_000_000_000,
        "reason": "prover_error",
        "detail": "internal: ZeroDivisionError",
        "index": None,
        "domain": DOMAIN.hex(),
        "parameters": "mock" if generator == "mock" else "standard",
        "generator": generator,
        "worker_id": "w-1",
        "operations": operations,
        "versions": bundles.versions(),
    }
    return Bundle(**(values | changes))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / f"batch-7{bundles.SUFFIX}"
    bundles.write(failed_bundle("a", "b"), path)
    return path


async def test_a_failed_batch_is_kept_without_its_secrets(tmp_path: Path) -> None:
    world = World()
    world.agent()
    world.submit("a")
    (batch_id,) = world.start()
    bundling = Bundling(tmp_path / "bundles", generator="stark", clock_ms=lambda: world.now_ms)
    request = BatchRequest(
        batch_id=batch_id, domain=DOMAIN, operations=(witness_of("a"),), parameters="standard"
    )
    batch, operations = world.state.batch(batch_id), [world.state.operation("a")]
    await bundling.keep(batch, operations, request, reason="prover_error", detail="why", index=0)
    (path,) = bundling.folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(bundling.folder.stat().st_mode) == 0o700
    text = path.read_bytes()
    kept = bundles.read(path)
    again = bundles.request_of(kept)
    for private in (SALT, SECRET):
        assert private not in text
        assert msgspec.json.encode(private).strip(b'"') not in text
        assert private not in (again.operations[0].salt, again.operations[0].secret)
    assert (again.batch_id, again.domain, again.parameters) == (batch_id, DOMAIN, "standard")
    assert again.operations[0].output == witness_of("a").output
    assert (kept.reason, kept.detail, kept.index) == ("prover_error", "why", 0)


async def test_only_the_latest_are_kept(tmp_path: Path) -> None:
    world = World(check=False)
    world.agent()
    world.submit("a")
    (batch_id,) = world.start()
    bundling = Bundling(tmp_path, generator="stark", clock_ms=lambda: world.now_ms)
    request = BatchRequest(
        batch_id=batch_id, domain=DOMAIN, operations=(witness_of("a"),), parameters="standard"
    )
    for number in range(MAX_BUNDLES + 5):
        batch = msgspec.structs.replace(world.state.batch(batch_id), batch_id=f"batch/{number}")
        operations = [world.state.operation("a")]
        await bundling.keep(batch, operations, request, reason="timeout", detail="", index=None)
    names = set(os.listdir(tmp_path))
    assert names == {f"batch_{number}{bundles.SUFFIX}" for number in range(5, MAX_BUNDLES + 5)}


async def test_a_disk_that_refuses_stops_nothing(tmp_path: Path) -> None:
    world = World(check=False)
    world.agent()
    world.submit("a")
    (batch_id,) = world.start()
    (tmp_path / "file").touch()
    bundling = Bundling(tmp_path / "file", generator="stark", clock_ms=lambda: world.now_ms)
    request = BatchRequest(
        batch_id=batch_id, domain=DOMAIN, operations=(witness_of("a"),), parameters="standard"
    )
    operations = [world.state.operation("a")]
    await bundling.keep(world.state.batch(batch_id), operations, request, reason="", detail="", index=None)


def test_it_is_proved_again_and_passes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["replay-batch", str(file)]) == 0
    told = capsys.readouterr().out
    assert "batch-7: 2 operations, mock, mock; 0 with true salt and secret, 2 with stand-ins" in told
    assert "it failed on w-1: prover_error: internal: ZeroDivisionError" in told
    assert "verified: it does not fail here" in told


def test_a_real_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "real.bundle.json"
    bundles.write(failed_bundle("a", generator="stark"), path)
    assert invoke(["replay-batch", str(path), "--threads", "2"]) == 0
    assert "on cpu and verified" in capsys.readouterr().out


def test_what_fails_again_says_how(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = failed_bundle("a", generator="stark", parameters="no such set")
    bundles.write(broken, file)
    assert invoke(["replay-batch", str(file)]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "it fails again: unknown_parameters" in told


def test_the_true_witnesses_give_the_logs_statement(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = file.parent / "data"
    data.mkdir()
    store = WitnessStore(data / "witnesses.sqlite3")
    true = witness_of("b")
    store.put([Witness("b", true.output, true.salt, true.secret)])
    assert invoke(["replay-batch", str(file), "--data-dir", str(data)]) == 0
    assert "1 with true salt and secret, 1 with stand-ins" in capsys.readouterr().out
    store.put([Witness("b", true.output, true.salt, b"another secret 24 bytes.")])
    assert invoke(["replay-batch", str(file), "--data-dir", str(data), "--only", "1"]) == 1
    assert "b: the statement is not the log's" in capsys.readouterr().err
    store.close()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--only", "2"], "operations 0 to 1"), (["--data-dir", "/nowhere"], "--data-dir /nowhere")],
)
def test_wrong_arguments(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert invoke(["replay-batch", str(file), *arguments]) == 2
    assert complaint in capsys.readouterr().err


@given(st.binary(max_size=60))
def test_a_file_of_another_kind_is_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        bundles.read(path)


@pytest.mark.parametrize(
    "changes", [{"format": "agenc-batch-bundle-2"}, {"operations": ()}, {"domain": "not hex"}]
)
def test_a_bundle_that_is_none(
    file: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bundles.write(failed_bundle("a", **changes), file)
    assert invoke(["replay-batch", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"agenc: {file}: ")
