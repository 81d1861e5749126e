"""What a replay came to: the run report (its JSON is the API specification's), the table, the conclusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from coordinator.core.recording import Recording


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One replay of the workflow. `complaints` are the promises that did not hold, in plain words."""

    speculation: bool
    profile: Mapping[str, Any]
    confirmed: int
    rolled_back: int
    failed: int
    skipped: int
    makespan_s: float
    critical_path_s: float
    operations: int
    batches: int
    permutations: int
    rollbacks: Mapping[str, int]
    denials: Mapping[str, int]
    slashed_lamports: int
    invariants: Mapping[str, bool]
    stake_conserved: bool
    verify_ms: float | None
    verified_receipt: str | None
    receipts: Path
    tasks: Mapping[str, Mapping[str, Any]] = field(repr=False)
    complaints: Sequence[str] = ()
    recording: Recording | None = field(default=None, repr=False)
    """For `agenc what-if`; None where the system was not ours to read the log of."""

    @property
    def ok(self) -> bool:
        """Whether everything came out as it should."""
        return not self.complaints

    def as_json(self) -> dict[str, Any]:
        """The run as the report's file has it."""
        return {
            "speculation": self.speculation,
            "confirmed": self.confirmed,
            "rolled_back": self.rolled_back,
            "failed": self.failed,
            "skipped": self.skipped,
            "makespan_s": round(self.makespan_s, 3),
            "critical_path_s": round(self.critical_path_s, 3),
            "operations": self.operations,
            "batches": self.batches,
            "permutations": self.permutations,
            "rollbacks": dict(self.rollbacks),
            "denials": dict(self.denials),
            "slashed_lamports": self.slashed_lamports,
            "invariants": dict(self.invariants),
            "stake_conserved": self.stake_conserved,
            "verify_ms": None if self.verify_ms is None else round(self.verify_ms, 2),
            "verified_receipt": self.verified_receipt,
            "receipts": str(self.receipts),
            "complaints": list(self.complaints),
            "recording": self.recording,
            "outcomes": {task_id: dict(facts) for task_id, facts in self.tasks.items()},
        }


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A workflow's replays under one profile: the one without speculation first, where there are two."""

    workflow: str
    tasks: int
    depth: int
    time_scale: float
    profile: Mapping[str, Any]
    faults: Sequence[str]
    runs: Sequence[RunResult]

    @property
    def ok(self) -> bool:
        """Whether every run came out as it should."""
        return all(run.ok for run in self.runs)

    @property
    def speedup(self) -> float | None:
        """Makespan without speculation over makespan with it; None unless both were run."""
        if len(self.runs) < 2 or self.runs[1].makespan_s <= 0:
            return None
        return self.runs[0].makespan_s / self.runs[1].makespan_s

    def as_json(self) -> dict[str, Any]:
        """The report as its file has it."""
        return {
            "workflow": self.workflow,
            "tasks": self.tasks,
            "depth": self.depth,
            "time_scale": self.time_scale,
            "profile": dict(self.profile),
            "faults": list(self.faults),
            "speedup": None if self.speedup is None else round(self.speedup, 3),
            "runs": [run.as_json() for run in self.runs],
        }

    def write(self, path: Path) -> None:
        """The report as a JSON file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(self.as_json()), indent=2) + b"\n")
        unfinished.replace(path)


def print_report(report: RunReport, console: Console) -> None:
    """The table, the profile and the conclusion, for a person."""
    console.print(_table(report))
    profile = ", ".join(f"{name} {value}" for name, value in report.profile.items())
    console.print(f"profile: {profile}", markup=False, highlight=False, soft_wrap=True)
    for run in report.runs:
        console.print(f"receipts: {run.receipts}", markup=False, highlight=False, soft_wrap=True)
        for complaint in run.complaints:
            line = f"NOT AS IT SHOULD BE ({_title(run)}): {complaint}"
            console.print(line, style="bold red", markup=False, soft_wrap=True)
    console.print(conclusion(report), markup=False, highlight=False, soft_wrap=True)


def conclusion(report: RunReport) -> str:
    """What the figures mean, in plain words."""
    if not report.ok:
        return "The run did not come out as it should: see the lines above."
    last = report.runs[-1]
    promises = "every invariant holds and no lamport was lost"
    if last.confirmed == report.tasks:
        fate = f"All {report.tasks} operations were proved and confirmed"
    else:
        fate = (
            f"{last.confirmed} of {report.tasks} tasks were proved and confirmed, {last.failed} failed, "
            f"{last.rolled_back} were rolled back and {last.skipped} skipped, as the faults ask"
        )
    if report.speedup is None:
        return f"{fate} in {last.makespan_s:.1f} s; {promises}."
    pace = (
        f"speculation made the {report.depth}-deep workflow {report.speedup:.1f} times as fast"
        if report.speedup > 1
        else "speculation did not make it faster"
    )
    times = f"{report.runs[0].makespan_s:.1f} s → {last.makespan_s:.1f} s"
    return f"{fate}; {pace} ({times}); {promises}."


def _table(report: RunReport) -> Table:
    table = Table(title=f"{report.workflow}: {report.tasks} tasks, {report.depth} deep", title_justify="left")
    table.add_column("")
    for run in report.runs:
        table.add_column(_title(run), justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("operations submitted", [f"{run.operations:,}" for run in report.runs]),
        ("confirmed", [f"{run.confirmed:,}" for run in report.runs]),
        ("failed / skipped", [f"{run.failed:,} / {run.skipped:,}" for run in report.runs]),
        ("rolled back for good", [f"{run.rolled_back:,}" for run in report.runs]),
        ("rollbacks", [_counts(run.rollbacks) for run in report.runs]),
        ("batches", [f"{run.batches:,}" for run in report.runs]),
        ("permutations proved", [f"{run.permutations:,}" for run in report.runs]),
        ("makespan", [f"{run.makespan_s:.2f} s" for run in report.runs]),
        ("critical path", [f"{run.critical_path_s:.2f} s" for run in report.runs]),
        ("speedup", ["1.0" if run is report.runs[0] else f"{report.speedup:.1f}" for run in report.runs]),
        ("invariants", [_held(run.invariants) for run in report.runs]),
        ("stake conserved", ["yes" if run.stake_conserved else "NO" for run in report.runs]),
        ("slashed", [f"{run.slashed_lamports:,} lamports" for run in report.runs]),
        ("one receipt verified in", [_milliseconds(run.verify_ms) for run in report.runs]),
    ]
    for name, cells in rows:
        if name != "speedup" or report.speedup is not None:
            table.add_row(name, *cells)
    return table


def _title(run: RunResult) -> str:
    return "with speculation" if run.speculation else "without speculation"


def _counts(counts: Mapping[str, int]) -> str:
    if not counts:
        return "0"
    return "\n".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def _held(invariants: Mapping[str, bool]) -> str:
    held = sum(invariants.values())
    return f"{held} of {len(invariants)} hold"


def _milliseconds(value: float | None) -> str:
    return "nothing confirmed" if value is None else f"{value:.0f} ms"
