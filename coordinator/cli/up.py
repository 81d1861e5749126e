"""`agenc up`: the server, until Ctrl-C or SIGTERM."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from coordinator.cli import exposure
from coordinator.cli.errors import CliError

if TYPE_CHECKING:
    from coordinator.chain.faults import FaultPlan
    from coordinator.settings import Settings

PARENT_CHECK_S = 0.5
#: `log.format` as `logs.configure` takes it.
_CONSOLE = {"auto": None, "json": False, "console": True}


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The coordinator's port, 9090; 0 takes a free one.", min=0, max=65535)
    ] = None,
    workers_port: Annotated[
        int | None, typer.Option(help="The proof workers' port, 9091; 0 takes a free one.", min=0, max=65535)
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the log and the chain; data/.")] = None,
    env: Annotated[str, typer.Option(help="The profile: dev, staging or prod.")] = "dev",
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM): both ports speak HTTPS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    allow_plain_http: Annotated[
        bool,
        typer.Option("--allow-plain-http", help="Serve other hosts without TLS: a proxy protects the line."),
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster for the proof workers: HOST:PORT, or auto; else one of its own."),
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(help="The autoscaler: on, dry_run (says what it would do), or off.", metavar="MODE"),
    ] = None,
    faults: Annotated[Path | None, typer.Option(hidden=True, help="Faults on demand, a JSON file.")] = None,
    parent_pid: Annotated[int | None, typer.Option(hidden=True, help="Stop when it is gone.")] = None,
) -> None:
    """Run the coordinator with its proof workers and the local chain; Ctrl-C or SIGTERM stops it cleanly."""
    from coordinator import logs
    from coordinator.chain.interface import ChainError
    from coordinator.cli.serving import serve
    from coordinator.store.errors import StoreError
    from workers.messages import StartError

    settings = _settings(
        env,
        {
            "AGENC_ADMIN_HOST": host,
            "AGENC_ADMIN_PORT": port,
            "AGENC_ADMIN_WORKERS_PORT": workers_port,
            "AGENC_ADMIN_TLS_CERT": tls_cert,
            "AGENC_ADMIN_TLS_KEY": tls_key,
            "AGENC_ADMIN_ALLOW_PLAIN_HTTP": "true" if allow_plain_http else None,
            "AGENC_DATA_DIR": data_dir,
            "AGENC_RAY_ADDRESS": ray_address,
            "AGENC_SCALING_MODE": scaling,
        },
    )
    plan, tasks = _read_faults(faults)
    exposure.require_safe(settings)
    for problem in settings.problems:
        typer.echo(f"agenc: {problem}", err=True)
    logs.configure(settings.text("log.level"), console=_CONSOLE[settings.text("log.format")])
    if parent_pid is not None:
        _stop_with(parent_pid)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings, plan, tasks))
    except (StoreError, ChainError, StartError) as error:
        raise CliError(str(error)) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, which costs half as much a request, where there is one (it has no Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _settings(env: str, options: Mapping[str, object | None]) -> "Settings":
    """The settings with the options on top: an option is written where an environment variable would be."""
    from coordinator.settings import Settings, SettingsError, default_config_dir

    given = {name: str(value) for name, value in options.items() if value is not None}
    try:
        return Settings.load(env, default_config_dir(), os.environ | given)
    except SettingsError as error:
        raise CliError("; ".join(error.problems)) from None


class _FaultsFile(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[str]
    tasks: dict[str, str] = {}


def _read_faults(path: Path | None) -> tuple["FaultPlan", dict[str, bytes]]:
    from coordinator.chain.faults import FaultError, FaultPlan
    from coordinator.core.errors import CoreError
    from coordinator.submission import parse_digest

    if path is None:
        return FaultPlan(), {}
    try:
        given = msgspec.json.decode(path.read_bytes(), type=_FaultsFile)
        plan = FaultPlan.parse(given.faults)
        return plan, {task: parse_digest(text, field=task) for task, text in given.tasks.items()}
    except OSError as error:
        raise CliError(f"--faults {path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, FaultError, CoreError) as error:
        raise CliError(f"--faults {path}: {error}") from None


def _stop_with(parent_pid: int) -> None:
    """Stops this process as SIGTERM would once its parent is gone, however that ended."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(PARENT_CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
