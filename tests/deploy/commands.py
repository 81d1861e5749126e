"""Commands that stand in deployment files, checked by the parsers that would read them; nothing is run."""

import os
import re
import shlex
from collections.abc import Iterator
from typing import Any
from unittest import mock

import typer

PLACEHOLDERS = {
    "PROFILE": "prod",
    "POD_IP": "10.0.0.1",
    "RAY_HEAD_IP": "10.0.0.2",
    "FQ_RAY_IP": "head.agenc.svc",
}
"""Variables that the commands use."""


def check_ray_start(words: list[str]) -> dict[str, object]:
    """The options of a `ray start`, as Ray's own command line reads them."""
    from ray.scripts.scripts import cli

    assert words[:2] == ["ray", "start"], words
    return _parse(cli.commands["start"], words[2:])


def check_agenc(words: list[str]) -> dict[str, object]:
    """The options of an `agenc …`, as our command line reads them."""
    from coordinator.cli.main import app

    group: Any = typer.main.get_command(app)
    assert words[0] == "agenc", words
    assert words[1] in group.commands, f"agenc has no command {words[1]}"
    return _parse(group.commands[words[1]], words[2:])


def check(words: list[str]) -> dict[str, object]:
    """Whichever of the two it is."""
    return check_agenc(words) if words[0] == "agenc" else check_ray_start(words)


def _parse(command: Any, arguments: list[str]) -> dict[str, object]:
    with mock.patch.dict(os.environ, PLACEHOLDERS):
        expanded = [os.path.expandvars(_shell_style(argument)) for argument in arguments]
    parameters: dict[str, object] = command.make_context(command.name, expanded).params
    return parameters


def script_commands(script: str) -> Iterator[list[str]]:
    """The commands of a shell script of plain lines, `exec` left off."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if words:
            yield words[1:] if words[0] == "exec" else words


def _shell_style(argument: str) -> str:
    """`$(NAME)`, which Kubernetes expands, as a shell writes it."""
    return re.sub(r"\$\((\w+)\)", r"${\1}", argument)
