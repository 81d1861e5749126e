"""Makes a snapshot beside the process that has the log open: `python -m coordinator.store.snapshotter FOLDER`.

A snapshot of a long history takes a second to write, in which the coordinator would answer nobody. So it is made by
a process of its own, from the newest snapshot and the events after it as they lie on the disk; which also shows that
a restart could. It prints the snapshot's number and the count of operations ever admitted; exit code 1 and a
line on stderr say why there is none.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.store.archive import Archive
from coordinator.store.errors import LogCorrupted
from coordinator.store.log import LOG_FILE
from coordinator.store.reader import LogReader
from coordinator.store.restart import restore, write_snapshot
from coordinator.store.snapshot import SnapshotHeader, Snapshots

_NICENESS = 10


class FolderBeside:
    """A data folder that another process has open: what is read of it is one instant's."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / LOG_FILE
        self.reader = LogReader(self._connect, Archive(folder))
        self.snapshots = Snapshots(folder)
        self.head = self.reader.ends().head

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(
            f"{self._log.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=30.0
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()


def make_snapshot(folder: Path) -> SnapshotHeader:
    """A snapshot at the log's head as of now.

    Raises:
        LogCorrupted: the log does not make a state.
        OSError, sqlite3.Error: the disk refuses.
    """
    beside = FolderBeside(folder.resolve())
    restored = restore(beside)
    if restored.corruption is not None:
        raise restored.corruption
    return write_snapshot(beside, restored.state, restored.head)


def main() -> int:
    """The process."""
    os.nice(_NICENESS)
    try:
        header = make_snapshot(Path(sys.argv[1]))
    except (LogCorrupted, OSError, sqlite3.Error) as error:
        print(error, file=sys.stderr)
        return 1
    print(header.seq, header.admitted)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Millions of records need not be taken apart one by one.
    os._exit(code)
