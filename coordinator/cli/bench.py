"""`agenc bench`: figures of this machine.

`proofs`: permutations proved per second. `hash`, `lde`, `merkle`: one kernel over growing inputs, as JSON and
plots. Against Plonky3: `make bench-proofs`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kernels.backend import Backend
    from workers.stark.parameters import Parameters

RESULTS = Path("bench") / "results"

BackendOption = Annotated[str, typer.Option("--backend", help="auto, cpu or cuda.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="CPU threads; all by default.", min=1, max=1024)
]
RepeatOption = Annotated[int, typer.Option("--repeat", help="Runs that are timed.", min=1, max=1000)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the JSON and the plots.")]
FromOption = Annotated[int, typer.Option("--from", help="log2 of the smallest size.", min=4, max=22)]
ToOption = Annotated[int, typer.Option("--to", help="log2 of the greatest size.", min=4, max=22)]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Figures of this machine.")


@app.callback()
def _group() -> None:
    """Figures of this machine."""


@dataclass(frozen=True, kw_only=True)
class ProofFigures:
    """One shape, measured: the best of `repeats` proofs after one that is not counted."""

    log_rows: int
    per_row: int
    permutations: int
    parameters: str
    conjectured_bits: int
    proven_bits: int
    machine: str
    backend: str
    threads: int
    repeats: int
    prove_s: float
    permutations_per_s: float
    phases_s: dict[str, float]
    verify_ms: float
    proof_bytes: int


@app.command("proofs")
def proofs(
    log_rows: Annotated[int, typer.Option(help="log2 of the number of rows.")] = 15,
    per_row: Annotated[int, typer.Option(help="Permutations a row, 1 or 8.")] = 8,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    repeat: RepeatOption = 3,
    parameters: Annotated[str, typer.Option(help="The parameter set.")] = "standard",
    as_json: JsonOption = False,
) -> None:
    """Permutations proved per second: the Poseidon2 AIR, trace generation and all of the proof included."""
    import msgspec

    from coordinator.cli.shapes import parameter_set

    figures = measure_proofs(
        log_rows=log_rows,
        per_row=per_row,
        repeats=repeat,
        parameters=parameter_set(parameters),
        backend=_backend(backend, threads),
    )
    if as_json:
        typer.echo(msgspec.json.encode(asdict(figures)).decode())
    else:
        print_figures(figures)


def measure_proofs(
    *, log_rows: int, per_row: int, repeats: int, parameters: "Parameters", backend: "Backend"
) -> ProofFigures:
    """Proves the benchmark statement `repeats` times, verifies the proof, and keeps the best time.

    The first proof is not counted: it loads the compiled kernels.
    """
    import time

    from coordinator.cli.measure import describe_machine
    from coordinator.cli.shapes import benchmark_air, benchmark_inputs, fill_trace
    from workers.stark.prover import prove
    from workers.stark.verifier import verify

    air = benchmark_air("poseidon2", log_rows=log_rows, per_row=per_row)
    inputs = benchmark_inputs(seed=1, count=per_row << log_rows)
    best_s, phases, proof = float("inf"), dict[str, float](), b""
    for attempt in range(repeats + 1):
        started = time.perf_counter()
        trace, memory = fill_trace(air, inputs, backend=backend)
        traced = time.perf_counter()
        outcome = prove(air, trace, [], parameters=parameters, backend=backend, memory=memory)
        elapsed_s = time.perf_counter() - started
        if attempt and elapsed_s < best_s:
            best_s, proof = elapsed_s, outcome.proof
            phases = {"trace": traced - started, **outcome.phases}
    verify_s = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        verify(air, proof, [], parameters=parameters, log_rows=log_rows)
        verify_s = min(verify_s, time.perf_counter() - started)
    permutations = per_row << log_rows
    return ProofFigures(
        log_rows=log_rows,
        per_row=per_row,
        permutations=permutations,
        parameters=parameters.name,
        conjectured_bits=parameters.conjectured_bits,
        proven_bits=parameters.proven_bits,
        machine=describe_machine().line(),
        backend=backend.name,
        threads=backend.threads,
        repeats=repeats,
        prove_s=best_s,
        permutations_per_s=permutations / best_s,
        phases_s=phases,
        verify_ms=verify_s * 1e3,
        proof_bytes=len(proof),
    )


def print_figures(figures: ProofFigures) -> None:
    """The figures for a person."""
    typer.echo(f"{figures.permutations_per_s:,.0f} permutations proved per second")
    typer.echo(
        f"  {figures.permutations:,} permutations, {figures.per_row} a row, 2^{figures.log_rows} rows: "
        f"{figures.prove_s:.3f} s, the best of {figures.repeats}"
    )
    typer.echo(
        "  " + ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in figures.phases_s.items())
    )
    typer.echo(f"  proof {figures.proof_bytes:,} bytes, verified in {figures.verify_ms:.1f} ms")
    typer.echo(
        f"  parameters {figures.parameters}: {figures.conjectured_bits} bits by a conjecture in doubt, "
        f"{figures.proven_bits} proven"
    )
    typer.echo(f"  {figures.machine}; {figures.backend}, {figures.threads} threads")


def _backend(name: str, threads: int | None) -> "Backend":
    """
    Raises:
        CliError: no backend has that name, or its device is not there.
    """
    from coordinator.cli.errors import CliError
    from kernels.backend import select

    try:
        return select(name, threads)
    except ValueError as error:
        raise CliError(f"--backend: {error}") from None


def _sweep(
    name: str, backend: "Backend", *, log_sizes: range, repeat: int, as_json: bool, folder: Path
) -> None:
    """One kernel's figures to the screen and, with plots, to `folder`."""
    import msgspec

    from coordinator.cli.errors import CliError
    from coordinator.cli.measure import describe_machine, write_results
    from coordinator.cli.plots import plot_roofline, plot_throughput
    from coordinator.cli.sweeps import SWEEPS, Point, copy_bandwidth_bytes_per_s

    if not log_sizes:
        raise CliError("--from is greater than --to")
    machine = describe_machine()
    points = list[Point]()
    for point in SWEEPS[name](backend, log_sizes=log_sizes, repeats=repeat):
        points.append(point)
        if not as_json:
            typer.echo(
                f"{point.kernel:12} {point.size:>8,}: {point.units_per_s / 1e6:8.2f} M {point.unit}/s  "
                f"best {point.best_s * 1e3:8.2f} ms, median {point.wall_s * 1e3:8.2f} ms, "
                f"processor {point.cpu_s * 1e3:8.2f} ms"
            )
    bandwidth = copy_bandwidth_bytes_per_s()
    figures = {
        "machine": asdict(machine),
        "backend": backend.name,
        "threads": backend.threads,
        "repeats": repeat,
        "copy_bytes_per_s": bandwidth,
        "points": [asdict(point) | {"units_per_s": point.units_per_s} for point in points],
    }
    title = f"{name}, {backend.name}, {backend.threads} threads"
    written = (
        write_results(name, figures, folder=folder),
        plot_throughput(points, folder / f"{name}.png", title=title),
        plot_roofline(points, folder / f"{name}-roofline.png", bandwidth=bandwidth, title=title),
    )
    if as_json:
        typer.echo(msgspec.json.encode(figures).decode())
    else:
        typer.echo(f"{machine.line()}; {backend.name}, {backend.threads} threads")
        typer.echo("written: " + ", ".join(map(str, written)))


