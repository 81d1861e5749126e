"""One process a data folder: an exclusive `flock` on the file `lock`, which holds the owner's pid."""

import fcntl
import os
from pathlib import Path

from coordinator.store.errors import LogLocked

LOCK_FILE = "lock"


class FolderLock:
    """Held from construction to `release`; the kernel releases it when the process dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder (mode 0700) where needed and takes the lock.

        Raises:
            LogLocked: another holder has it, in this process or in another one.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self.folder = folder
        # Python opens files close-on-exec, so a worker that this process starts never inherits the lock.
        self._descriptor: int | None = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _pid_in(self._descriptor)
            os.close(self._descriptor)
            raise LogLocked(folder, holder) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the folder free; the file stays, since removing it would let two processes hold two locks."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else None
