"""Backup and restore of a data folder, while a coordinator serves it or not.

All databases are copied as they stood at one instant: their write locks are taken together, a reading transaction is
begun on each, and the locks are released, which takes milliseconds; then each is copied from its transaction, as long
as that may take. So a backup is what `kill -9` at that instant would have left, which a start is made to take up. What
never changes (the archive) and what is only read at a start is copied as files.

    manifest.json    version, the log's head, and of every file its size and SHA-256; written last
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from hashlib import file_digest
from pathlib import Path

import msgspec

from coordinator.store.archive import ARCHIVE_FOLDER
from coordinator.store.database import sqlite_files, sync_folder
from coordinator.store.errors import StoreError
from coordinator.store.hashing import HeadMark
from coordinator.store.lock import LOCK_FILE, FolderLock
from coordinator.store.log import DAMAGED_FOLDER, HEAD_FILE, LOG_FILE, PROOF_FILE, WITNESS_FILE, EventLog
from coordinator.store.reader import read_ends
from coordinator.store.snapshot import SNAPSHOT_FOLDER, SnapshotDamaged, Snapshots

MANIFEST_FILE = "manifest.json"
VERSION = 1
_LOCK_TIMEOUT_S = 30.0
#: What belongs to the process that runs, or is made anew.
_LEFT_OUT = frozenset({LOCK_FILE, HEAD_FILE, "endpoints.json"})


class BackupError(StoreError):
    """The backup cannot be made or is not one, or the folder must not be written to. Nothing was changed."""

    code = "backup_error"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a backup."""

    num_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself. `files` by their path in the folder; `seq` and `hash` are the log's head."""

    version: int
    created_at_ms: int
    log_id: str
    seq: int
    hash: str
    files: dict[str, FileEntry]


def back_up(data: Path, target: Path, *, others: Sequence[str], now_ms: int) -> Manifest:
    """Copies a data folder to a new folder. `others`: databases in it beside the log's (the chain's). Blocks.

    Raises:
        BackupError: there is no log, or the target has something in it.
        sqlite3.Error, OSError: a file cannot be read or written.
    """
    if not (data / LOG_FILE).is_file():
        raise BackupError(f"{data} holds no log: nothing to back up")
    if target.exists() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty: a backup gets a folder of its own")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    target.chmod(0o700)
    names = [LOG_FILE, WITNESS_FILE, PROOF_FILE, *others]
    names = [name for name in names if (data / name).is_file()]
    with _one_instant([data / name for name in names]) as connections:
        ends = read_ends(connections[0])
        for name, connection in zip(names, connections, strict=True):
            _copy_database(connection, target / name)
    with closing(HeadMark(target / HEAD_FILE)) as mark:
        mark.write(ends.log_id, ends.head)
        mark.sync()
    _copy_files(data, target, databases=names, head_seq=ends.head.seq)
    manifest = Manifest(
        version=VERSION,
        created_at_ms=now_ms,
        log_id=ends.log_id.hex(),
        seq=ends.head.seq,
        hash=ends.head.hash.hex(),
        files={path.relative_to(target).as_posix(): _entry(path) for path in _files(target)},
    )
    _write_durably(target / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


@contextmanager
def _one_instant(paths: Sequence[Path]) -> Iterator[list[sqlite3.Connection]]:
    """Connections to databases, each in a transaction that sees the same instant. The log must come first."""
    with ExitStack() as opened:
        connections = []
        with ExitStack() as locked:
            for path in paths:
                writer = locked.enter_context(closing(_connect(path)))
                writer.execute("BEGIN IMMEDIATE")
            for path in paths:
                connection = opened.enter_context(closing(_connect(path)))
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                connections.append(connection)
        yield connections


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_LOCK_TIMEOUT_S)


def _copy_database(source: sqlite3.Connection, target: Path) -> None:
    target.parent.mkdir(exist_ok=True, mode=0o700)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
    _sync(target)


def _copy_files(data: Path, target: Path, *, databases: Sequence[str], head_seq: int) -> None:
    known = {path.name for name in databases for path in sqlite_files(Path(name))}
    for path in sorted(data.iterdir()):
        if path.is_file() and path.name not in _LEFT_OUT | known and not path.name.endswith(".part"):
            _copy_file(path, target / path.name)
    # A later snapshot is of events that this copy of the log does not have.
    snapshots = Snapshots(data)
    for path in snapshots.paths():
        try:
            header, _ = snapshots.read(path)
        except (SnapshotDamaged, FileNotFoundError):
            continue
        if header.seq <= head_seq:
            _copy_file(path, target / SNAPSHOT_FOLDER / path.name)
    archive = data / ARCHIVE_FOLDER
    if archive.is_dir():
        for path in sorted(archive.glob("*.sqlite3")):
            _copy_file(path, target / ARCHIVE_FOLDER / path.name)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True, mode=0o700)
    shutil.copyfile(source, target)
    target.chmod(0o600)
    _sync(target)


def read_manifest(backup: Path) -> Manifest:
    """A backup's manifest, once every file is there as it says. Blocks.

    Raises:
        BackupError: this is no backup, one of a newer version, or a file is missing or changed.
    """
    try:
        manifest = msgspec.json.decode((backup / MANIFEST_FILE).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BackupError(f"{backup} is no backup: it has no {MANIFEST_FILE}") from None
    except msgspec.DecodeError as error:
        raise BackupError(f"{backup / MANIFEST_FILE} is damaged: {error}") from None
    if manifest.version > VERSION:
        raise BackupError(f"{backup} was made by a newer version of this software")
    for name, entry in manifest.files.items():
        path = backup / name
        if not path.resolve().is_relative_to(backup.resolve()):
            raise BackupError(f"{name!r} in the manifest leads out of the backup")
        if not path.is_file() or _entry(path) != entry:
            raise BackupError(f"{path} is missing or not as it was when the backup was made")
    return manifest


def restore_backup(backup: Path, data: Path, *, replace: bool, label: str) -> Manifest:
    """Makes a data folder what the backup holds, and checks the log in it. Blocks.

    With `replace`, what a used folder held is moved to `damaged/label` in it.

    Raises:
        BackupError: the backup is damaged, or the folder is used.
        LogLocked: a coordinator has the folder.
        OSError: a file cannot be written.
    """
    manifest = read_manifest(backup)
    lock = FolderLock(data)
    try:
        used = [path for path in sorted(data.iterdir()) if path.name not in (LOCK_FILE, DAMAGED_FOLDER)]
        if used and not replace:
            raise BackupError(f"{data} is in use: restore to another folder, or say --replace")
        if used:
            aside = data / DAMAGED_FOLDER / label
            aside.mkdir(parents=True, mode=0o700)
            for path in used:
                path.rename(aside / path.name)
        # The log comes last: without it the folder is as good as empty.
        for name in sorted(manifest.files, key=lambda name: name == LOG_FILE):
            target = data / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _copy_file(backup / name, target)
        sync_folder(data)
    finally:
        lock.release()
    _check(data, manifest)
    return manifest


def _check(data: Path, manifest: Manifest) -> None:
    with closing(EventLog.open(data)) as log:
        report = log.verify()
        if report.corruption is not None:
            raise BackupError(f"the backup holds a damaged log: {report.corruption}")
        if (log.head.seq, log.head.hash.hex()) != (manifest.seq, manifest.hash):
            raise BackupError("the backup's log is another one than its manifest says")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return FileEntry(path.stat().st_size, digest)


def _write_durably(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