@app.command("hash")
def hash_(
    first: FromOption = 8,
    last: ToOption = 18,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    repeat: RepeatOption = 5,
    as_json: JsonOption = False,
    out: OutOption = RESULTS,
) -> None:
    """Poseidon2 permutations per second, widths 16 and 24, by batch size."""
    _sweep(
        "hash",
        _backend(backend, threads),
        log_sizes=range(first, last + 1),
        repeat=repeat,
        as_json=as_json,
        folder=out,
    )


@app.command("lde")
def lde(
    first: FromOption = 10,
    last: ToOption = 16,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    repeat: RepeatOption = 5,
    as_json: JsonOption = False,
    out: OutOption = RESULTS,
) -> None:
    """Low-degree extension of 164 columns to twice the rows, by rows."""
    _sweep(
        "lde",
        _backend(backend, threads),
        log_sizes=range(first, last + 1),
        repeat=repeat,
        as_json=as_json,
        folder=out,
    )


@app.command("merkle")
def merkle(
    first: FromOption = 10,
    last: ToOption = 17,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    repeat: RepeatOption = 5,
    as_json: JsonOption = False,
    out: OutOption = RESULTS,
) -> None:
    """Merkle trees over rows of 164 columns, by rows."""
    _sweep(
        "merkle",
        _backend(backend, threads),
        log_sizes=range(first, last + 1),
        repeat=repeat,
        as_json=as_json,
        folder=out,
    )
