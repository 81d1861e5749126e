"""Every error of the client library.

AgencError
  Unreachable           nothing was heard, or no JSON of this API; the call may have been carried out
  ApiError              the server refused; `code` is the stable one, `retry` says if waiting can help
    Unauthorized          401
    Forbidden             403, 421
    NotFound              404, 405
    Conflict              409
    Invalid               413, 422; `field` names the input
    SpeculationDenied     425; `denial` is the typed reason
    Overloaded            429; the library retries these by itself first
    Unavailable           503, likewise
    ServerFault           500
  WaitTimeout           the operation did not get there in time
  RolledBack            the operation ended without confirmation and is not resubmitted
"""

from collections.abc import Mapping
from typing import Any

from coordinator.answers import OperationAnswer
from coordinator.core.errors import ErrorCode
from coordinator.core.states import Denial


class AgencError(Exception):
    """The root of them all."""


class Unreachable(AgencError):
    """Nothing was heard, or nothing that this API says."""


class ApiError(AgencError):
    """The server's refusal."""

    def __init__(self, status: int, code: str, message: str, detail: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.detail = dict(detail)

    @property
    def retry(self) -> bool:
        """Whether the same request can succeed later."""
        return bool(self.detail.get("retry", False))

    @property
    def field(self) -> str | None:
        """The input that was refused, where it was one."""
        found = self.detail.get("field")
        return found if isinstance(found, str) else None

    def is_code(self, code: ErrorCode) -> bool:
        """Whether this is the error of that code."""
        return self.code == code


class Unauthorized(ApiError):
    """No token, or one that nobody holds."""


class Forbidden(ApiError):
    """The token is another's, or the server is asked under a name it does not go by."""


class NotFound(ApiError):
    """No such operation, agent, task or route."""


class Conflict(ApiError):
    """The request does not fit what is there."""


class Invalid(ApiError):
    """The request is malformed; `field` says where."""


class SpeculationDenied(ApiError):
    """The output is not confirmed, and speculation on it is denied for now."""

    @property
    def denial(self) -> Denial:
        """The typed reason."""
        return Denial(self.code)


class Overloaded(ApiError):
    """The queue is full, or too many requests."""


class Unavailable(ApiError):
    """The server takes no writes now."""


class ServerFault(ApiError):
    """A defect of the server; `detail` has the request id."""


class WaitTimeout(AgencError):
    """The operation did not reach the state in time; `operation` is how it stood."""

    def __init__(self, operation: OperationAnswer, wanted: str) -> None:
        super().__init__(f"{operation.operation_id} is {operation.state}, not {wanted}")
        self.operation = operation


class RolledBack(AgencError):
    """The operation ended without confirmation."""

    def __init__(self, operation: OperationAnswer) -> None:
        super().__init__(f"{operation.operation_id} is {operation.state}: {operation.reason}")
        self.operation = operation


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: NotFound,
    409: Conflict,
    413: Invalid,
    421: Forbidden,
    422: Invalid,
    425: SpeculationDenied,
    429: Overloaded,
    500: ServerFault,
    503: Unavailable,
}


def api_error(status: int, code: str, message: str, detail: Mapping[str, Any]) -> ApiError:
    """The exception for an error answer."""
    return _BY_STATUS.get(status, ApiError)(status, code, message, detail)
