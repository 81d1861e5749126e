"""`agenc what-if`: a recorded run again, in simulated time, with other workers, batches or depth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from coordinator.cli.errors import CliError

if TYPE_CHECKING:
    from coordinator.core.recording import Outcome, Recording


def what_if(
    recorded: Annotated[
        Path,
        typer.Argument(metavar="RECORDED_RUN", help="A report of `agenc run --report`, or a data folder."),
    ],
    workers: Annotated[int | None, typer.Option(help="Proof workers.", min=1, max=1_000)] = None,
    batch: Annotated[
        int | None, typer.Option(help="The most operations in one proof.", min=1, max=4_096)
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="How deep agents may speculate; 0 not at all.", min=0, max=20)
    ] = None,
    env: Annotated[str, typer.Option(help="The profile whose settings hold: dev, staging or prod.")] = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Predict p50, p99 and throughput by the real planner; workers are as fast as those of the recording."""
    from coordinator.core.errors import CoreError
    from coordinator.core.recording import Question, predict
    from coordinator.settings import Settings, SettingsError, default_config_dir

    recording = _read(recorded)
    try:
        config = Settings.load(env, default_config_dir(), {}).core_config()
    except SettingsError as error:
        raise CliError("; ".join(error.problems)) from None
    try:
        again = predict(recording, config, Question())
        asked = predict(recording, config, Question(workers=workers, batch=batch, depth=depth))
    except CoreError as error:
        raise CliError(error.message) from None
    if as_json:
        answer = {"measured": recording.measured, "as_it_was": again, "predicted": asked}
        typer.echo(msgspec.json.encode(answer).decode())
        return
    typer.echo(
        f"{recording.measured.operations} operations on {recording.workers} worker(s); a proof takes"
        f" {recording.overhead_ms + recording.line.fixed_ms:.0f} ms +"
        f" {recording.line.unit_ms * 1e6:.0f} ms a million rows · log2 rows, a confirmation"
        f" {recording.settle_ms / 1_000:.1f} s"
    )
    typer.echo(f"{'':<24}{'p50':>10}{'p99':>10}{'operations/s':>16}{'in all':>10}")
    for name, outcome in (
        ("measured", recording.measured),
        ("simulated, as it was", again),
        ("predicted", asked),
    ):
        typer.echo(_line(name, outcome))


def _line(name: str, outcome: "Outcome") -> str:
    seconds = [f"{ms / 1_000:.2f} s" for ms in (outcome.p50_ms, outcome.p99_ms)]
    return (
        f"{name:<24}{seconds[0]:>10}{seconds[1]:>10}{outcome.operations_per_s:>16,.1f}"
        f"{outcome.makespan_ms / 1_000:>8.2f} s"
    )


def _read(path: Path) -> "Recording":
    from coordinator.replay import recorded
    from coordinator.store.errors import StoreError

    try:
        return recorded.of_folder(path) if path.is_dir() else recorded.of_report(path)
    except (recorded.NoRecording, StoreError) as error:
        raise CliError(str(error)) from None
