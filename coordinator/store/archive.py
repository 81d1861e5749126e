"""Closed segments of the log: files that are never written again, each named by what it holds.

    archive/000000000001-000000040000-<SHA-256 of the file>.sqlite3

A segment has the tables of the log's own file. Its name says which events it holds and what its bytes must hash to, so
that a listing tells whether anything is missing, and a reading whether anything was changed.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from coordinator.store.database import sync_folder

ARCHIVE_FOLDER = "archive"
_NAME = re.compile(r"(\d{12})-(\d{12})-([0-9a-f]{64})\.sqlite3")


class Segment(NamedTuple):
    """The events after `base_seq` up to `head_seq`."""

    base_seq: int
    head_seq: int
    sha256: str
    path: Path

    @property
    def intact(self) -> bool:
        """Whether the file holds the bytes that its name promises. Reads all of it."""
        return _sha256_of(self.path) == self.sha256


class Archive:
    """The folder `archive` of a data folder; it is made when the first segment comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ARCHIVE_FOLDER

    def segments(self) -> list[Segment]:
        """All there are, oldest first."""
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        matches = [match for match in map(_NAME.fullmatch, names) if match is not None]
        return [
            Segment(int(match[1]) - 1, int(match[2]), match[3], self.folder / match[0]) for match in matches
        ]

    def covering(self, after: int) -> Segment | None:
        """The segment that holds the event after number `after`."""
        for segment in self.segments():
            if segment.base_seq <= after < segment.head_seq:
                return segment
        return None

    @contextmanager
    def reading(self, segment: Segment) -> Iterator[sqlite3.Connection]:
        """A connection that cannot write, and leaves no file beside the segment."""
        connection = sqlite3.connect(f"{segment.path.as_uri()}?immutable=1", uri=True, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def unfinished(self) -> Path:
        """Where to write the next segment; what a crash left there is removed."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        part = self.folder / "segment.part"
        for leftover in (part, part.with_name(part.name + "-journal")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT, 0o600))
        return part

    def add(self, part: Path, *, base_seq: int, head_seq: int) -> Segment:
        """Takes a finished file in, durably; from here on it counts."""
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        digest = _sha256_of(part)
        path = self.folder / f"{base_seq + 1:012d}-{head_seq:012d}-{digest}.sqlite3"
        part.rename(path)
        sync_folder(self.folder)
        return Segment(base_seq, head_seq, digest, path)

    def remove(self, segments: list[Segment]) -> None:
        """Deletes segments for good."""
        for segment in segments:
            segment.path.unlink(missing_ok=True)
        if segments:
            sync_folder(self.folder)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
