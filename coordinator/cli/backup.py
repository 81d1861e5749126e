"""`agenc backup` and `agenc restore`: a data folder copied whole, while it is served or not, and brought back."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.errors import REFUSED, CliError
from coordinator.cli.target import DataDirOption

DEFAULT_FOLDER = Path("data")


def backup(
    folder: Annotated[Path, typer.Argument(help="Where the backup goes: a new folder, or an empty one.")],
    data_dir: DataDirOption = None,
) -> None:
    """Copy a data folder as it stands at one instant, whether a coordinator serves it or not.

    The copy holds what the folder holds: outputs, open secrets, tokens. Keep it as safe.
    """
    from coordinator.chain.local import CHAIN_FILE
    from coordinator.store.backup import back_up
    from coordinator.store.errors import StoreError

    began_s = time.perf_counter()
    try:
        manifest = back_up(
            data_dir or DEFAULT_FOLDER,
            folder,
            others=(f"chain/{CHAIN_FILE}",),
            now_ms=time.time_ns() // 1_000_000,
        )
    except StoreError as error:
        raise CliError(str(error)) from None
    except sqlite3.Error as error:
        raise CliError(f"the data folder cannot be copied: {error}", exit_code=REFUSED) from None
    size_mb = sum(entry.num_bytes for entry in manifest.files.values()) / 2**20
    took_s = time.perf_counter() - began_s
    typer.echo(
        f"{manifest.seq} events, {len(manifest.files)} files, {size_mb:.1f} MiB in {took_s:.1f} s: {folder}"
    )


def restore(
    folder: Annotated[Path, typer.Argument(help="The backup.")],
    data_dir: DataDirOption = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Also where the data folder is used; what it held moves to damaged/."),
    ] = False,
) -> None:
    """Check a backup and make a data folder of it. What happened after the backup is lost, on the local chain too."""
    from coordinator.store.backup import restore_backup
    from coordinator.store.errors import StoreError

    data = data_dir or DEFAULT_FOLDER
    label = f"replaced-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}"
    try:
        manifest = restore_backup(folder, data, replace=replace, label=label)
    except StoreError as error:
        raise CliError(str(error), exit_code=REFUSED) from None
    made = datetime.fromtimestamp(manifest.created_at_ms / 1000, UTC)
    typer.echo(f"{data} holds the backup of {made:%Y-%m-%d %H:%M:%S} UTC: {manifest.seq} events, checked")
