"""Snapshots: the state as of one event of the log, so that a restart reads a snapshot and the events after it.

    snapshots/000000040000.snapshot =
        "agenc snapshot 1\\n" ‖ SHA-256 of all that follows ‖ header's length (4 bytes, little-endian) ‖ header ‖ body

The header names the log, the event (number and hash) and the schema of the body, which is what the core wrote. The two
newest are kept: one that is damaged falls back to the one before it, and that to the whole log.
"""

import os
import re
import struct
from hashlib import sha256
from pathlib import Path

import msgspec

from coordinator.store.database import sync_folder
from coordinator.store.hashing import Head

SNAPSHOT_FOLDER = "snapshots"
KEPT = 2
_MAGIC = b"agenc snapshot 1\n"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_NAME = re.compile(r"(\d{12})\.snapshot")


class SnapshotDamaged(Exception):
    """The file does not hold what was written."""


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself. `schema` names the body's format; `admitted` counts operations ever."""

    log_id: bytes
    seq: int
    hash: bytes
    schema: str
    admitted: int

    @property
    def head(self) -> Head:
        """The event after which the state stood so."""
        return Head(self.seq, self.hash)


class Snapshots:
    """The folder `snapshots` of a data folder; it is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / SNAPSHOT_FOLDER

    def paths(self) -> list[Path]:
        """The files, newest first."""
        try:
            names = sorted(os.listdir(self.folder), reverse=True)
        except FileNotFoundError:
            return []
        return [self.folder / name for name in names if _NAME.fullmatch(name)]

    def write(self, header: SnapshotHeader, body: bytes) -> Path:
        """Writes a snapshot, durably or not at all, and drops all but the newest `KEPT`.

        Raises:
            OSError: the disk refuses; what was there before is still there.
        """
        self.folder.mkdir(exist_ok=True, mode=0o700)
        encoded = msgspec.msgpack.encode(header)
        start = _LENGTH.pack(len(encoded)) + encoded
        digest = sha256(start)
        digest.update(body)
        # A name of its own: a snapshot may come from this process and from one that makes it beside it.
        part = self.folder / f"{os.getpid()}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_MAGIC + digest.digest() + start)
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"{header.seq:012d}.snapshot"
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)
        self._drop_old()
        return path

    def _drop_old(self) -> None:
        for path in self.paths()[KEPT:]:
            path.unlink(missing_ok=True)
        for path in self.folder.glob("*.part"):
            if path.name != f"{os.getpid()}.part" and not _is_running(path.stem):
                path.unlink(missing_ok=True)

    def read(self, path: Path) -> tuple[SnapshotHeader, memoryview]:
        """A snapshot's header and body.

        Raises:
            SnapshotDamaged: the bytes are not the ones that were written.
            OSError: it cannot be read.
        """
        content = memoryview(path.read_bytes())
        start = len(_MAGIC) + _DIGEST_BYTES
        if (
            content[: len(_MAGIC)] != _MAGIC
            or content[len(_MAGIC) : start] != sha256(content[start:]).digest()
        ):
            raise SnapshotDamaged(f"{path.name}: its checksum does not match")
        try:
            return self._split(content[start:])
        except (struct.error, msgspec.DecodeError) as error:
            raise SnapshotDamaged(f"{path.name}: {error}") from error

    def _split(self, content: memoryview) -> tuple[SnapshotHeader, memoryview]:
        (length,) = _LENGTH.unpack_from(content)
        end = _LENGTH.size + length
        header = msgspec.msgpack.decode(content[_LENGTH.size : end], type=SnapshotHeader)
        return header, content[end:]

    def headers(self) -> list[SnapshotHeader]:
        """The headers of those that can be read, newest first. Reads the files whole, to be sure."""
        found = []
        for path in self.paths():
            try:
                found.append(self.read(path)[0])
            except (SnapshotDamaged, OSError):
                continue
        return found


def _is_running(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
