"""`agenc simulate`: the whole coordinator in one process, with faults, from a seed; and soaking over many seeds."""

import random
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError

if TYPE_CHECKING:
    from coordinator.sim.faults import Faults
    from coordinator.sim.plan import Outcome
    from coordinator.sim.soak import Report

MAX_OPERATIONS = 1_000_000
_MAX_STEP = 20 * MAX_OPERATIONS


def simulate(
    seed: Annotated[
        int | None, typer.Option(help="What the whole run is drawn from; random by default.")
    ] = None,
    operations: Annotated[
        int, typer.Option(min=1, max=MAX_OPERATIONS, help="Operations that agents submit in a run.")
    ] = 1_000,
    faults: Annotated[
        str,
        typer.Option(
            help="all, none, a TOML or JSON file of fault = probability, or kinds with commas between."
        ),
    ] = "all",
    history: Annotated[
        Path | None, typer.Option(help="Write the history: a line of JSON for what happened.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Take only these steps, such as 3,7-9: how a shrunk run is told again.")
    ] = None,
    shrink: Annotated[bool, typer.Option(help="Look for a smaller run that fails the same way.")] = True,
    soak: Annotated[
        bool, typer.Option("--soak", help="Run seed after seed, until Ctrl-C or --minutes.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop soaking after this time.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=1_024, help="Soak on so many; all cores by default.")
    ] = None,
    require_coverage: Annotated[
        bool,
        typer.Option("--require-coverage", help="Fail unless everything that can occur did, while soaking."),
    ] = False,
) -> None:
    """Run the real coordinator against simulated time, workers, agents and faults. One seed, one history."""
    chosen = _faults(faults)
    if soak:
        _soak(
            chosen,
            seed=seed,
            operations=operations,
            minutes=minutes,
            processes=processes,
            require_coverage=require_coverage,
            shrink_failures=shrink,
        )
    else:
        first = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        _simulate(
            chosen, seed=first, operations=operations, steps=_steps(steps), history=history, shrink_it=shrink
        )


def _faults(text: str) -> "Faults":
    from coordinator.sim.faults import FaultsError, read

    try:
        return read(text)
    except FaultsError as error:
        raise CliError(f"--faults {error}") from None


def _steps(text: str | None) -> tuple[int, ...] | None:
    """`3,7-9` as numbers."""
    if text is None:
        return None
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not all(one.isascii() and one.isdecimal() for one in ((first, last) if dash else (first,))):
            raise CliError(f"--steps {text}: numbers and ranges are needed, such as 3,7-9")
        ends = int(first), int(last or first)
        if ends[1] > _MAX_STEP:
            raise CliError(f"--steps {text}: no run has more than {_MAX_STEP} steps")
        found.update(dict.fromkeys(range(ends[0], ends[1] + 1)))
    return tuple(sorted(found))


def steps_text(steps: tuple[int, ...]) -> str:
    """The inverse of `_steps`, as short as it can be."""
    ranges: list[list[int]] = []
    for step in steps:
        if ranges and step == ranges[-1][1] + 1:
            ranges[-1][1] = step
        else:
            ranges.append([step, step])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _simulate(
    faults: "Faults",
    *,
    seed: int,
    operations: int,
    steps: tuple[int, ...] | None,
    history: Path | None,
    shrink_it: bool,
) -> None:
    from coordinator.sim.plan import Plan
    from coordinator.sim.run import run

    plan = Plan(seed=seed, operations=operations, faults=faults, steps=steps)
    if history is None:
        outcome = run(plan)
    else:
        with history.open("w") as out:
            outcome = run(plan, out=out)
    typer.echo(
        f"seed {seed}: {outcome.operations:,} operations, {outcome.events:,} events, {outcome.steps:,} steps, "
        f"{outcome.virtual_s:,.0f} s of simulated time"
    )
    for line in outcome.coverage.lines(only_seen=True):
        typer.echo(line)
    typer.echo(outcome.digest)
    if outcome.violation is not None:
        _explain(outcome, shrink_it=shrink_it)
        raise CliError(f"seed {seed}: {outcome.violation}", exit_code=REFUSED)


def _explain(outcome: "Outcome", *, shrink_it: bool) -> None:
    """A failing run: what broke, the last that happened, and how to run it again, as small as it was found."""
    from coordinator.sim.shrink import shrink

    typer.echo(f"FAILED: {outcome.violation}", err=True)
    typer.echo(f"run it again: {command_of(outcome)}", err=True)
    if shrink_it:
        typer.echo("shrinking…", err=True)
        outcome = shrink(outcome)
        typer.echo(f"smaller: {command_of(outcome)}\n  {outcome.violation}", err=True)
    for line in outcome.last:
        typer.echo(f"  {line}", err=True)


def command_of(outcome: "Outcome") -> str:
    """The command line that runs it again."""
    plan = outcome.plan
    words = ["agenc", "simulate", "--seed", str(plan.seed), "--operations", str(plan.operations)]
    words += ["--faults", plan.faults.name()]
    if plan.steps is not None:
        words += ["--steps", steps_text(plan.steps)]
    return shlex.join(words)


def _soak(
    faults: "Faults",
    *,
    seed: int | None,
    operations: int,
    minutes: float | None,
    processes: int | None,
    require_coverage: bool,
    shrink_failures: bool,
) -> None:
    from coordinator.sim.soak import soak

    report = soak(
        faults=faults,
        operations=operations,
        minutes=minutes,
        first_seed=seed,
        processes=processes,
        tell=_progress,
    )
    typer.echo("", err=True)
    for line in report.coverage.lines():
        typer.echo(line)
    typer.echo(_summary(report))
    for outcome in report.failures:
        _explain(outcome, shrink_it=shrink_failures)
    missing = report.coverage.missing()
    typer.echo("everything that can occur did" if not missing else f"never occurred: {len(missing)}")
    for topic, name in missing:
        typer.echo(f"  {topic}: {name}")
    if report.failures:
        raise CliError(f"{len(report.failures)} of {report.runs} runs failed", exit_code=REFUSED)
    if missing and require_coverage:
        raise CliError(f"{len(missing)} things that can occur never did", exit_code=REFUSED)


def _progress(report: "Report") -> None:
    typer.echo(f"\r{_summary(report)}", nl=False, err=True)


def _summary(report: "Report") -> str:
    return (
        f"{report.runs:,} runs, {report.operations:,} operations, {report.events:,} events, "
        f"{report.virtual_s / 3600:,.1f} simulated hours, {len(report.failures)} failed"
    )
