"""The tables of docs/benchmarks.md from the results of the benchmarks: `python -m bench.report [FOLDER]`.

Prints Markdown. What has not been run is left out: no figure without a run.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report_coordinator import chain_rows, coordinator_rows, rate_rows
from coordinator.cli.measure import RESULTS


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def machine(results: Mapping[str, Any]) -> str:
    """Where and when."""
    found = results["machine"]
    return (
        f"{found['processor']}, {found['cores']} cores, {' '.join(found['vector_features'])}, "
        f"{found['memory_gib']:g} GiB; {found['system']}; "
        f"load {found['load_at_start']:.1f} at the start; {found['date']}."
    )


def proofs(results: Mapping[str, Any]) -> Iterator[str]:
    """Ours and Plonky3, then where our time goes. The clock is left out where others had the cores: it would tell
    of them."""
    cases, found = results["cases"], results["machine"]
    idle = found["load_at_start"] <= found["cores"]
    clock = ["ours wall", "Plonky3 wall", "ratio wall"] if idle else []
    head = ["case", "ours cpu", "Plonky3 cpu", "ratio cpu", *clock, "memory", "ratio memory", "proof"]
    rows = [
        [
            name,
            f"{each['ours']['cpu_s']:.3f} s",
            f"{each['plonky3']['cpu_s']:.3f} s",
            f"**{each['ratio_vs_plonky3_cpu']:.2f}**",
            *(_clock(each) if idle else ()),
            f"{each['ours']['peak_memory_bytes'] >> 20} / {each['plonky3']['peak_memory_bytes'] >> 20} MiB",
            f"{each['memory_vs_plonky3'] or 0:.2f}",
            f"{each['ours']['proof_bytes']:,}",
        ]
        for name, each in cases.items()
    ]
    yield from table(head, rows)
    yield ""
    phases = list(next(iter(cases.values()))["ours"]["phases_cpu_s"])
    milliseconds = [
        [name, *(f"{each['ours']['phases_cpu_s'][phase] * 1e3:.0f}" for phase in phases)]
        for name, each in cases.items()
    ]
    yield from table(["processor's ms", *phases], milliseconds)


def _clock(case: Mapping[str, Any]) -> tuple[str, str, str]:
    ours, theirs = case["ours"]["prove_s"], case["plonky3"]["prove_s"]
    return f"{ours:.3f} s", f"{theirs:.3f} s", f"{case['ratio_vs_plonky3']:.2f}"


def operations(results: Mapping[str, Any]) -> Iterator[str]:
    """Operations a second by the size of their outputs."""
    head = [
        "output",
        "operations in 2^16 rows",
        "operations per cpu second",
        "of the Poseidon2 AIR (cpu, without grinding)",
        "verify cpu",
        "proof",
    ]
    rows = [
        [
            f"{each['output_bytes']:,} bytes",
            f"{each['operations']:,}",
            f"{each['operations_per_cpu_s']:,.0f}",
            f"{each['ratio_vs_poseidon2_cpu']:.2f}",
            f"{each['verify_cpu_ms']:.1f} ms",
            f"{each['proof_bytes']:,}",
        ]
        for each in results["cases"]
    ]
    yield from table(head, rows)
    yield ""
    phases = list(results["cases"][0]["phases_cpu_s"])
    milliseconds = [
        [
            f"{each['output_bytes']:,} bytes",
            *(
                f"{each['phases_cpu_s'][phase] * 1e3:.0f} / {each['poseidon2_phases_cpu_s'][phase] * 1e3:.0f}"
                for phase in phases
            ),
        ]
        for each in results["cases"]
    ]
    yield from table(["processor's ms / the Poseidon2 AIR's", *phases], milliseconds)


def sweep(results: Mapping[str, Any]) -> Iterator[str]:
    """The largest size of each kernel."""
    largest = {point["kernel"]: point for point in results["points"]}
    rows = [
        [
            kernel,
            f"{point['size']:,}",
            f"{point['units_per_s'] / 1e6:.2f} M {point['unit']}/s",
            f"{point['best_s'] * 1e3:.1f} ms",
            f"{point['cpu_s'] * 1e3:.1f} ms",
        ]
        for kernel, point in largest.items()
    ]
    yield from table(["kernel", "size", "rate", "fastest", "processor, median"], rows)


def hashes(results: Mapping[str, Any]) -> Iterator[str]:
    """Messages a second in batches, beside the library called once a message."""
    head = ["hash", "message", "messages", "ours", "library", "ratio"]
    rows = [
        [
            each["kind"],
            f"{each['message_bytes']:,} bytes",
            f"{each['messages']:,}",
            f"{each['messages'] / each['ours_s'] / 1e3:,.1f} k/s",
            f"{each['messages'] / each['library_s'] / 1e3:,.1f} k/s",
            f"{each['ratio']:.2f}",
        ]
        for each in results["cases"]
    ]
    yield from table(head, rows)


def coordinator(results: Mapping[str, Any]) -> Iterator[str]:
    """Everything but proving, with the mock prover."""
    yield from table(["what", "measured", "bound"], list(coordinator_rows(results)))


def speculation(results: Mapping[str, Any]) -> Iterator[str]:
    """Makespans in simulated time."""
    latencies = dict.fromkeys(case["latency_s"] for case in results["cases"])
    head = ["speedup (makespan over the floor)", *(f"{latency:g} s" for latency in latencies)]
    yield from table(head, list(chain_rows(results)))
    yield ""
    rates = dict.fromkeys(row["fault_rate"] for row in results["rates"])
    yield from table(
        ["speedup with wrong executions", *(f"{rate:.0%}" for rate in rates)], list(rate_rows(results))
    )


SECTIONS = {
    "proofs": ("Proofs against Plonky3", proofs),
    "operations": ("Operations", operations),
    "hash": ("Poseidon2", sweep),
    "lde": ("Low-degree extension", sweep),
    "merkle": ("Merkle trees", sweep),
    "hashes": ("SHA-256 and BLAKE3", hashes),
    "coordinator": ("The coordinator without proving", coordinator),
    "speculation": ("Speculation", speculation),
}


def report(folder: Path) -> Iterator[str]:
    """All sections whose results lie in the folder."""
    for name, (title, render) in SECTIONS.items():
        path = folder / f"{name}.json"
        if path.exists():
            results = json.loads(path.read_text())
            yield from (f"## {title}", "", machine(results), "", *render(results), "")


if __name__ == "__main__":
    print("\n".join(report(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)))
