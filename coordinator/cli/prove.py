"""`agenc prove`: one proof in wire form, of the benchmark statement or of a batch of operations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.errors import CliError

if TYPE_CHECKING:
    from kernels.backend import Backend
    from workers.stark.parameters import Parameters
    from workers.stark.prover import ProveOutcome

MAX_SEED = 2**64 - 1


def prove(
    air: Annotated[str, typer.Option(help="poseidon2 (the benchmark statement) or operation (a batch).")],
    out: Annotated[Path, typer.Option(help="Where to write the proof, in wire form.")],
    seed: Annotated[int | None, typer.Option(help="poseidon2: the seed of its inputs.")] = None,
    log_rows: Annotated[int | None, typer.Option(help="poseidon2: log2 of the number of rows.")] = None,
    per_row: Annotated[int | None, typer.Option(help="poseidon2: permutations a row, 1 or 8.")] = None,
    case: Annotated[str | None, typer.Option(metavar="FILE:INDEX", help="operation: the case.")] = None,
    blind_seed: Annotated[
        int | None,
        typer.Option(
            help="operation, for tests only: a seed in place of the system's randomness (not private)."
        ),
    ] = None,
    parameters: Annotated[str, typer.Option(help="The parameter set.")] = "standard",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.", min=1, max=1024)] = None,
) -> None:
    """Prove one statement and write the proof's bytes."""
    from coordinator.cli.shapes import parameter_set
    from kernels.backend import select

    known = parameter_set(parameters)
    if not out.parent.is_dir():
        raise CliError(f"--out {out}: the folder is not there")
    if air == "poseidon2":
        if seed is None or log_rows is None or per_row is None or case is not None or blind_seed is not None:
            raise CliError(
                "--air poseidon2 takes --seed, --log-rows and --per-row, and no other statement's options"
            )
        backend = select("auto", threads)
        outcome = _prove_poseidon2(seed, log_rows=log_rows, per_row=per_row, known=known, backend=backend)
    elif air == "operation":
        if case is None or seed is not None or log_rows is not None or per_row is not None:
            raise CliError("--air operation takes --case, and none of --seed, --log-rows and --per-row")
        backend = select("auto", threads)
        outcome = _prove_operations(case, blind_seed=blind_seed, known=known, backend=backend)
    else:
        raise CliError(f"--air {air}: expected poseidon2 or operation")
    out.write_bytes(outcome.proof)
    typer.echo(
        f"{out}: {len(outcome.proof):,} bytes in {sum(outcome.phases.values()):.2f} s on {backend.name} "
        f"({backend.threads} threads)"
    )


def _prove_poseidon2(
    seed: int, *, log_rows: int, per_row: int, known: "Parameters", backend: "Backend"
) -> "ProveOutcome":
    from coordinator.cli.shapes import benchmark_air, benchmark_inputs, fill_trace
    from workers.stark.prover import prove as prove_trace

    if not 0 <= seed <= MAX_SEED:
        raise CliError(f"--seed {seed}: expected 0 to 2^64 - 1")
    statement = benchmark_air("poseidon2", log_rows=log_rows, per_row=per_row)
    inputs = benchmark_inputs(seed=seed, count=per_row << log_rows)
    trace, memory = fill_trace(statement, inputs, backend=backend)
    return prove_trace(statement, trace, [], parameters=known, backend=backend, memory=memory)


def _prove_operations(
    case: str, *, blind_seed: int | None, known: "Parameters", backend: "Backend"
) -> "ProveOutcome":
    from coordinator.cli.cases import load_cases
    from workers.airs.blinding import SeededBlinding
    from workers.airs.operation import OperationAir
    from workers.airs.operation_trace import BatchSizeError, operation_trace
    from workers.stark.prover import prove as prove_trace

    path, _, index = case.rpartition(":")
    if not path or not index.isdigit():
        raise CliError(f"--case {case}: expected STATEMENTS.json:INDEX")
    if blind_seed is not None and not 0 <= blind_seed <= MAX_SEED:
        raise CliError(f"--blind-seed {blind_seed}: expected 0 to 2^64 - 1")
    cases = load_cases(Path(path))
    if int(index) >= len(cases):
        raise CliError(f"--case {case}: the file has cases 0 to {len(cases) - 1}")
    chosen = cases[int(index)]
    if len(set(chosen.domains)) > 1:
        raise CliError(f"--case {case}: its operations have different domains; a batch has one")
    try:
        built = operation_trace(
            chosen.domains[0],
            chosen.witnesses,
            blinding=None if blind_seed is None else SeededBlinding(blind_seed),
            backend=backend,
        )
    except BatchSizeError as error:
        raise CliError(f"--case {case}: {error}") from None
    return prove_trace(
        OperationAir(),
        built.trace,
        built.public_values,
        parameters=known,
        backend=backend,
        memory=built.memory,
    )
