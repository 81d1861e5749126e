"""`agenc run`: replay a workflow of agents without and with speculation, and say what came of it."""

import asyncio
import os
import signal
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError

if TYPE_CHECKING:
    from rich.console import Console

    from coordinator.replay.report import RunReport
    from coordinator.replay.runner import Replay

EXAMPLE = "document-intake.json"
MAX_AGENTS = 256
MAX_TIME_SCALE = 1e6


def run(
    workflow: Annotated[
        Path | None, typer.Argument(metavar="[WORKFLOW.json]", help="A WfFormat 1.5 file; ours by default.")
    ] = None,
    time_scale: Annotated[float, typer.Option(help="Seconds a recorded second takes.")] = 1.0,
    no_speculation: Annotated[bool, typer.Option("--no-speculation", help="Only the run without.")] = False,
    agents: Annotated[int, typer.Option(help="Agents that the tasks are dealt to.")] = 4,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="F",
            help="lie@op:TASK, reject@op:TASK, kill-worker@batch:N, delay|drop|outage@t:SECONDS:DURATION, "
            "reorg@slot:N:DEPTH. May be given several times.",
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the report.")] = None,
    url: Annotated[str | None, typer.Option(help="Replay against a running system.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for receipts and logs; runs/<time> by default.")
    ] = None,
    keep_data: Annotated[bool, typer.Option(help="Keep the data folders of runs that went well.")] = False,
) -> None:
    """Replay a workflow through real proofs to confirmation, without and with speculation."""
    from rich.console import Console

    replay = _replay(
        workflow,
        time_scale=time_scale,
        modes=(False,) if no_speculation else (False, True),
        agents=agents,
        faults=tuple(fault or ()),
        url=url,
        folder=out or Path("runs") / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"),
        keep_data=keep_data,
    )
    if report is not None and not report.absolute().parent.is_dir():
        raise CliError(f"--report {report}: the folder is not there")
    console = Console()
    result = _act(replay, console)
    from coordinator.replay.report import print_report

    print_report(result, console)
    if report is not None:
        result.write(report)
    if not result.ok:
        raise typer.Exit(REFUSED)


def _replay(
    workflow: Path | None,
    *,
    time_scale: float,
    modes: tuple[bool, ...],
    agents: int,
    faults: tuple[str, ...],
    url: str | None,
    folder: Path,
    keep_data: bool,
) -> "Replay":
    """Checks all that was asked for before anything starts."""
    from coordinator.replay.faults import FaultsError, plan_faults
    from coordinator.replay.runner import Replay
    from coordinator.replay.workflow import WorkflowError, load_workflow

    if not 0 <= time_scale <= MAX_TIME_SCALE:
        raise CliError(f"--time-scale {time_scale}: expected 0 to {MAX_TIME_SCALE:g}")
    if not 1 <= agents <= MAX_AGENTS:
        raise CliError(f"--agents {agents}: expected 1 to {MAX_AGENTS}")
    if url is not None and faults:
        raise CliError(
            "--fault needs the embedded system: a running one (--url) takes no faults from a client"
        )
    if url is not None and not url.startswith(("http://", "https://")):
        raise CliError(f"--url {url}: expected http://HOST:PORT or https://HOST:PORT")
    if folder.exists() and any(folder.iterdir()):
        raise CliError(f"{folder}: the folder is not empty; --out takes a new one")
    try:
        loaded = load_workflow(workflow if workflow is not None else example_workflow())
        planned = plan_faults(faults, loaded)
    except (WorkflowError, FaultsError) as error:
        raise CliError(str(error)) from None
    return Replay(
        workflow=loaded,
        time_scale=time_scale,
        modes=modes,
        agents=agents,
        faults=planned,
        url=url.rstrip("/") if url is not None else None,
        operator_token=os.environ.get("AGENC_ADMIN_TOKEN") if url is not None else None,
        folder=folder,
        keep_data=keep_data,
    )


def example_workflow() -> Path:
    """The workflow that is shipped with the package."""
    return Path(str(resources.files("coordinator") / "examples" / EXAMPLE))


def _act(replay: "Replay", console: "Console") -> "RunReport":
    """Acts the replay out; Ctrl-C and SIGTERM stop it, and what it started, in order."""
    from coordinator.cli.progress import progress_for
    from coordinator.client.errors import AgencError
    from coordinator.replay.audit import AuditError
    from coordinator.replay.embedded import EmbeddedError
    from coordinator.replay.runner import ReplayError, act

    async def acting() -> "RunReport":
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with progress_for(console) as progress:
            return await act(replay, progress=progress)

    try:
        return asyncio.run(acting())
    except asyncio.CancelledError:  # SIGTERM; asyncio.run makes KeyboardInterrupt of Ctrl-C itself
        raise typer.Exit(128 + signal.SIGTERM) from None
    except (ReplayError, AuditError, EmbeddedError, AgencError) as error:
        raise CliError(f"{error}\nlogs: {replay.folder}", exit_code=REFUSED) from None
