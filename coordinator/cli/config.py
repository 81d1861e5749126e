"""`agenc config`: every key with its value and where that came from, changes, a check of the files, and the docs."""

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from coordinator.answers_admin import ConfigKey, Scalar
from coordinator.cli import target
from coordinator.cli.errors import REFUSED, CliError
from coordinator.cli.target import DataDirOption, UrlOption
from coordinator.settings import Settings, SettingsError, default_config_dir
from coordinator.settings_docs import configuration_page
from coordinator.settings_sources import read_environment, read_file
from coordinator.settings_table import KEYS, Env, Key, Kind
from coordinator.settings_view import key_view

app = typer.Typer(help="Show, change, check and document the configuration.", no_args_is_help=True)

EnvOption = Annotated[str, typer.Option("--env", help="The profile: dev, staging or prod.")]


@app.command("show")
def show(
    prefix: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with ranges and descriptions.")] = False,
    env: EnvOption = Env.DEV,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Every key: its value in force, where that came from, and what is allowed. Of the running coordinator; where none
    runs, what a start would use.
    """
    keys = {name: view for name, view in _views(env, url, data_dir).items() if name.startswith(prefix)}
    if not keys:
        raise CliError(f"no key begins with {prefix!r}")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(keys)).decode())
        return
    width = max(map(len, keys))
    for name, view in keys.items():
        source = f"{view.source} {view.detail}".strip()
        only = ", restart only" if view.restart_only else ""
        typer.echo(f"{name:<{width}}  {_shown(view.value):<14}  {source} ({view.range}{only})")


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="KEY")],
    env: EnvOption = Env.DEV,
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """One key's value in force, and nothing else."""
    _known(name)
    typer.echo(_shown(_views(env, url, data_dir)[name].value))


@app.command("set")
def set_(
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="`null` takes a key back.")],
    url: UrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Change keys of the running coordinator, all or none; needs AGENC_ADMIN_TOKEN."""
    parsed = dict(map(_change, changes))
    with target.connected(target.require(url, data_dir)) as client:
        change = client.set_config(parsed)
    for name in parsed:
        typer.echo(f"{name}: {_shown(change.before.get(name))} → {_shown(change.after.get(name))}")


@app.command("validate")
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="TOML files; by default those that the profile reads.")
    ] = None,
    env: EnvOption = Env.DEV,
) -> None:
    """Say what is wrong with the files and the environment; exit code 1 if anything is."""
    problems = _problems_of(files, env) if files else _problems_of_profile(env)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise CliError(f"{len(problems)} problem{'s' * (len(problems) > 1)}", exit_code=REFUSED)
    typer.echo("the configuration is valid")


@app.command("docs")
def docs() -> None:
    """Print docs/CONFIGURATION.md, made from the table of keys."""
    typer.echo(configuration_page(), nl=False)


def _views(env: str, url: str | None, data_dir: Path | None) -> Mapping[str, ConfigKey]:
    """From the running coordinator, or from the files and the environment where none runs."""
    running = target.find(url, data_dir)
    if running is not None:
        with target.connected(running) as client:
            return client.config().keys
    settings = _settings(env)
    for problem in settings.problems:
        typer.echo(f"agenc: {problem}", err=True)
    return {name: key_view(settings, key) for name, key in KEYS.items()}


def _settings(env: str) -> Settings:
    try:
        return Settings.load(env, default_config_dir())
    except SettingsError as error:
        raise CliError("; ".join(error.problems)) from None


def _problems_of_profile(env: str) -> Sequence[str]:
    try:
        return Settings.load(env, default_config_dir()).problems
    except SettingsError as error:
        return error.problems


def _problems_of(files: Sequence[Path], env: str) -> Sequence[str]:
    if env not in set(Env):
        raise CliError(f"profile {env!r}: expected one of {', '.join(Env)}")
    problems: list[str] = []
    layers = [read_environment(os.environ, Env(env), problems)]
    layers += [read_file(path, Env(env), problems) for path in files]
    settings = Settings(env=Env(env), environment=layers[0], files=layers[1:], problems=problems)
    return settings.problems


def _change(text: str) -> tuple[str, Scalar]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CliError(f"{text!r}: expected KEY=VALUE")
    return name, _value(_known(name), value)


def _value(key: Key, text: str) -> Scalar:
    """The text as the key's type; the server says what is wrong with one that is of none."""
    if text == "null":
        return None
    if key.kind in (Kind.CHOICE, Kind.TEXT):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _known(name: str) -> Key:
    key = KEYS.get(name)
    if key is None:
        near = ", ".join(_near(name)) or "see `agenc config show`"
        raise CliError(f"{name}: no such key; {near}")
    return key


def _near(name: str) -> Iterator[str]:
    yield from difflib.get_close_matches(name, KEYS, n=3, cutoff=0.6)


def _shown(value: object) -> str:
    match value:
        case None:
            return "(not set)"
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
