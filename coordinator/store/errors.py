"""What can go wrong with the files of the data folder. Each fault has a stable code and says what to do.

StoreError
  LogLocked       another process has the folder
  LogCorrupted    the log is not what was written: nothing more may be built on it
  LogBusy         the writer is behind: wait for room and append again
  LogUnwritable   the disk refused: the log is read-only until the process starts again
  StoreCorrupted  a file beside the log (witnesses, proofs) is damaged
  SchemaTooNew    a newer version of this software wrote the file
"""

from pathlib import Path


class StoreError(Exception):
    """An operating fault of the store. `retry`: whether the same call can succeed later in this process."""

    code = "store_error"
    retry = False


class LogLocked(StoreError):
    """The folder belongs to another process. `pid` is None if that process has not written it."""

    code = "log_locked"

    def __init__(self, folder: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{folder} is in use by {holder}: stop it, or choose another data folder")
        self.folder = folder
        self.pid = pid


class LogCorrupted(StoreError):
    """The log does not hold what was written. `seq` is the first event that cannot be trusted."""

    code = "log_corrupted"

    def __init__(self, seq: int, detail: str) -> None:
        super().__init__(f"the log is corrupted at event {seq}: {detail}")
        self.seq = seq
        self.detail = detail


class LogBusy(StoreError):
    """The queue before the writer is full; nothing of the call was queued."""

    code = "log_busy"
    retry = True

    def __init__(self, queued_events: int) -> None:
        super().__init__(f"{queued_events} events wait for the disk: wait for room, then append again")
        self.queued_events = queued_events


class LogUnwritable(StoreError):
    """A commit failed (disk full, I/O error), or the log is damaged or closed. Reading goes on."""

    code = "log_unwritable"

    def __init__(self, detail: str) -> None:
        super().__init__(f"the log is read-only: {detail}; make the disk writable and restart")
        self.detail = detail


class StoreCorrupted(StoreError):
    """A file beside the log cannot be read, or holds other bytes than were written."""

    code = "store_corrupted"

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"{path.name} is damaged: {detail}")
        self.path = path
        self.detail = detail


class SchemaTooNew(StoreError):
    """The file's schema is from a newer version; opening it with this one could harm it."""

    code = "schema_too_new"

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path.name} has schema {found}, this version knows up to {known}: start the newer version again"
        )
        self.path = path
        self.found = found
        self.known = known
