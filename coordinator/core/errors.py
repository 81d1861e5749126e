"""Operating errors of the core and its API: a stable code, the HTTP status, what to do, whether a retry can help.

One class, one table of codes: the API, the client library and the docs read it.
"""

from enum import StrEnum
from typing import NamedTuple


class ErrorCode(StrEnum):
    """Stable codes that clients keep."""

    UNKNOWN_PARENT = "unknown_parent"
    CYCLE = "cycle"
    ID_CONFLICT = "id_conflict"
    NULLIFIER_USED = "nullifier_used"
    TASK_CONFIRMED = "task_confirmed"
    CONSTRAINT_MISMATCH = "constraint_mismatch"
    AGENT_KEY_MISMATCH = "agent_key_mismatch"
    OUTPUT_TOO_LARGE = "output_too_large"
    STAKE_INSUFFICIENT = "stake_insufficient"
    QUEUE_FULL = "queue_full"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    READ_ONLY = "read_only"
    INVALID = "invalid"
    UNKNOWN_AGENT = "unknown_agent"
    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_OPERATION = "unknown_operation"
    UNKNOWN_KEY = "unknown_key"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_CANCELLABLE = "not_cancellable"
    NOT_CONFIRMED = "not_confirmed"
    TASK_CLAIMED = "task_claimed"
    PINNED_BY_ENVIRONMENT = "pinned_by_environment"
    RESTART_REQUIRED = "restart_required"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    HOST_NOT_ALLOWED = "host_not_allowed"
    PROFILE_RUNNING = "profile_running"
    PROFILE_FAILED = "profile_failed"
    INTERNAL = "internal"


class ErrorFacts(NamedTuple):
    """What is fixed about a code: its HTTP status, whether a retry can help, and what to do about it."""

    status: int
    retry: bool
    advice: str


ERRORS: dict[ErrorCode, ErrorFacts] = {
    ErrorCode.UNKNOWN_PARENT: ErrorFacts(409, False, "submit the parents first, and name live ones"),
    ErrorCode.CYCLE: ErrorFacts(409, False, "an operation cannot depend on itself"),
    ErrorCode.ID_CONFLICT: ErrorFacts(409, False, "the id is taken by other content: use a new id"),
    ErrorCode.NULLIFIER_USED: ErrorFacts(
        409, False, "this agent already has an operation for this task and parents"
    ),
    ErrorCode.TASK_CONFIRMED: ErrorFacts(409, False, "the task has its confirmed result: take that one"),
    ErrorCode.CONSTRAINT_MISMATCH: ErrorFacts(409, False, "the output is not the one the task asks for"),
    ErrorCode.AGENT_KEY_MISMATCH: ErrorFacts(
        409, False, "the secret does not belong to the agent's registered key"
    ),
    ErrorCode.OUTPUT_TOO_LARGE: ErrorFacts(
        422, False, "an output has at most 65,536 bytes: store it and commit to its hash"
    ),
    ErrorCode.STAKE_INSUFFICIENT: ErrorFacts(409, False, "deposit more, or wait for bonds to be returned"),
    ErrorCode.QUEUE_FULL: ErrorFacts(429, True, "wait for Retry-After seconds and submit again"),
    ErrorCode.UNAUTHORIZED: ErrorFacts(401, False, "send a valid bearer token"),
    ErrorCode.FORBIDDEN: ErrorFacts(403, False, "the token does not belong to this agent or lacks the scope"),
    ErrorCode.READ_ONLY: ErrorFacts(
        503, True, "the log cannot be written: see /admin/integrity-check and the disk"
    ),
    ErrorCode.INVALID: ErrorFacts(422, False, "correct the named field"),
    ErrorCode.UNKNOWN_AGENT: ErrorFacts(404, False, "register the agent first"),
    ErrorCode.UNKNOWN_TASK: ErrorFacts(404, False, "register the task first"),
    ErrorCode.UNKNOWN_OPERATION: ErrorFacts(404, False, "check the operation id"),
    ErrorCode.UNKNOWN_KEY: ErrorFacts(422, False, "see GET /admin/config for the keys"),
    ErrorCode.NOT_FOUND: ErrorFacts(404, False, "see /openapi.json for the routes"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorFacts(405, False, "see /openapi.json for the methods"),
    ErrorCode.NOT_CANCELLABLE: ErrorFacts(
        409, False, "the operation is terminal, or on its way to the chain"
    ),
    ErrorCode.NOT_CONFIRMED: ErrorFacts(409, True, "a receipt exists once the operation is confirmed"),
    ErrorCode.TASK_CLAIMED: ErrorFacts(409, True, "another agent holds the claim: wait until it expires"),
    ErrorCode.PINNED_BY_ENVIRONMENT: ErrorFacts(
        409, False, "the key is set in the environment: unset it and restart"
    ),
    ErrorCode.RESTART_REQUIRED: ErrorFacts(
        409, False, "the key changes only at a restart: edit the file and restart"
    ),
    ErrorCode.TOO_LARGE: ErrorFacts(413, False, "send a smaller body"),
    ErrorCode.RATE_LIMITED: ErrorFacts(429, True, "slow down"),
    ErrorCode.HOST_NOT_ALLOWED: ErrorFacts(421, False, "use a Host name that admin.allowed_hosts lists"),
    ErrorCode.PROFILE_RUNNING: ErrorFacts(409, True, "wait for it: GET /admin/debug/profile/result"),
    ErrorCode.PROFILE_FAILED: ErrorFacts(503, True, "start another; the log has the reason"),
    ErrorCode.INTERNAL: ErrorFacts(500, True, "a defect: the log has the details under the request id"),
}


class CoreError(Exception):
    """An operating error with a stable code; `field` names the offending input where there is one."""

    def __init__(self, code: ErrorCode, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    @property
    def status(self) -> int:
        """HTTP status that answers this error."""
        return ERRORS[self.code].status
