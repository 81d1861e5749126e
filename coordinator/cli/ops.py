"""`agenc ops`: operations, for people and for scripts."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from coordinator.cli import target
from coordinator.cli.errors import CliError
from coordinator.cli.target import DataDirOption, UrlOption

if TYPE_CHECKING:
    from coordinator.answers_admin import OperationDetail, TimelineEntry

app = typer.Typer(help="List, show, cancel and retry operations.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
_RETRY_NAME = re.compile(r"(.*)~(\d+)\Z")


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only those in this state: QUEUED, CONFIRMED, …")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100_000)] = 100,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Operations in order of their admission."""
    from coordinator.core.states import OperationState

    try:
        wanted = None if state is None else OperationState(state.upper())
    except ValueError:
        raise CliError(f"no state is called {state}: {', '.join(OperationState)}") from None
    left, cursor = limit, None
    with target.connected(target.require(url, data_dir)) as client:
        while left:
            page = client.operations(state=wanted, agent_id=agent, limit=min(left, 1_000), cursor=cursor)
            for one in page.operations:
                line = f"{one.operation_id:<32}  {one.state:<18}  depth {one.depth:<3}  {one.agent_id}"
                typer.echo(_json(one) if as_json else line)
            left -= len(page.operations)
            cursor = page.next_cursor
            if cursor is None:
                return


@app.command("show")
def show(
    operation_id: Annotated[str, typer.Argument(metavar="OPERATION")],
    as_json: JsonOption = False,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """All that is known of an operation: where it stands and why, and its timeline."""
    with target.connected(target.require(url, data_dir)) as client:
        detail = client.operation_detail(operation_id)
        timeline = client.timeline(operation_id).timeline
    if as_json:
        typer.echo(_json({"detail": detail, "timeline": timeline}))
        return
    for line in (*_described(detail), *map(_entry, timeline)):
        typer.echo(line)


@app.command("cancel")
def cancel(
    operation_id: Annotated[str, typer.Argument(metavar="OPERATION")],
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Roll an operation back with its descendants and print their ids, a line each; needs AGENC_ADMIN_TOKEN."""
    with target.connected(target.require(url, data_dir)) as client:
        for rolled_back in client.cancel(operation_id).rolled_back:
            typer.echo(rolled_back)


@app.command("retry")
def retry(
    operation_id: Annotated[str, typer.Argument(metavar="OPERATION", help="One that was rolled back.")],
    body: Annotated[
        Path,
        typer.Argument(
            metavar="BODY.json", help="What was submitted (POST /v1/operations); - is standard input."
        ),
    ],
    new_id: Annotated[
        str | None, typer.Option("--id", help="The new operation's id; OPERATION~1, ~2, …")
    ] = None,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Submit a rolled-back operation again, under a new id; prints that. What has ended has no secret left at
    the coordinator, so the submission itself is needed. AGENC_ADMIN_TOKEN holds the agent's token, or the operator's.
    """
    from coordinator.submission import OperationBody

    try:
        content = sys.stdin.buffer.read() if str(body) == "-" else body.read_bytes()
        given = msgspec.json.decode(content, type=OperationBody)
    except OSError as error:
        raise CliError(f"{body}: {error.strerror or error}") from None
    except msgspec.MsgspecError as error:
        raise CliError(f"{body}: {error}") from None
    named = new_id or next_name(operation_id)
    again = msgspec.structs.replace(given, operation_id=named, retry_of=operation_id)
    with target.connected(target.require(url, data_dir)) as client:
        typer.echo(client.submit(again).operation_id)


def next_name(operation_id: str) -> str:
    """The id of a retry: `op` → `op~1` → `op~2`."""
    match = _RETRY_NAME.fullmatch(operation_id)
    return f"{match[1]}~{int(match[2]) + 1}" if match else f"{operation_id}~1"


def _described(detail: "OperationDetail") -> list[str]:
    operation = detail.operation
    speculation, numbers = operation.speculation, detail.decision
    why = f" by the rule {numbers.rule}" if numbers is not None else ""
    granted = (
        "granted" if speculation.granted else f"not granted ({speculation.reason or 'nothing to decide'})"
    )
    waits = [] if detail.blocked_by is None else [f"waits for   {detail.blocked_by.detail}"]
    failed = [] if detail.failure is None else [f"failed      {detail.failure}"]
    return [
        f"{operation.operation_id}  {operation.state}",
        f"agent       {operation.agent_id}",
        f"task        {operation.task_id} ({operation.operation_type})",
        f"parents     {', '.join(operation.depends_on) or 'none'}",
        f"children    {', '.join(detail.children) or 'none'}",
        f"speculation {granted}{why}, bond {speculation.stake_lamports} lamports",
        f"batch       {operation.batch_id or 'none'}",
        *waits,
        *failed,
    ]


def _entry(entry: "TimelineEntry") -> str:
    took = "" if entry.duration_ms is None else f"{entry.duration_ms} ms"
    return f"{entry.at}  {entry.state:<18} {took:>12}  {entry.reason}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
