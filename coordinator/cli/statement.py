"""`agenc statement`: the digests and roots of statement cases, computed from their inputs."""

from pathlib import Path
from typing import Annotated

import typer


def statement(
    cases: Annotated[Path, typer.Argument(metavar="STATEMENTS.json", help="A file of statement cases.")],
) -> None:
    """Print the same cases with every digest and root computed from their inputs."""
    import msgspec

    from coordinator.cli.cases import load_cases

    computed = [case.as_json() for case in load_cases(cases)]
    typer.echo(msgspec.json.encode(computed).decode())
