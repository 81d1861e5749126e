"""`agenc`: the commands, and the one place where an error becomes a line and an exit code."""

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from coordinator.cli import (
    agents,
    backup,
    bench,
    config,
    doctor,
    log,
    ops,
    prove,
    replay_batch,
    run,
    scaling,
    simulate,
    statement,
    token,
    top,
    up,
    verify,
    what_if,
    worker,
)
from coordinator.cli.errors import BAD_INPUT, INTERRUPTED, CliError

app = typer.Typer(
    name="agenc",
    help="Speculative execution for agents, with batched STARK proofs on Ray workers.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("worker")(worker.worker)
app.command("run")(run.run)
app.command("verify")(verify.verify)
app.command("prove")(prove.prove)
app.command("replay-batch")(replay_batch.replay_batch)
app.command("statement")(statement.statement)
app.command("doctor")(doctor.doctor)
app.command("simulate")(simulate.simulate)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("top")(top.top)
app.command("scaling")(scaling.scaling)
app.command("what-if")(what_if.what_if)
app.add_typer(ops.app, name="ops")
app.add_typer(agents.app, name="agents")
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")
app.add_typer(token.app, name="token")
app.add_typer(log.app, name="log")


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"agenc {metadata.version('agenc-prover')}")
        except metadata.PackageNotFoundError:
            raise CliError("agenc-prover is not installed, it runs from its sources: make install") from None
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Speculative execution for agents, with batched STARK proofs on Ray workers."""


def invoke(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; every expected error has become a line on stderr."""
    try:
        outcome = app(args=list(arguments), prog_name="agenc", standalone_mode=False)
    except CliError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _usage(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _quiet_pipe()
    except OSError as error:
        return _fail(str(error), BAD_INPUT)
    return outcome if isinstance(outcome, int) else 0


def _usage(message: str) -> int:
    if message.startswith("Usage:"):  # a group named without a command: its help, whole
        typer.echo(message, err=True)
        return BAD_INPUT
    return _fail(f"{message} (see --help)", BAD_INPUT)


def _fail(message: str, exit_code: int) -> int:
    typer.echo(f"agenc: {' '.join(message.split())}", err=True)
    return exit_code


def _quiet_pipe() -> int:
    """The reader went away (`agenc … | head`): say nothing, not even at the interpreter's last flush."""
    sys.stdout = None
    return 1


def main() -> None:
    """Entry point of the `agenc` command."""
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
