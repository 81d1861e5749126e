"""An agent's submission: as JSON on the wire (`OperationBody`) and as the service takes it (`NewOperation`).

Server and client share these structs, so that a limit or a field stands in one place.
"""

import re
from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from coordinator.core.errors import CoreError, ErrorCode

#: Ids of agents, tasks and operations: they stand in a URL path and a metric label as they are.
ID_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._:@+=~-]{0,127}\Z"
#: Operation types are a metric label: shorter, and few.
TYPE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._:-]{0,63}\Z"
DIGEST_BYTES = 32
#: KoalaBear's modulus: a digest is 8 canonical elements of 4 bytes, little-endian.
FIELD_MODULUS = 0x7F00_0001
SALT_BYTES = 24
SECRET_BYTES = 24
MAX_OUTPUT_BYTES = 65_536
MAX_PARENTS = 1_024
MAX_PRIORITY = 1_000
MAX_BATCH = 10_000
#: Greatest amount of lamports in one request: every JSON reader keeps it exact.
MAX_LAMPORTS = 2**53 - 1

Id: TypeAlias = Annotated[
    str,
    Meta(
        pattern=ID_PATTERN,
        description="1–128 characters of A–Z a–z 0–9 . _ : @ + = ~ -, the first a letter, a digit or _.",
        examples=["agent-1"],
    ),
]
OperationType: TypeAlias = Annotated[
    str,
    Meta(pattern=TYPE_PATTERN, description="The kind of task; keep them few.", examples=["summarise"]),
]
Digest: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{64}\Z",
        description="64 hex digits: 8 canonical field elements, 4 bytes little-endian each.",
        examples=["00" * 32],
    ),
]
Timestamp: TypeAlias = Annotated[
    datetime, Meta(tz=True, description="RFC 3339 with an offset.", examples=["2026-01-31T12:00:00Z"])
]
Lamports: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_LAMPORTS, examples=[1_000_000])]

_ID = re.compile(ID_PATTERN)


class OperationBody(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One operation as JSON; bytes are base64."""

    operation_id: Id
    agent_id: Id
    task_id: Id
    operation_type: OperationType
    depends_on: Annotated[tuple[Id, ...], Meta(max_length=MAX_PARENTS)] = ()
    parent_outputs: dict[Id, Digest] | None = None
    output: Annotated[bytes, Meta(description="The result, at most 65,536 bytes.")]
    salt: Annotated[bytes, Meta(description="24 random bytes.")]
    secret: Annotated[bytes, Meta(description="The agent's secret, 24 random bytes.")]
    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    deadline: Timestamp | None = None
    retry_of: Id | None = None


class NewOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as the service takes it: every field within its bounds, digests as 32 bytes."""

    operation_id: str
    agent_id: str
    task_id: str
    operation_type: str
    depends_on: tuple[str, ...]
    parent_outputs: dict[str, bytes] | None
    output: bytes
    salt: bytes
    secret: bytes
    priority: int
    deadline_ms: int | None
    retry_of: str | None


class SubmitResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one submitted operation: created, known already (same id and content), or refused."""

    operation_id: str
    created: bool
    error: CoreError | None


def new_operation(body: OperationBody) -> NewOperation:
    """The submission in the service's form, after the checks that a schema cannot state.

    Raises:
        CoreError: output_too_large, cycle (it names itself as a parent), or invalid; `field` names the field.
    """
    if len(body.output) > MAX_OUTPUT_BYTES:
        message = f"output has {len(body.output)} bytes; at most {MAX_OUTPUT_BYTES} are allowed"
        raise CoreError(ErrorCode.OUTPUT_TOO_LARGE, message, field="output")
    _require_length("salt", body.salt, SALT_BYTES)
    _require_length("secret", body.secret, SECRET_BYTES)
    if body.operation_id in body.depends_on:
        raise CoreError(ErrorCode.CYCLE, f"{body.operation_id} depends on itself", field="depends_on")
    if len(set(body.depends_on)) != len(body.depends_on):
        raise CoreError(ErrorCode.INVALID, "depends_on names a parent twice", field="depends_on")
    outputs = body.parent_outputs
    if outputs is not None and not outputs.keys() <= set(body.depends_on):
        raise CoreError(ErrorCode.INVALID, "parent_outputs names a non-parent", field="parent_outputs")
    if body.retry_of == body.operation_id:
        raise CoreError(ErrorCode.INVALID, "retry_of needs a new operation_id", field="retry_of")
    return NewOperation(
        operation_id=body.operation_id,
        agent_id=body.agent_id,
        task_id=body.task_id,
        operation_type=body.operation_type,
        depends_on=body.depends_on,
        parent_outputs=None
        if outputs is None
        else {parent: parse_digest(text, field="parent_outputs") for parent, text in outputs.items()},
        output=body.output,
        salt=body.salt,
        secret=body.secret,
        priority=body.priority,
        deadline_ms=None if body.deadline is None else round(body.deadline.timestamp() * 1000),
        retry_of=body.retry_of,
    )


def parse_digest(text: str, *, field: str) -> bytes:
    """The 32 bytes of a digest's 64 hex digits.

    Raises:
        CoreError: invalid, when it is not hex or an element is not below the field's modulus.
    """
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    elements = (int.from_bytes(digest[at : at + 4], "little") for at in range(0, len(digest), 4))
    if len(digest) != DIGEST_BYTES or any(element >= FIELD_MODULUS for element in elements):
        message = f"{field}: expected 64 hex digits, 8 canonical elements of 4 bytes little-endian"
        raise CoreError(ErrorCode.INVALID, message, field=field)
    return digest


def require_id(text: str, *, field: str) -> str:
    """The id as given, when it is one (see `ID_PATTERN`).

    Raises:
        CoreError: invalid.
    """
    if not _ID.match(text):
        message = f"{field}: expected 1 to 128 of A-Z a-z 0-9 . _ : @ + = ~ -, the first no sign"
        raise CoreError(ErrorCode.INVALID, message, field=field)
    return text


def _require_length(field: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise CoreError(ErrorCode.INVALID, f"{field} has {len(value)} bytes; expected {length}", field=field)
