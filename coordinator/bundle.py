"""Replay bundles: all that it takes to prove a failed batch again, in one file that gives no secret away.

A bundle holds the operations' outputs (private too: the file is 0600) but neither salts nor secrets: bytes derived from
the operations' ids stand in for them, so that the same work is done on the same shapes, for another statement.
`agenc replay-batch --data-dir` takes the true ones from the data folder as long as they are there.
"""

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from workers.messages import BatchRequest
from workers.statement import OperationWitness

FORMAT: Final = "agenc-batch-bundle-1"
SUFFIX: Final = ".bundle.json"
_SECRET_BYTES: Final = 24
_VERSIONS_OF: Final = ("agenc-prover", "numpy", "numba", "ray")


class BundledOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: its public inputs and its output, and the statement (hex) that the log has of it."""

    operation_id: str
    task_id: str
    agent_id: str
    parents: tuple[str, ...]
    output: bytes
    statement: str


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A failed batch: what was asked of whom, and how it ended. `index`: the operation that the prover named."""

    format: str
    batch_id: str
    attempt: int
    failed_at_ms: int
    reason: str
    detail: str
    index: int | None
    domain: str
    parameters: str
    generator: str
    worker_id: str
    operations: tuple[BundledOperation, ...]
    versions: dict[str, str]


class BundleError(ValueError):
    """The file is no bundle; the text says why."""


class Private(NamedTuple):
    """An operation's salt and secret, 24 bytes each."""

    salt: bytes
    secret: bytes


def stand_in(operation_id: str) -> Private:
    """What takes the place of an operation's salt and secret: as long, and of no use to anybody."""
    text = hashlib.shake_256(b"agenc replay bundle stand-in\0" + operation_id.encode()).digest(
        2 * _SECRET_BYTES
    )
    return Private(text[:_SECRET_BYTES], text[_SECRET_BYTES:])


def request_of(bundle: Bundle, true: Mapping[str, Private] | None = None) -> BatchRequest:
    """The batch to prove again, with stand-ins wherever `true` has nothing."""
    known = true or {}
    operations = []
    for one in bundle.operations:
        private = known.get(one.operation_id) or stand_in(one.operation_id)
        operations.append(
            OperationWitness(
                task_id=one.task_id.encode(),
                agent_id=one.agent_id.encode(),
                output=one.output,
                salt=private.salt,
                secret=private.secret,
                parents=tuple(bytes.fromhex(parent) for parent in one.parents),
            )
        )
    return BatchRequest(
        batch_id=bundle.batch_id,
        domain=bytes.fromhex(bundle.domain),
        operations=tuple(operations),
        parameters=bundle.parameters,
    )


def write(bundle: Bundle, path: Path) -> None:
    """Write a new file that only its owner can read. Blocks.

    Raises:
        OSError: the disk refuses.
    """
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    # Created with its mode: a chmod afterwards would leave a moment in which others can read it.
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(bundle)))
    unfinished.replace(path)


def read(path: Path) -> Bundle:
    """The bundle of a file.

    Raises:
        OSError: it cannot be read.
        BundleError: it is no bundle.
    """
    try:
        bundle = msgspec.json.decode(path.read_bytes(), type=Bundle)
        request_of(bundle)
    except ValueError as error:  # msgspec's errors, and hex that is none
        raise BundleError(str(error)) from None
    if bundle.format != FORMAT:
        raise BundleError(f"its format is {bundle.format[:50]!r}, not {FORMAT}")
    if not bundle.operations:
        raise BundleError("it has no operations")
    return bundle


def versions() -> dict[str, str]:
    """What the batch ran on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
