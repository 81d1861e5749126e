"""An agent's session over the HTTP API, through the client library."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import httpx

from coordinator.answers import OutputAnswer
from coordinator.client.aio import AsyncClient
from coordinator.client.errors import ApiError, Conflict, NotFound, SpeculationDenied, WaitTimeout
from coordinator.core.errors import ErrorCode
from coordinator.core.states import OperationState
from coordinator.replay.session import (
    Admission,
    Ending,
    ParentGoneError,
    ParentResult,
    SubmissionRefusedError,
)
from coordinator.submission import SECRET_BYTES, OperationBody

OUTPUT_WAIT_S = 20.0
FOLLOW_WAIT_S = 60.0


def open_client(url: str, *, token: str | None = None) -> AsyncClient:
    """A client whose connections are not rationed: each waiting task holds one open, and none must wait for it."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return AsyncClient(url, token=token, transport=httpx.AsyncHTTPTransport(limits=limits))


class HttpSession:
    """One registered agent; `session.Session` over HTTP. Closes its client with `close`."""

    def __init__(self, client: AsyncClient, *, agent_id: str, secret: bytes) -> None:
        self.agent_id = agent_id
        self._client = client
        self._secret = secret

    @classmethod
    async def register(cls, url: str, operator: AsyncClient, *, agent_id: str, deposit_lamports: int) -> Self:
        """A new agent with a fresh secret, registered by `operator`'s token or, where registration is open, by none."""
        from workers.statement import agent_key

        secret = secrets.token_bytes(SECRET_BYTES)
        key = await asyncio.to_thread(agent_key, secret)
        registered = await operator.register_agent(agent_id, agent_key=key, deposit_lamports=deposit_lamports)
        return cls(open_client(url, token=registered.token), agent_id=agent_id, secret=secret)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def output(
        self, operation_id: str, *, gone: Awaitable[None], denied: Callable[[str], None]
    ) -> ParentResult:
        """See `session.Session.output`. The first answer tells whether it is denied; then the server waits."""
        leaving = asyncio.ensure_future(gone)
        try:
            wait_s = 0.0
            while True:
                asking = asyncio.ensure_future(self._ask(operation_id, wait_s=wait_s))
                await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                    raise ParentGoneError
                answer = asking.result()
                if isinstance(answer, OutputAnswer):
                    commitment = bytes.fromhex(answer.output_commitment)
                    return ParentResult(operation_id, answer.output, commitment, answer.final)
                if wait_s == 0.0:
                    denied(answer)
                wait_s = OUTPUT_WAIT_S
        finally:
            leaving.cancel()

    async def _ask(self, operation_id: str, *, wait_s: float) -> OutputAnswer | str:
        """The output, or the denial."""
        try:
            return await self._client.output(operation_id, self.agent_id, wait_s=wait_s)
        except SpeculationDenied as denied:
            return denied.code
        except (Conflict, NotFound) as refusal:
            raise ParentGoneError from refusal

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
        """See `session.Session.submit`."""
        body = OperationBody(
            operation_id=operation_id,
            agent_id=self.agent_id,
            task_id=task_id,
            operation_type=operation_type,
            depends_on=tuple(parent.operation_id for parent in parents),
            parent_outputs={parent.operation_id: parent.output_commitment.hex() for parent in parents},
            output=output,
            salt=salt,
            secret=self._secret,
            retry_of=retry_of,
        )
        try:
            admitted = await self._client.submit(body)
        except ApiError as refusal:
            if refusal.is_code(ErrorCode.UNKNOWN_PARENT):
                raise ParentGoneError from refusal
            raise SubmissionRefusedError(refusal.code, refusal.message) from refusal
        decided = admitted.speculation
        return Admission(
            bond_lamports=decided.stake_lamports, denial=None if decided.granted else decided.reason
        )

    async def follow(self, operation_id: str) -> Ending:
        """See `session.Session.follow`."""
        while True:
            try:
                ended = await self._client.wait(operation_id, timeout_s=FOLLOW_WAIT_S)
            except WaitTimeout:
                continue
            return Ending(OperationState(ended.state), ended.reason)
