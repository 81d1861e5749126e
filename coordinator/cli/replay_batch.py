"""`agenc replay-batch`: prove a failed batch again, here and now, from its bundle."""

import sqlite3
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError

if TYPE_CHECKING:
    from coordinator.bundle import Bundle, Private
    from workers.messages import BatchRequest, BatchResult

WITNESSES_FILE = "witnesses.sqlite3"


def replay_batch(
    file: Annotated[Path, typer.Argument(help="A bundle: DATA_DIR/bundles/BATCH.bundle.json.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Take the true salts and secrets from this data folder, where it still has them."),
    ] = None,
    only: Annotated[int | None, typer.Option(help="Prove this operation of the batch alone.", min=0)] = None,
    backend: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1, max=1024)] = 1,
) -> None:
    """Prove a failed batch again and verify the proof. Exit code 1, with the traceback, if it fails again."""
    from coordinator import bundle as bundles

    try:
        bundle = bundles.read(file)
    except OSError as error:
        raise CliError(f"{file}: {error.strerror or error}") from None
    except bundles.BundleError as error:
        raise CliError(f"{file}: {error}") from None
    if only is not None:
        bundle = _only(bundle, only)
    true = {} if data_dir is None else _true_parts(data_dir, bundle)
    count, known = len(bundle.operations), len(true)
    typer.echo(
        f"{bundle.batch_id}: {count} operation{'s' * (count > 1)}, {bundle.generator}, {bundle.parameters}; "
        f"{known} with true salt and secret, {count - known} with stand-ins"
    )
    typer.echo(f"it failed on {bundle.worker_id}: {bundle.reason}: {bundle.detail}")
    request = bundles.request_of(bundle, true)
    result = _prove(bundle, request, backend=backend, threads=threads)
    _check(bundle, result, true)
    typer.echo(
        f"proved in {result.prove_ms / 1000:.2f} s on {result.backend} and verified: it does not fail here"
    )


def _only(bundle: "Bundle", index: int) -> "Bundle":
    import msgspec

    if index >= len(bundle.operations):
        raise CliError(f"--only {index}: the batch has operations 0 to {len(bundle.operations) - 1}")
    return msgspec.structs.replace(bundle, operations=(bundle.operations[index],))


def _true_parts(data_dir: Path, bundle: "Bundle") -> Mapping[str, "Private"]:
    """The salts and secrets that the data folder still has. Read-only, so that a server may run on it."""
    from coordinator.bundle import Private

    path = data_dir / WITNESSES_FILE
    query = "SELECT salt, secret FROM outputs JOIN secrets USING (operation_id) WHERE operation_id = ?"
    found: dict[str, Private] = {}
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            for operation in bundle.operations:
                row = connection.execute(query, (operation.operation_id,)).fetchone()
                if row is not None:
                    found[operation.operation_id] = Private(*row)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CliError(f"--data-dir {data_dir}: {error}") from None
    return found


def _prove(bundle: "Bundle", request: "BatchRequest", *, backend: str, threads: int) -> "BatchResult":
    from workers.generator import make_generator
    from workers.worker import as_prover_error

    try:
        generator = make_generator(bundle.generator, backend=backend, kernel_threads=threads)
    except ValueError as error:
        raise CliError(str(error)) from None
    try:
        return generator.prove(request, lambda: None)
    except Exception as error:
        traceback.print_exception(error)
        raise CliError(f"it fails again: {as_prover_error(error)}", exit_code=REFUSED) from None


def _check(bundle: "Bundle", result: "BatchResult", true: Mapping[str, "Private"]) -> None:
    from coordinator.chain.verification import InvalidProofError, verify_batch

    for operation, statement in zip(bundle.operations, result.statements, strict=True):
        if operation.operation_id in true and statement.hex() != operation.statement:
            raise CliError(f"{operation.operation_id}: the statement is not the log's", exit_code=REFUSED)
    try:
        verify_batch(result.proof, result.statements, bundle.parameters)
    except InvalidProofError as error:
        raise CliError(f"it fails again: the proof does not verify: {error}", exit_code=REFUSED) from None
