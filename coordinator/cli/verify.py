"""`agenc verify`: check a receipt offline, or a raw proof of a benchmark statement."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError


def verify(
    file: Annotated[Path, typer.Argument(metavar="RECEIPT", help="A receipt, or with --raw a proof.")],
    raw: Annotated[bool, typer.Option("--raw", help="The file is a proof in wire form.")] = False,
    air: Annotated[str | None, typer.Option(help="With --raw: poseidon2.")] = None,
    log_rows: Annotated[int | None, typer.Option(help="With --raw: log2 of the number of rows.")] = None,
    per_row: Annotated[int | None, typer.Option(help="With --raw: permutations a row.")] = None,
    parameters: Annotated[str, typer.Option(help="With --raw: the parameter set.")] = "standard",
) -> None:
    """Check a receipt offline and say what was checked and what cannot be."""
    if raw:
        _verify_raw(file, air=air, log_rows=log_rows, per_row=per_row, parameters=parameters)
    elif air is not None or log_rows is not None or per_row is not None:
        raise CliError("--air, --log-rows and --per-row go with --raw: a receipt names none of them")
    else:
        _verify_receipt(file)


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """The bytes of a file that is not larger than `max_bytes`.

    Raises:
        CliError: it is, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise CliError(f"{path}: larger than {max_bytes} bytes")
    return data


def _verify_receipt(path: Path) -> None:
    from workers.receipt import MAX_RECEIPT_BYTES, ReceiptError, verify_receipt

    data = read_bounded(path, max_bytes=MAX_RECEIPT_BYTES)
    try:
        report = verify_receipt(data)
    except ReceiptError as error:
        raise CliError(f"{path}: refused: {error}", exit_code=REFUSED) from None
    facts = [
        ("operation", f"{report.operation} (the sender's name for it: nothing binds it)"),
        ("task", report.task_id),
        ("agent", report.agent_id),
        ("agent key K", report.agent_key),
        ("constraint hash C", report.constraint_hash),
        ("output commitment O", report.output_commitment),
        ("nullifier N", report.nullifier),
        ("parents", "\n".join(report.parents) or "none"),
        ("chain", report.domain),
        ("batch", f"operation {report.index + 1} of {report.n}, root {report.root}"),
        (
            "parameters",
            f"{report.parameters.name}: {report.parameters.proven_bits} bits proven, "
            f"{report.parameters.conjectured_bits} by a conjecture that recent papers put in doubt",
        ),
    ]
    typer.echo(f"{path}: valid")
    for name, value in facts:
        for number, line in enumerate(value.splitlines()):
            typer.echo(f"  {name if number == 0 else '':<20} {line}")
    typer.echo("checked:")
    for check in report.checked:
        typer.echo(f"  + {check}")
    typer.echo("not checked, for it cannot be from a receipt alone:")
    for check in report.not_checked:
        typer.echo(f"  - {check}")
    if (chain := report.claimed_chain) is not None:
        typer.echo(f"the sender says: confirmed at slot {chain.slot} in {chain.transaction}")


def _verify_raw(
    path: Path, *, air: str | None, log_rows: int | None, per_row: int | None, parameters: str
) -> None:
    from coordinator.cli.shapes import MAX_PROOF_BYTES, benchmark_air, parameter_set
    from workers.stark.errors import VerificationError
    from workers.stark.verifier import verify as verify_proof

    if air is None or log_rows is None or per_row is None:
        raise CliError("--raw needs --air poseidon2, --log-rows and --per-row")
    statement = benchmark_air(air, log_rows=log_rows, per_row=per_row)
    known = parameter_set(parameters)
    proof = read_bounded(path, max_bytes=MAX_PROOF_BYTES)
    try:
        verify_proof(statement, proof, [], parameters=known, log_rows=log_rows)
    except VerificationError as error:
        raise CliError(f"{path}: refused: {error}", exit_code=REFUSED) from None
    typer.echo(
        f"{path}: valid: {per_row << log_rows:,} Poseidon2 permutations in 2^{log_rows} rows, {known.name} "
        f"({known.conjectured_bits} conjectured bits, {known.proven_bits} proven)"
    )
