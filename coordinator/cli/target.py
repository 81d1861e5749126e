"""The running system that a command talks to: where it answers, and the operator's token for it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError

if TYPE_CHECKING:  # the client library takes half a second to import: only a command that calls it waits
    from coordinator.client.sync import Client

ENDPOINTS_FILE = "endpoints.json"
TOKEN_VARIABLE = "AGENC_ADMIN_TOKEN"
URL_VARIABLE = "AGENC_URL"

UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar=URL_VARIABLE, help="A running coordinator; by default the data folder's."),
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="The data folder of the coordinator; data/.")
]


@dataclass(frozen=True, slots=True)
class Target:
    """A coordinator's address, and the operator's token where one is at hand."""

    url: str
    token: str | None


def find(url: str | None, data_dir: Path | None) -> Target | None:
    """The coordinator at `url`, or the one that runs on the data folder; None where there is none.

    The token is AGENC_ADMIN_TOKEN.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if url is not None:
        return Target(url.rstrip("/"), token)
    folder = data_dir or Path(os.environ.get("AGENC_DATA_DIR") or "data")
    try:
        endpoints = json.loads((folder / ENDPOINTS_FILE).read_text())
        return Target(str(endpoints["url"]), token)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require(url: str | None, data_dir: Path | None) -> Target:
    """As `find`. Raises CliError where nothing runs."""
    target = find(url, data_dir)
    if target is None:
        folder = data_dir or Path(os.environ.get("AGENC_DATA_DIR") or "data")
        raise CliError(f"no coordinator runs on {folder}: start `agenc up`, or name one with --url")
    return target


@contextmanager
def connected(target: Target) -> Iterator["Client"]:
    """A client of the target; what it refuses ends the command with a line."""
    import httpx

    from coordinator.client.errors import AgencError
    from coordinator.client.retry import NO_RETRY
    from coordinator.client.sync import Client

    try:
        with Client(target.url, token=target.token, retry=NO_RETRY) as client:
            yield client
    except AgencError as error:
        raise CliError(f"{target.url}: {error}", exit_code=REFUSED) from None
    except httpx.InvalidURL as error:
        raise CliError(f"{target.url}: {error}") from None
