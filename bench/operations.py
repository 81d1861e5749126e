"""Operations proved per second, by the size of their outputs: `python -m bench.operations` (see --help).

Each case is one batch that fills 2^log_rows rows. In turn with it the Poseidon2 AIR is proved (164 columns, one
permutation a row) at the same rows and on the same threads: `ratio_vs_poseidon2` compares permutations a
second, where each row is one. Batches are traced and proved as a worker does it; drawing outputs is not
counted, hashing them is. `cpu` are the processor's seconds, the steadier figure on a busy machine. Grinding is a
lottery, drawn anew by each blinded proof and once for ever by the other: `ratio_vs_poseidon2_cpu` leaves it out of
both. Verifying counts the statements' root and the proof. Writes `operations.json`.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from coordinator.cli.measure import RESULTS, describe_machine, timed, write_results
from coordinator.cli.shapes import benchmark_air, benchmark_inputs, fill_trace
from kernels.backend import Backend, select
from workers.airs.operation import MIN_PADDING_ROWS
from workers.airs.operation_trace import operation_trace, rows_for
from workers.batch_proof import AIR, verify_batch_proof
from workers.stark.parameters import Parameters, by_name
from workers.stark.prover import ProveOutcome, prove
from workers.statement import MAX_OPERATIONS, OperationWitness

DOMAIN = b"bench"
_cpu = time.process_time


@dataclass(frozen=True)
class Run:
    """One proof: seconds on the clock and of the processor, the latter by phase too, and what was proved."""

    wall_s: float
    cpu_s: float
    phases_cpu_s: dict[str, float]
    proof: bytes
    statements: tuple[bytes, ...]
    rows: int

    @property
    def steady_cpu_s(self) -> float:
        """Without the lottery."""
        return self.cpu_s - self.phases_cpu_s["grind"]


def witnesses(output_bytes: int, *, log_rows: int) -> list[OperationWitness]:
    """As many operations with such outputs as fit the rows beside the padding, and a batch."""
    draw = random.Random(output_bytes)
    count = min(((1 << log_rows) - MIN_PADDING_ROWS) // rows_for(output_bytes), MAX_OPERATIONS)
    return [
        OperationWitness(
            task_id=f"task-{number}".encode(),
            agent_id=b"agent",
            output=draw.randbytes(output_bytes),
            salt=draw.randbytes(24),
            secret=draw.randbytes(24),
        )
        for number in range(count)
    ]


def prove_operations(
    batch: Sequence[OperationWitness], *, parameters: Parameters, backend: Backend
) -> Callable[[], tuple[float, ProveOutcome, tuple[bytes, ...]]]:
    """A run that gives the processor's seconds of tracing, the proof, and the statements."""

    def run() -> tuple[float, ProveOutcome, tuple[bytes, ...]]:
        started = _cpu()
        made = operation_trace(DOMAIN, batch, backend=backend)
        traced_s = _cpu() - started
        outcome = prove(AIR, made.trace, made.public_values, parameters, backend, _cpu, memory=made.memory)
        return traced_s, outcome, made.statement_digests

    return run


def prove_poseidon2(
    *, log_rows: int, parameters: Parameters, backend: Backend
) -> Callable[[], tuple[float, ProveOutcome, tuple[bytes, ...]]]:
    """The same for the Poseidon2 AIR, which has no statements."""
    air = benchmark_air("poseidon2", log_rows=log_rows, per_row=1)
    inputs = benchmark_inputs(seed=1, count=1 << log_rows)

    def run() -> tuple[float, ProveOutcome, tuple[bytes, ...]]:
        started = _cpu()
        trace, memory = fill_trace(air, inputs, backend=backend)
        traced_s = _cpu() - started
        return traced_s, prove(air, trace, (), parameters, backend, _cpu, memory=memory), ()

    return run


def measure(run: Callable[[], tuple[float, ProveOutcome, tuple[bytes, ...]]]) -> Run:
    """One run on both clocks."""
    wall, cpu = time.perf_counter(), _cpu()
    traced_s, outcome, statements = run()
    return Run(
        wall_s=time.perf_counter() - wall,
        cpu_s=_cpu() - cpu,
        phases_cpu_s={"trace": traced_s, **outcome.phases},
        proof=outcome.proof,
        statements=statements,
        rows=outcome.rows,
    )


