"""`agenc scaling`: what the autoscaler would do now, and why; the policy without its hands."""

from typing import Annotated

import msgspec
import typer

from coordinator.cli import target
from coordinator.cli.target import DataDirOption, UrlOption


def scaling(
    as_json: Annotated[bool, typer.Option("--json", help="The answer as it is.")] = False,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print the autoscaler's decision on the load of this instant; nothing is done."""
    with target.connected(target.require(url, data_dir)) as client:
        answer = client.scaling()
    if as_json:
        typer.echo(msgspec.json.encode(answer).decode())
        return
    load = answer.load
    typer.echo(f"workers   {answer.current} now, {answer.wanted} wanted, {answer.target} next")
    typer.echo(f"why       {answer.reason}: {answer.detail}")
    typer.echo(
        f"load      {load.rows:,} rows, {load.rows_per_second:,.0f} more a second; a batch of {load.batch_rows:,} takes"
        f" {load.batch_p95_ms:,.0f} ms (p95), to be drained in {answer.drain_window_ms:,} ms"
    )
    typer.echo(f"deadlines need {load.deadline_workers}; limits {answer.min_workers} to {answer.max_workers}")
    if answer.held_until is not None:
        typer.echo(f"held      until {answer.held_until}: scaled by hand")
    does = {"on": "carried out", "dry_run": "logged only", "off": "shown here only"}[answer.mode]
    typer.echo(f"mode      {answer.mode}: {does}; machines: {answer.machines}")
    if answer.last_error is not None:
        typer.echo(f"trouble   {answer.failures} requests failed, the last: {answer.last_error}")
