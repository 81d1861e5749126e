"""A temporary folder that only this user can enter and that does not outlive its process for long.

The owner holds a lock on a file inside. A folder whose lock nobody holds belonged to a process that was killed;
the next owner removes it, and ends the processes that still have files open there (two helpers of Ray's that
live on for a minute without their cluster).
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

import psutil

from workers.messages import StartError, StartErrorCode

PREFIX = "agenc-ray-"
LOCK_NAME = "lock"


class PrivateFolder:
    """`path` is a new folder of mode 0700, locked by this process."""

    def __init__(self, parent: Path | None, *, longest_bytes: int) -> None:
        """`parent` None: the system's temporary folder.

        Raises:
            StartError: the path is longer than `longest_bytes`.
        """
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _remove_orphans(parent)
        self.path, self._lock = _make_locked(parent)
        if len(os.fsencode(self.path)) > longest_bytes:
            self.remove()
            raise StartError(
                StartErrorCode.TEMPORARY_PATH_TOO_LONG,
                f"unix sockets under {parent} would have too long a path: set TMPDIR to a shorter folder",
            )

    def remove(self) -> None:
        """Delete it with all that lies in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _make_locked(parent: Path) -> tuple[Path, IO[str]]:
    """A new folder and its held lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = (folder / LOCK_NAME).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK_NAME).exists():  # else another start took it for an orphan before it was locked
            return folder, lock
        lock.close()


def _remove_orphans(parent: Path) -> None:
    """Remove this user's folders whose lock nobody holds, and what is left of their processes."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with (folder / LOCK_NAME).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _kill_users_of(folder)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # held, just being made, or gone meanwhile
            continue


def _kill_users_of(folder: Path) -> None:
    for process in psutil.process_iter():
        try:
            mine = process.pid != os.getpid() and process.uids().real == os.getuid()
            if mine and any(Path(file.path).is_relative_to(folder) for file in process.open_files()):
                process.kill()
        except psutil.Error:
            continue
