"""The hash chain of the log, and the mark beside it that says how far the log must reach.

    hash_base = SHA-256("agenc event log 1" ‖ log id)
    hash_seq  = SHA-256(hash_{seq-1} ‖ seq ‖ at_ms ‖ length of kind ‖ kind ‖ body)

The first event is number base + 1. The base is 0, except in a log that follows one that was set aside: a
number is never used twice in a folder.

Integers are little-endian: seq and at_ms of 8 bytes, the length of 1.

SQLite drops a damaged tail of its WAL without a word: to it, those transactions never committed. So after
each commit the head is also written to a small file, without fsync: after `kill -9` it is exact, after a
power failure it may lag, and it never runs ahead. A log that does not reach its mark has lost acknowledged
events.
"""

import os
import struct
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

LOG_ID_BYTES = 16
_DOMAIN = b"agenc event log 1"
_LINK = struct.Struct("<QqB")
_MARK = struct.Struct("<16sQ32s")
_CHECK_BYTES = 8


class Head(NamedTuple):
    """An event's number and hash; an empty log has its base as head."""

    seq: int
    hash: bytes


def genesis(log_id: bytes) -> bytes:
    """What the first event's hash is chained to."""
    return sha256(_DOMAIN + log_id).digest()


def link(previous: bytes, seq: int, at_ms: int, kind: str, body: bytes) -> bytes:
    """The hash of one event; `kind` has at most 255 bytes."""
    name = kind.encode()
    return sha256(previous + _LINK.pack(seq, at_ms, len(name)) + name + body).digest()


class HeadMark:
    """The file with the head: 56 bytes and 8 bytes of SHA-256 over them, always written whole, in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def read(self) -> tuple[bytes, Head] | None:
        """(log id, head), or None where none was written yet.

        Raises:
            ValueError: the bytes are damaged.
        """
        data = os.pread(self._descriptor, 4096, 0)
        if not data:
            return None
        content, check = data[: _MARK.size], data[_MARK.size :]
        if len(content) < _MARK.size or check != sha256(content).digest()[:_CHECK_BYTES]:
            raise ValueError("its checksum does not match")
        log_id, seq, digest = _MARK.unpack(content)
        return log_id, Head(seq, digest)

    def write(self, log_id: bytes, head: Head) -> None:
        """Overwrites the mark: 64 bytes within one sector, which a disk writes whole or not at all."""
        content = _MARK.pack(log_id, head.seq, head.hash)
        os.pwrite(self._descriptor, content + sha256(content).digest()[:_CHECK_BYTES], 0)

    def sync(self) -> None:
        """Waits until the mark is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
