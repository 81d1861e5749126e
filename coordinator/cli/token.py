"""`agenc token`: make, list and revoke the operator's tokens of a data folder; a running server follows at once."""

import os
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.errors import CliError
from coordinator.cli.target import DataDirOption
from coordinator.tokens import Scope, TokenError, TokenFile

app = typer.Typer(
    help="Make, list and revoke the operator's tokens. Who may write the data folder may use this; nobody else.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="Who holds it: a person, a script, a service.")]


@app.command("create")
def create(
    name: NameArgument,
    scope: Annotated[
        Scope,
        typer.Option(
            help="read: what the system shows. operate: also the runbook's commands. "
            "admin: also acting as any agent, and the settings of access."
        ),
    ] = Scope.OPERATE,
    data_dir: DataDirOption = None,
) -> None:
    """Make a token and print it, this once: only its hash is kept."""
    try:
        made = _file(data_dir).create(name, scope)
    except TokenError as error:
        raise CliError(str(error)) from None
    typer.echo(f"the token of {name}, scope {scope}, shown this once:", err=True)
    typer.echo(made)


@app.command("list")
def list_tokens(data_dir: DataDirOption = None) -> None:
    """Name, scope and time of making of every token, tab-separated."""

    def ignored(line: int) -> None:
        typer.echo(f"agenc: line {line} of the file is no token and is ignored", err=True)

    for token in _file(data_dir).read(ignored):
        typer.echo(f"{token.name}\t{token.scope}\t{token.created_at}")


@app.command("revoke")
def revoke(name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Forget a token: the next request with it is refused."""
    try:
        _file(data_dir).revoke(name)
    except TokenError as error:
        raise CliError(str(error)) from None
    typer.echo(f"{name} is revoked", err=True)


def _file(data_dir: Path | None) -> TokenFile:
    return TokenFile(data_dir or Path(os.environ.get("AGENC_DATA_DIR") or "data"))