def compare(
    output_bytes: int, *, log_rows: int, rounds: int, parameters: Parameters, backend: Backend
) -> dict[str, Any]:
    """One case: a batch and the Poseidon2 AIR in turn, `rounds` times after one that is not counted."""
    batch = witnesses(output_bytes, log_rows=log_rows)
    ours = prove_operations(batch, parameters=parameters, backend=backend)
    reference = prove_poseidon2(log_rows=log_rows, parameters=parameters, backend=backend)
    pairs = [(measure(ours), measure(reference)) for _ in range(rounds + 1)][1:]
    last = pairs[-1][0]
    assert last.rows == 1 << log_rows, (last.rows, log_rows)
    verifying = timed(
        lambda: verify_batch_proof(last.proof, last.statements, parameters=parameters), repeats=5
    )
    wall_s = median(run.wall_s for run, _ in pairs)
    cpu_s = median(run.cpu_s for run, _ in pairs)
    return {
        "output_bytes": output_bytes,
        "operations": len(batch),
        "rows": 1 << log_rows,
        "rows_of_operations": len(batch) * rows_for(output_bytes),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "operations_per_s": len(batch) / wall_s,
        "operations_per_cpu_s": len(batch) / cpu_s,
        "permutations_per_s": (1 << log_rows) / wall_s,
        "ratio_vs_poseidon2": median(other.wall_s for _, other in pairs) / wall_s,
        "ratio_vs_poseidon2_cpu": median(other.steady_cpu_s for _, other in pairs)
        / median(run.steady_cpu_s for run, _ in pairs),
        "phases_cpu_s": _phases(run for run, _ in pairs),
        "poseidon2_phases_cpu_s": _phases(other for _, other in pairs),
        "proof_bytes": len(last.proof),
        "verify_ms": verifying.wall_s * 1e3,
        "verify_cpu_ms": verifying.cpu_s * 1e3,
    }


def _phases(runs: Iterable[Run]) -> dict[str, float]:
    phases = [run.phases_cpu_s for run in runs]
    return {name: median(each[name] for each in phases) for name in phases[0]}


def print_case(figures: dict[str, Any]) -> None:
    """The figures for a person."""
    print(
        f"outputs of {figures['output_bytes']:,} bytes: {figures['operations']:,} operations in "
        f"{figures['rows']:,} rows: {figures['operations_per_s']:,.0f} operations/s "
        f"({figures['operations_per_cpu_s']:,.0f} a second of the processor)"
    )
    print(
        f"  {figures['permutations_per_s']:,.0f} permutations/s, {figures['ratio_vs_poseidon2']:.2f} of the "
        f"Poseidon2 AIR's (processor's time, without grinding: {figures['ratio_vs_poseidon2_cpu']:.2f}); verified in "
        f"{figures['verify_ms']:.1f} ms (processor {figures['verify_cpu_ms']:.1f} ms); proof "
        f"{figures['proof_bytes']:,} bytes"
    )
    theirs = figures["poseidon2_phases_cpu_s"]
    phases = [
        f"{name} {seconds * 1e3:.0f} ({theirs[name] * 1e3:.0f}) ms"
        for name, seconds in figures["phases_cpu_s"].items()
    ]
    print("  processor (the Poseidon2 AIR's): " + "  ".join(phases), flush=True)


def main() -> None:
    """All cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-bytes", type=int, nargs="+", default=[64, 1024, 65536])
    parser.add_argument("--log-rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--parameters", default="standard")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    backend, parameters = select(arguments.backend, arguments.threads), by_name(arguments.parameters)
    machine = describe_machine()
    print(f"{machine.line()}; {backend.name}, {backend.threads} threads, parameters {parameters.name}")
    cases: list[dict[str, Any]] = []
    for output_bytes in arguments.output_bytes:
        cases.append(
            compare(
                output_bytes,
                log_rows=arguments.log_rows,
                rounds=arguments.rounds,
                parameters=parameters,
                backend=backend,
            )
        )
        print_case(cases[-1])
    heading = {"machine": asdict(machine), "backend": backend.name, "threads": backend.threads}
    write_results(
        "operations", {**heading, "parameters": parameters.name, "cases": cases}, folder=arguments.out
    )


if __name__ == "__main__":
    main()
