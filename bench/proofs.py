"""Permutations proved per second, ours and Plonky3's in turn: `python -m bench.proofs` (see --help).

Both prove the same statement, the Poseidon2 AIR on the same inputs, under the same parameters and on as many
threads, each in a process of its own; their rounds alternate, so that a busy machine slows both. Of every
process the first proof is not counted. Times are medians, from the permutations' inputs to the proof (trace
generation counted, drawing the inputs not). On a busy machine `cpu` is the steadier figure: seconds of the
processor a proof, and so are the phases. Plonky3's is its process's total over its proofs and so includes
drawing the inputs and starting, about a hundredth. Writes `proofs.json`, with `ratio_vs_plonky3` by case, and
`proofs.png`.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import children, plonky3
from coordinator.cli.measure import RESULTS, describe_machine, write_results

TRACE_COLUMNS = 164
ELEMENT_BYTES = 4
COPIES_HELD = 4
"""Of the trace: itself, its extension (twice), and working memory. A rough guess that decides what to skip."""


@dataclass(frozen=True)
class Case:
    """One shape on so many threads."""

    per_row: int
    log_rows: int
    threads: int

    @property
    def name(self) -> str:
        return f"{self.per_row}x2^{self.log_rows}-t{self.threads}"

    @property
    def permutations(self) -> int:
        return self.per_row << self.log_rows

    @property
    def guessed_gib(self) -> float:
        return self.permutations * TRACE_COLUMNS * ELEMENT_BYTES * COPIES_HELD / 2**30


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One prover on one case: medians over all counted proofs."""

    prove_s: float
    best_s: float
    cpu_s: float
    permutations_per_s: float
    peak_memory_bytes: int
    proof_bytes: int
    phases_cpu_s: dict[str, float]


def prove_ours(case: Case, *, parameters: str, proofs: int) -> Iterator[dict[str, Any]]:
    """In this process: one uncounted proof, then `proofs` of them."""
    from coordinator.cli.shapes import benchmark_air, benchmark_inputs, fill_trace
    from kernels.backend import select
    from workers.stark.parameters import by_name
    from workers.stark.prover import prove

    backend = select("cpu", case.threads)
    air = benchmark_air("poseidon2", log_rows=case.log_rows, per_row=case.per_row)
    inputs = benchmark_inputs(seed=1, count=case.permutations)
    for number in range(proofs + 1):
        started, cpu = time.perf_counter(), time.process_time()
        trace, memory = fill_trace(air, inputs, backend=backend)
        traced = time.process_time()
        outcome = prove(air, trace, [], by_name(parameters), backend, time.process_time, memory=memory)
        total_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        del trace, memory  # or the next one would stand beside it
        phases = {"trace": traced - cpu, **outcome.phases}
        if number:
            yield {
                "total_s": total_s,
                "cpu_s": cpu_s,
                "phases_cpu_s": phases,
                "proof_bytes": len(outcome.proof),
            }


def measure_ours(case: Case, *, parameters: str, proofs: int) -> tuple[list[dict[str, Any]], int]:
    """The counted proofs of one process of ours, and its peak of memory."""
    words = [case.per_row, case.log_rows, case.threads, proofs]
    command = [sys.executable, "-m", "bench.proofs", "--ours", *map(str, words), "--parameters", parameters]
    root = str(Path(__file__).resolve().parents[1])
    outcome = children.run(command, environment={"PYTHONPATH": root})
    return outcome.lines, outcome.peak_bytes


def measure_plonky3(case: Case, *, parameters: str, proofs: int) -> tuple[list[dict[str, Any]], int]:
    """The same of Plonky3."""
    words = [parameters, 1, case.log_rows, case.per_row, proofs + 1]
    command = [str(plonky3.binary()), "prove-poseidon2", *map(str, words)]
    outcome = children.run(command, environment={"RAYON_NUM_THREADS": str(case.threads)})
    cpu_s = outcome.cpu_s / len(outcome.lines)
    proved = [line | {"cpu_s": cpu_s, "phases_cpu_s": {}} for line in outcome.lines[1:]]
    return proved, outcome.peak_bytes


def _figures(case: Case, proved: Sequence[dict[str, Any]], peak_bytes: int) -> Figures:
    prove_s = median(line["total_s"] for line in proved)
    return Figures(
        prove_s=prove_s,
        best_s=min(line["total_s"] for line in proved),
        cpu_s=median(line["cpu_s"] for line in proved),
        permutations_per_s=case.permutations / prove_s,
        peak_memory_bytes=peak_bytes,
        proof_bytes=proved[0]["proof_bytes"],
        phases_cpu_s={
            name: median(line["phases_cpu_s"][name] for line in proved) for name in proved[0]["phases_cpu_s"]
        },
    )


