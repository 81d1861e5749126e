"""`agenc log`: the log of a stopped coordinator: what it holds, whether it holds, and keeping it small."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError
from coordinator.cli.target import DataDirOption

if TYPE_CHECKING:
    from coordinator.store.log import EventLog

DEFAULT_FOLDER = Path("data")

app = typer.Typer(
    help="Look at the log of a stopped coordinator, check it, keep it small.", no_args_is_help=True
)


@app.command("stat")
def stat(data_dir: DataDirOption = None) -> None:
    """What the log holds: events, file and archive, snapshots."""
    with _opened(data_dir) as log:
        ends = log.reader.ends()
        typer.echo(f"events     {ends.first.seq + 1} to {ends.head.seq}, head {ends.head.hash.hex()}")
        typer.echo(f"in file    {ends.head.seq - ends.base.seq} events, {_size(log.folder / 'log.sqlite3')}")
        for segment in log.archive.segments():
            typer.echo(f"archived   {segment.base_seq + 1} to {segment.head_seq}, {_size(segment.path)}")
        for header in log.snapshots.headers():
            typer.echo(f"snapshot   at event {header.seq}, {header.admitted} operations admitted")
        if ends.pruned:
            typer.echo(f"pruned     the events before {ends.first.seq + 1}")


@app.command("verify")
def verify(data_dir: DataDirOption = None) -> None:
    """Check every event and every archived byte; exit code 1 when something is not what was written."""
    with _opened(data_dir) as log:
        began_s = time.perf_counter()
        report = log.verify()
        if report.corruption is not None:
            raise CliError(f"{report.corruption}; {report.events} events hold", exit_code=REFUSED)
        typer.echo(f"{report.events} events hold, checked in {time.perf_counter() - began_s:.1f} s")


@app.command("compact")
def compact(data_dir: DataDirOption = None) -> None:
    """Write a snapshot and move the events before it to archive/."""
    from coordinator.store.errors import LogCorrupted
    from coordinator.store.restart import restore, write_snapshot

    with _opened(data_dir) as log:
        restored = restore(log)
        if restored.corruption is not None:
            raise CliError(str(restored.corruption), exit_code=REFUSED)
        if restored.head.seq > restored.snapshot_seq:
            write_snapshot(log, restored.state, restored.head)
        try:
            segment = log.compact(restored.head.seq)
        except LogCorrupted as error:
            raise CliError(str(error), exit_code=REFUSED) from None
        if segment is None:
            typer.echo("nothing to archive")
        else:
            typer.echo(f"events {segment.base_seq + 1} to {segment.head_seq} are in {segment.path}")


@app.command("prune")
def prune(
    data_dir: DataDirOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this it only says what would go.")
    ] = False,
) -> None:
    """Delete archived events that no start needs any more. They cannot be had back: a state can then be rebuilt only
    from the snapshots or from the chain.
    """
    from coordinator.store.log import LOG_FILE

    with _opened(data_dir) as log:
        # Both snapshots must be able to take a start without what goes.
        headers = log.snapshots.headers()
        up_to = min((header.seq for header in headers), default=0)
        doomed = [one for one in log.archive.segments() if one.head_seq <= min(up_to, _posted(log))]
        if not doomed:
            typer.echo("nothing to delete: archived events go once snapshots stand after them")
            return
        for segment in doomed:
            verb = "deleted" if yes else "would delete"
            typer.echo(f"{verb} events {segment.base_seq + 1} to {segment.head_seq}, {_size(segment.path)}")
        if yes:
            log.prune(doomed[-1].head_seq)
            typer.echo(f"{LOG_FILE} now begins after event {doomed[-1].head_seq}")
        else:
            raise CliError("nothing was deleted: say --yes", exit_code=REFUSED)


def _posted(log: "EventLog") -> int:
    """Up to where nothing is left to be posted to the chain's ledger."""
    import sqlite3
    from contextlib import closing

    from coordinator.chain.local import CHAIN_FILE
    from coordinator.shell.settling import LEDGER_KINDS, entries_of

    path = log.folder / "chain" / CHAIN_FILE
    if not path.is_file():
        return log.head.seq
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as chain:
        last = chain.execute("SELECT max(settlement_id) FROM settlements").fetchone()[0] or 0
    waiting = (
        stored.seq
        for stored in log.of_kinds(LEDGER_KINDS, after=last, up_to=log.head.seq)
        if any(entries_of(stored.event))
    )
    return next(waiting, log.head.seq + 1) - 1


@contextmanager
def _opened(data_dir: Path | None) -> Iterator["EventLog"]:
    """The log of a folder that nobody serves. A damaged one opens too."""
    from coordinator.store.errors import StoreError
    from coordinator.store.log import LOG_FILE, EventLog

    folder = data_dir or DEFAULT_FOLDER
    if not (folder / LOG_FILE).exists():
        raise CliError(f"{folder} holds no log; name the data folder with --data-dir")
    try:
        log = EventLog.open(folder)
    except StoreError as error:
        raise CliError(str(error)) from None
    try:
        yield log
    except StoreError as error:
        raise CliError(str(error)) from None
    finally:
        log.close()


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"
