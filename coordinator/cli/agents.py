"""`agenc agents`: agents and their stake, for people and for scripts."""

from typing import Annotated

import msgspec
import typer

from coordinator.cli import target
from coordinator.cli.errors import CliError
from coordinator.cli.target import DataDirOption, UrlOption

app = typer.Typer(help="List, show and register agents; move their stake.", no_args_is_help=True)

AgentArgument = Annotated[str, typer.Argument(metavar="AGENT")]
LamportsArgument = Annotated[int, typer.Argument(metavar="LAMPORTS", min=1, max=2**53 - 1)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
_PAGE = 1_000


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1_000_000)] = 100,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Agents in order of registration."""
    shown = 0
    with target.connected(target.require(url, data_dir)) as client:
        while shown < limit:
            cursor = None if shown == 0 else str(shown - 1)
            page = client.agents(limit=min(limit - shown, _PAGE), cursor=cursor)
            for one in page:
                line = (
                    f"{one.agent_id:<32}  balance {one.balance_lamports:>16,}  bonded {one.bonded_lamports:>14,}  "
                    f"slashed {one.slashed_lamports:>12,}  open {one.open_operations}"
                )
                typer.echo(_json(one) if as_json else line)
            shown += len(page)
            if not page:
                return


@app.command("show")
def show(
    agent_id: AgentArgument,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """An agent's stake and standing."""
    with target.connected(target.require(url, data_dir)) as client:
        _tell(client.agent(agent_id), as_json=as_json)


@app.command("register")
def register(
    agent_id: AgentArgument,
    agent_key: Annotated[str, typer.Argument(metavar="KEY", help="The agent's key, 64 hex digits.")],
    deposit: Annotated[int, typer.Option(help="Lamports to begin with.", min=0, max=2**53 - 1)] = 0,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Register an agent and print its token, which is shown this once; needs AGENC_ADMIN_TOKEN unless registration is
    open.
    """
    from coordinator.core.errors import CoreError
    from coordinator.submission import parse_digest

    try:
        key = parse_digest(agent_key, field="KEY")
    except CoreError as error:
        raise CliError(str(error)) from None
    with target.connected(target.require(url, data_dir)) as client:
        typer.echo(client.register_agent(agent_id, agent_key=key, deposit_lamports=deposit).token)


@app.command("deposit")
def deposit_(
    agent_id: AgentArgument, lamports: LamportsArgument, url: UrlOption = None, data_dir: DataDirOption = None
) -> None:
    """Add to an agent's balance; needs AGENC_ADMIN_TOKEN."""
    with target.connected(target.require(url, data_dir)) as client:
        _tell(client.deposit(agent_id, lamports), as_json=False)


@app.command("withdraw")
def withdraw(
    agent_id: AgentArgument, lamports: LamportsArgument, url: UrlOption = None, data_dir: DataDirOption = None
) -> None:
    """Take from an agent's free balance, never from bonded stake; needs AGENC_ADMIN_TOKEN."""
    with target.connected(target.require(url, data_dir)) as client:
        _tell(client.withdraw(agent_id, lamports), as_json=False)


def _tell(agent: msgspec.Struct, *, as_json: bool) -> None:
    if as_json:
        typer.echo(_json(agent))
        return
    for name, value in msgspec.structs.asdict(agent).items():
        typer.echo(f"{name:<24} {value:,}" if type(value) is int else f"{name:<24} {value}")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
