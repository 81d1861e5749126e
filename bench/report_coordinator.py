"""The tables of the coordinator's benchmarks; `report` prints them with the others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def coordinator_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what, figure, the issue's bound) of `coordinator.json`."""
    details = results["details"]
    throughput, batch, single = details["throughput"], details["batch"], details["single"]
    yield "core alone", f"{throughput['core_alone_per_cpu_s']:,} operations/cpu s", ""
    for name, label in (
        ("events", "core and log"),
        ("events_and_witnesses", "core, log and witnesses"),
    ):
        one = throughput[name]
        yield (
            f"{label}, admitted to confirmed",
            f"{one['per_s']:,}/s ({one['per_cpu_s']:,}/cpu s)",
            "20,000/s" if name == "events" else "",
        )
    yield (
        "batch call, acknowledged",
        f"{batch['admitted_per_s']:,}/s ({batch['admitted_per_server_cpu_s']:,}/server's cpu s)",
        "10,000/s",
    )
    yield (
        "batch call, until all are confirmed",
        f"{batch['confirmed_per_s']:,}/s ({batch['confirmed_per_server_cpu_s']:,}/server's cpu s)",
        "",
    )
    yield (
        f"single submissions at {single['rate_per_s']:,}/s",
        f"p50 {single['p50_ms']} ms, p99 {single['p99_ms']} ms",
        "p99 10 ms",
    )
    dispatch = details["dispatch"]["microseconds_per_operation"]
    yield (
        "dispatch, by operations queued",
        ", ".join(f"{int(queued):,}: {took} µs" for queued, took in dispatch.items()),
        "flat",
    )
    yield "cascade of 1,000 descendants, durable", f"{details['cascade']['median_ms']} ms", "100 ms"
    restart = details["restart"]
    yield (
        f"core ready with {restart['operations']:,} operations in history",
        f"{restart['ready_s']} s (a tail of {restart['tail_events']:,} events)",
        "5 s",
    )
    memory = details["memory"]
    yield (
        "a queued operation",
        f"{memory['bytes_per_pending']:,} bytes; speculating, with its snapshot: "
        f"{memory['bytes_per_speculating']:,}",
        "2 KB",
    )
    scrape = details["scrape"]
    yield (
        f"/metrics with {scrape['agents']:,} agents",
        f"p50 {scrape['/metrics']['p50_ms']} ms, p99 {scrape['/metrics']['p99_ms']} ms",
        "50 ms",
    )
    slowest = max(single["with_reads"]["reads"].items(), key=lambda item: float(item[1]["p99_ms"]))
    yield (
        f"operator's reads at {single['rate_per_s']:,} operations/s",
        f"slowest {slowest[0]}: p99 {slowest[1]['p99_ms']} ms",
        "p99 20 ms",
    )
    yield "the disk's fsync", f"{results['disk_fsync_ms']} ms", ""


def chain_rows(results: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Speedup and distance from the floor, by graph and latency, of `speculation.json`."""
    graphs = dict.fromkeys(case["graph"] for case in results["cases"])
    for graph in graphs:
        cells = [
            f"{case['speedup']:.1f}× ({case['warm_over_floor']:.2f})"
            for case in results["cases"]
            if case["graph"] == graph
        ]
        yield [graph, *cells]


def rate_rows(results: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Speedup by the share of wrong executions, by policy and forced."""
    runs = dict.fromkeys((row["graph"], row["latency_s"]) for row in results["rates"])
    for graph, latency_s in runs:
        rows = [row for row in results["rates"] if (row["graph"], row["latency_s"]) == (graph, latency_s)]
        for way in ("policy", "forced"):
            yield [f"{graph}, {latency_s:g} s, {way}", *(f"{row[f'{way}_speedup']:.2f}" for row in rows)]
