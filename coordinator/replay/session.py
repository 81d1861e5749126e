"""What a simulated agent needs of the system: the one seam between the acting and the HTTP API."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.core.states import OperationState


class ParentGoneError(Exception):
    """The parent's operation is no longer there to build on: it was rolled back or failed."""


class SubmissionRefusedError(Exception):
    """The system will not take this submission, now or later; `code` is the API's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class ParentResult:
    """A parent's output as the system gave it; `final` when its operation is confirmed."""

    operation_id: str
    output: bytes
    output_commitment: bytes
    final: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """The system took an operation, locked this bond for it, and lets it speculate or, with the denial, defers it."""

    bond_lamports: int
    denial: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """The terminal state of an operation and the reason for it."""

    state: OperationState
    reason: str


class Session(Protocol):
    """One agent, registered and authenticated."""

    async def output(
        self, operation_id: str, *, gone: Awaitable[None], denied: Callable[[str], None]
    ) -> ParentResult:
        """Waits until the operation's output is given, calling `denied` with the reason of each refusal.

        Raises:
            ParentGoneError: `gone` came first, or the system says that the operation is dead.
        """

    async def submit(
        self,
        *,
        operation_id: str,
        task_id: str,
        operation_type: str,
        parents: Sequence[ParentResult],
        output: bytes,
        salt: bytes,
        retry_of: str | None,
    ) -> Admission:
        """Submits once, however often the connection has to be tried; waits where the system is full.

        Raises:
            ParentGoneError: a parent is dead or has another output now.
            SubmissionRefusedError: for any other reason.
        """

    async def follow(self, operation_id: str) -> Ending:
        """Waits for the operation's terminal state."""
