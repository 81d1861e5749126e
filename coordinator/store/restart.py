"""The state that a folder's log makes: from the newest snapshot that can be trusted, and the events after it.

A snapshot is trusted when its checksum holds, it is of this log, the log has its event with its hash, and its body
is of this version's schema. Otherwise the one before it is tried, and then the whole log. Only where the events before
a snapshot were pruned must one be good, and then an older schema will do if it can be read.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec

from coordinator.core.events import decode_event
from coordinator.core.state import RETAINED_OPERATIONS, STATE_SCHEMA, CoreState
from coordinator.store.errors import LogCorrupted
from coordinator.store.hashing import Head
from coordinator.store.reader import LogReader
from coordinator.store.snapshot import SnapshotDamaged, SnapshotHeader, Snapshots


class Folder(Protocol):
    """What a restart reads: an open `EventLog`, or a reader beside the process that has it open."""

    @property
    def reader(self) -> LogReader:
        """Reads the events."""

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots beside them."""

    @property
    def head(self) -> Head:
        """A head that the log is known to have had."""


class Restored(NamedTuple):
    """A state and how it came about. `corruption`: what ended the reading of the log early, if anything did.

    `head` is the last event folded in; `snapshot` what it began with, if any; `skipped` says of each snapshot that was
    passed over why.
    """

    state: CoreState
    head: Head
    snapshot: SnapshotHeader | None
    skipped: tuple[str, ...]
    corruption: LogCorrupted | None

    @property
    def snapshot_seq(self) -> int:
        """The event at which the snapshot stands; 0 without one."""
        return 0 if self.snapshot is None else self.snapshot.seq


def restore(folder: Folder, *, from_snapshot: bool = True, retained: int = RETAINED_OPERATIONS) -> Restored:
    """The state up to the end of the log, or up to where it is corrupted. Blocks.

    `from_snapshot` False folds the whole log, where it is kept.

    Raises:
        StoreError: the disk refuses.
    """
    with _without_collections():
        skipped: list[str] = []
        try:
            start = _newest(folder, skipped) if from_snapshot else None
            ends = folder.reader.ends()
            if start is None and ends.pruned:
                start = _newest(folder, skipped, any_schema=True)
                if start is None:
                    raise LogCorrupted(ends.first.seq, "it was pruned, and no snapshot after it can be read")
        except LogCorrupted as error:
            return Restored(CoreState(retained=retained), Head(0, b""), None, tuple(skipped), error)
        if start is None:
            state, snapshot, head = CoreState(retained=retained), None, ends.first
        else:
            state, snapshot = start
            head = snapshot.head
        head, corruption = _fold(folder, state, head)
    return Restored(state, head, snapshot, tuple(skipped), corruption)


def _fold(folder: Folder, state: CoreState, head: Head) -> tuple[Head, LogCorrupted | None]:
    """Folds the events after `head` in, and says how far that went."""
    try:
        for seq, _, _, body, digest in folder.reader.rows(head.seq, reached=folder.head):
            try:
                event = decode_event(body)
                state.apply(event)
            except msgspec.DecodeError as error:
                return head, LogCorrupted(seq, f"no event that this version knows: {error}")
            except (AssertionError, LookupError) as error:
                return head, LogCorrupted(seq, f"the event does not follow from those before it: {error!r}")
            head = Head(seq, digest)
    except LogCorrupted as error:
        return head, error
    return head, None


def _newest(
    folder: Folder, skipped: list[str], *, any_schema: bool = False
) -> tuple[CoreState, SnapshotHeader] | None:
    for path in folder.snapshots.paths():
        try:
            header, body = folder.snapshots.read(path)
            reason = _mistrust(folder, header, any_schema=any_schema)
            if reason is None:
                return CoreState.load(body), header
        except (SnapshotDamaged, msgspec.DecodeError, OSError) as error:
            reason = str(error)
        skipped.append(f"{path.name}: {reason}")
    return None


def any_snapshot(snapshots: Snapshots) -> CoreState | None:
    """The newest state that can be read at all, of whatever log and version: good for names, not to go on from."""
    for path in snapshots.paths():
        try:
            return CoreState.load(snapshots.read(path)[1])
        except (SnapshotDamaged, msgspec.DecodeError, OSError):
            continue
    return None


def _mistrust(folder: Folder, header: SnapshotHeader, *, any_schema: bool) -> str | None:
    ends = folder.reader.ends()
    if header.log_id != ends.log_id:
        return "it is of another log"
    if not ends.first.seq <= header.seq <= ends.head.seq:
        return f"the log has events {ends.first.seq + 1} to {ends.head.seq}"
    if folder.reader.hash_at(header.seq) != header.hash:
        return "the log has another event under its number"
    if header.schema != STATE_SCHEMA and not any_schema:
        return "it was written by another version"
    return None


def write_snapshot(folder: Folder, state: CoreState, head: Head) -> SnapshotHeader:
    """Keeps the state as it stands after the event `head`, which is durable. Blocks.

    Raises:
        OSError: the disk refuses; older snapshots stay.
        LogCorrupted: the log cannot be read.
    """
    header = SnapshotHeader(
        log_id=folder.reader.ends().log_id,
        seq=head.seq,
        hash=head.hash,
        schema=STATE_SCHEMA,
        admitted=state.totals.admitted,
    )
    folder.snapshots.write(header, state.dump())
    return header


@contextmanager
def _without_collections() -> Iterator[None]:
    """What is loaded lives long: collecting it again and again while it grows would take longer than loading it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