def compare(case: Case, *, parameters: str, rounds: int, proofs: int) -> dict[str, Any]:
    """One case: our process, then Plonky3's, `rounds` times."""
    ours, theirs = list[dict[str, Any]](), list[dict[str, Any]]()
    our_peak = their_peak = 0
    for _ in range(rounds):
        lines, peak = measure_ours(case, parameters=parameters, proofs=proofs)
        ours, our_peak = ours + lines, max(our_peak, peak)
        lines, peak = measure_plonky3(case, parameters=parameters, proofs=proofs)
        theirs, their_peak = theirs + lines, max(their_peak, peak)
    mine, peer = _figures(case, ours, our_peak), _figures(case, theirs, their_peak)
    return {
        **asdict(case),
        "permutations": case.permutations,
        "proofs_counted": len(ours),
        "ours": asdict(mine),
        "plonky3": asdict(peer),
        "ratio_vs_plonky3": peer.prove_s / mine.prove_s,
        "ratio_vs_plonky3_cpu": peer.cpu_s / mine.cpu_s,
        "memory_vs_plonky3": mine.peak_memory_bytes / peer.peak_memory_bytes
        if peer.peak_memory_bytes
        else None,
    }


def print_case(case: Case, figures: dict[str, Any]) -> None:
    """Three lines: ours, theirs, the ratio."""
    print(f"{case.name}: {case.permutations:,} permutations, {figures['proofs_counted']} proofs counted")
    for name in ("ours", "plonky3"):
        each = figures[name]
        print(
            f"  {name:8} {each['permutations_per_s']:>9,.0f} permutations/s  {each['prove_s']:7.3f} s  "
            f"cpu {each['cpu_s']:7.3f} s  peak {each['peak_memory_bytes'] / 2**20:6,.0f} MiB  "
            f"proof {each['proof_bytes']:,} bytes"
        )
    phases = figures["ours"]["phases_cpu_s"]
    print(
        "  phases (processor)  "
        + "  ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in phases.items())
    )
    print(
        f"  ratio_vs_plonky3 {figures['ratio_vs_plonky3']:.2f} (processor's time "
        f"{figures['ratio_vs_plonky3_cpu']:.2f}, memory {figures['memory_vs_plonky3'] or 0:.2f})",
        flush=True,
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log-rows", type=_numbers, default=[13, 14, 15, 16, 17])
    parser.add_argument("--per-row", type=_numbers, default=[1, 8])
    parser.add_argument("--threads", type=_numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="processes of each prover, in turn")
    parser.add_argument("--proofs", type=int, default=2, help="proofs counted of each process")
    parser.add_argument("--parameters", default="standard")
    parser.add_argument("--max-gib", type=float, default=8.0, help="skip cases that would need more")
    parser.add_argument("--max-minutes", type=float, default=30.0, help="start no case after so long")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ours", type=int, nargs=4, metavar="N", help=argparse.SUPPRESS)
    return parser.parse_args()


def _heading(parameters: str) -> dict[str, Any]:
    from workers.stark.parameters import by_name

    chosen = by_name(parameters)
    machine = describe_machine()
    named = asdict(chosen) | {"proven_regime": chosen.proven_regime.value}
    print(machine.line())
    print(
        f"parameters {chosen.name}: blowup 2^{chosen.log_blowup}, {chosen.num_queries} queries, "
        f"{chosen.query_pow_bits} bits of grinding; {chosen.conjectured_bits} bits by a conjecture in doubt, "
        f"{chosen.proven_bits} proven"
    )
    return {"machine": asdict(machine), "parameters": named}


def main() -> None:
    """All cases, smallest first; figures are written after each."""
    arguments = _arguments()
    if arguments.ours:
        per_row, log_rows, threads, proofs = arguments.ours
        case = Case(per_row, log_rows, threads)
        for line in prove_ours(case, parameters=arguments.parameters, proofs=proofs):
            print(json.dumps(line), flush=True)
        return
    heading = _heading(arguments.parameters)
    shapes = [(per_row, log_rows) for per_row in arguments.per_row for log_rows in arguments.log_rows]
    cases = [Case(*shape, threads) for shape in shapes for threads in arguments.threads]
    started, done = time.monotonic(), dict[str, dict[str, Any]]()
    for case in sorted(cases, key=lambda case: case.permutations):
        if case.guessed_gib > arguments.max_gib:
            print(f"{case.name}: skipped, it may need {case.guessed_gib:.0f} GiB (--max-gib)")
        elif time.monotonic() - started > 60 * arguments.max_minutes:
            print(f"{case.name}: skipped, {arguments.max_minutes:g} minutes are over (--max-minutes)")
        else:
            done[case.name] = compare(
                case, parameters=arguments.parameters, rounds=arguments.rounds, proofs=arguments.proofs
            )
            print_case(case, done[case.name])
            _write(heading, done, arguments.out)


def _write(heading: dict[str, Any], done: dict[str, dict[str, Any]], folder: Path) -> None:
    from coordinator.cli.plots import plot_phases

    ratios = {name: figures["ratio_vs_plonky3"] for name, figures in done.items()}
    write_results("proofs", heading | {"ratio_vs_plonky3": ratios, "cases": done}, folder=folder)
    phases = {name: figures["ours"]["phases_cpu_s"] for name, figures in done.items()}
    plot_phases(phases, folder / "proofs.png", title="Where a proof's time goes (seconds of the processor)")


if __name__ == "__main__":
    main()
