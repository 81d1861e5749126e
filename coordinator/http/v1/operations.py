"""Operations: submit one or many, see how they stand, cancel, and ask for outputs and receipts."""

import asyncio
import heapq
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from coordinator.answers import (
    BatchAnswer,
    BatchBody,
    BatchVerdict,
    CancelAnswer,
    OperationAnswer,
    OperationPage,
    OutputAnswer,
)
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.records import Operation
from coordinator.core.states import TERMINAL, OperationState
from coordinator.http.context import Context, Ctx
from coordinator.http.errors import RETRY_AFTER_S, error_object
from coordinator.http.examples import BATCH_ANSWER, BATCH_BODY, OPERATION, OPERATION_BODY, OUTPUT, RECEIPT
from coordinator.http.openapi import describe
from coordinator.http.views import operation_view
from coordinator.http.wire import SMALL_BODY_BYTES, answer, check_json, decode_json, read_body, read_bytes
from coordinator.submission import (
    MAX_BATCH,
    NewOperation,
    OperationBody,
    SubmitResult,
    new_operation,
    require_id,
)
from coordinator.waiting import reached_states
from workers.batch_proof import Wire
from workers.receipt import Receipt

router = APIRouter(prefix="/v1/operations", tags=["operations"])

MAX_WAIT_S = 300.0
MAX_PAGE = 1_000

WaitS = Annotated[
    float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False, description="Seconds to wait at most.")
]

_SUBMIT_ERRORS = (
    ErrorCode.UNKNOWN_PARENT,
    ErrorCode.CYCLE,
    ErrorCode.ID_CONFLICT,
    ErrorCode.NULLIFIER_USED,
    ErrorCode.TASK_CONFIRMED,
    ErrorCode.CONSTRAINT_MISMATCH,
    ErrorCode.AGENT_KEY_MISMATCH,
    ErrorCode.STAKE_INSUFFICIENT,
    ErrorCode.UNKNOWN_AGENT,
    ErrorCode.UNKNOWN_TASK,
    ErrorCode.TASK_CLAIMED,
    ErrorCode.OUTPUT_TOO_LARGE,
    ErrorCode.INVALID,
    ErrorCode.QUEUE_FULL,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN,
    ErrorCode.TOO_LARGE,
    ErrorCode.READ_ONLY,
)


@router.post(
    "",
    **describe(
        "Submit an operation",
        body=OperationBody,
        body_example=OPERATION_BODY,
        answers={202: OperationAnswer, 200: OperationAnswer},
        example=OPERATION,
        errors=_SUBMIT_ERRORS,
        secured=True,
    ),
)
async def submit(request: Request, ctx: Ctx) -> Response:
    """202 once it is durable; 200 when the same id with the same content was known; its state either way."""
    caller = ctx.auth.anyone(request)
    body = await read_body(request, OperationBody, limit_bytes=SMALL_BODY_BYTES)
    if not caller.may_act_for(body.agent_id):
        raise CoreError(
            ErrorCode.FORBIDDEN, f"the token does not belong to {body.agent_id}", field="agent_id"
        )
    (result,) = await ctx.service.submit([new_operation(body)])
    if result.error is not None:
        raise result.error
    view = operation_view(ctx.service.operation(result.operation_id))
    return answer(view, status=202 if result.created else 200)


@router.post(
    "/batch",
    **describe(
        "Submit many operations",
        body=BatchBody,
        body_example=BATCH_BODY,
        answers={200: BatchAnswer},
        example=BATCH_ANSWER,
        errors=(
            ErrorCode.INVALID,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.TOO_LARGE,
            ErrorCode.READ_ONLY,
        ),
        secured=True,
    ),
)
async def submit_batch(request: Request, ctx: Ctx) -> Response:
    """Up to 10,000, parents before their children; a verdict for each, in order. One refused stops none."""
    caller = ctx.auth.anyone(request)
    raw = await read_bytes(request, limit_bytes=ctx.settings.integer("admin.max_body_bytes"))
    # Seconds of parsing must not stop the loop.
    items = await asyncio.to_thread(_parse_batch, raw)
    verdicts: list[BatchVerdict | None] = [None] * len(items)
    accepted: list[tuple[int, NewOperation]] = []
    for at, item in enumerate(items):
        if isinstance(item, BatchVerdict):
            verdicts[at] = item
        elif caller.may_act_for(item.agent_id):
            accepted.append((at, item))
        else:
            error = CoreError(
                ErrorCode.FORBIDDEN, f"the token does not belong to {item.agent_id}", field="agent_id"
            )
            verdicts[at] = _refused(item.operation_id, error)
    results = await ctx.service.submit([operation for _, operation in accepted]) if accepted else []
    for (at, _), result in zip(accepted, results, strict=True):
        verdicts[at] = _verdict(ctx, result)
    body = BatchAnswer(results=tuple(verdict for verdict in verdicts if verdict is not None))
    full = any(verdict.status == 429 for verdict in body.results)
    return answer(body, headers={"retry-after": str(RETRY_AFTER_S[ErrorCode.QUEUE_FULL])} if full else None)


@router.get(
    "",
    **describe(
        "List operations",
        answers={200: OperationPage},
        example=OperationPage(operations=(OPERATION,), next_cursor="1234"),
        errors=(ErrorCode.INVALID,),
    ),
)
async def list_operations(
    request: Request,
    ctx: Ctx,
    state: Annotated[OperationState | None, Query(description="Only those in this state.")] = None,
    agent: Annotated[str | None, Query(description="Only this agent's.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[int | None, Query(ge=0, description="next_cursor of the page before.")] = None,
) -> Response:
    """In the order of admission, a page at a time."""
    ctx.require_reader(request)
    core = ctx.state
    sought = [] if state in TERMINAL else list(core.live.values())
    sought += [] if state is not None and state not in TERMINAL else list(core.ended.values())

    def matches(operation: Operation) -> bool:
        return (
            (cursor is None or operation.number > cursor)
            and (state is None or operation.state is state)
            and (agent is None or operation.agent_id == agent)
        )

    # A million operations take a moment to go through: not on the loop. One more than a page says whether it
    # is the last.
    found = await asyncio.to_thread(
        heapq.nsmallest, limit + 1, filter(matches, sought), key=lambda operation: operation.number
    )
    page = found[:limit]
    following = str(page[-1].number) if len(found) > limit else None
    return answer(OperationPage(operations=tuple(map(operation_view, page)), next_cursor=following))


@router.get(
    "/{operation_id}",
    **describe(
        "An operation's state",
        answers={200: OperationAnswer},
        example=OPERATION,
        errors=(ErrorCode.UNKNOWN_OPERATION, ErrorCode.INVALID),
    ),
)
async def get_operation(
    request: Request,
    ctx: Ctx,
    operation_id: str,
    wait: Annotated[OperationState | None, Query(description="Answer once it is here, or further.")] = None,
    timeout: WaitS = 30.0,  # noqa: ASYNC109  # the query parameter's name is the API's
) -> Response:
    """With `wait`, once the state, a later one or an end is reached; as it stands when the time is over."""
    ctx.require_reader(request)
    operation = ctx.service.operation(operation_id)
    if wait is not None:
        operation = await ctx.service.wait_operation(operation_id, reached_states(wait), timeout)
    return answer(operation_view(operation))


@router.delete(
    "/{operation_id}",
    **describe(
        "Cancel an operation",
        answers={200: CancelAnswer},
        example=CancelAnswer(operation_id="op-1", rolled_back=("op-2", "op-1")),
        errors=(
            ErrorCode.UNKNOWN_OPERATION,
            ErrorCode.NOT_CANCELLABLE,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
            ErrorCode.READ_ONLY,
        ),
        secured=True,
    ),
)
async def cancel(request: Request, ctx: Ctx, operation_id: str) -> Response:
    """Rolls it back with its descendants and stops their work."""
    caller = ctx.auth.anyone(request)
    operation = ctx.service.operation(operation_id)
    if not caller.may_act_for(operation.agent_id):
        raise CoreError(ErrorCode.FORBIDDEN, f"the token does not belong to {operation.agent_id}")
    rolled_back = await ctx.service.cancel(operation_id)
    await ctx.record(caller.operator, "cancel", operation_id=operation_id, rolled_back=len(rolled_back))
    return answer(CancelAnswer(operation_id=operation_id, rolled_back=tuple(rolled_back)))


@router.get(
    "/{operation_id}/output",
    **describe(
        "An operation's output",
        answers={200: OutputAnswer},
        example=OUTPUT,
        errors=(
            ErrorCode.UNKNOWN_OPERATION,
            ErrorCode.UNKNOWN_AGENT,
            ErrorCode.UNKNOWN_PARENT,
            ErrorCode.INVALID,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
        ),
        denials=True,
        secured=True,
    ),
)
async def get_output(
    request: Request,
    ctx: Ctx,
    operation_id: str,
    agent: Annotated[str, Query(description="The agent that wants to build on it.")],
    wait: WaitS = 0.0,
) -> Response:
    """The speculation decision: given when confirmed, or when speculating on it would be granted to the
    agent.

    425 with the denial otherwise; with `wait`, only after that many seconds without a confirmation.
    """
    ctx.auth.acting_for(request, require_id(agent, field="agent"))
    given = await ctx.service.output(operation_id, agent, wait)
    return answer(
        OutputAnswer(output=given.output, output_commitment=given.output_commitment.hex(), final=given.final)
    )


@router.get(
    "/{operation_id}/proof",
    **describe(
        "An operation's receipt",
        answers={200: Receipt},
        example=RECEIPT,
        errors=(ErrorCode.UNKNOWN_OPERATION, ErrorCode.NOT_CONFIRMED, ErrorCode.INVALID),
    ),
)
async def get_receipt(
    request: Request,
    ctx: Ctx,
    operation_id: str,
    wire: Annotated[
        Wire, Query(description="The proof's encoding: Plonky3's, or a pruned one of about half the length.")
    ] = Wire.PLAIN,
) -> Response:
    """All that `agenc verify` needs; it exists once the operation is confirmed."""
    ctx.require_reader(request)
    return answer(await ctx.service.receipt(operation_id, wire))


class _RawBatch(msgspec.Struct, forbid_unknown_fields=True):
    operations: list[msgspec.Raw]


class _Named(msgspec.Struct):
    operation_id: str | None = None


def _parse_batch(raw: bytes) -> list[NewOperation | BatchVerdict]:
    """Every operation, or the verdict on one that is none."""
    check_json(raw)
    items = decode_json(raw, _RawBatch).operations
    if not 1 <= len(items) <= MAX_BATCH:
        message = f"operations: expected 1 to {MAX_BATCH}, got {len(items)}"
        raise CoreError(ErrorCode.INVALID, message, field="operations")
    return [_parse_item(item) for item in items]


def _parse_item(item: msgspec.Raw) -> NewOperation | BatchVerdict:
    try:
        return new_operation(decode_json(item, OperationBody))
    except CoreError as error:
        return _refused(_name_of(item), error)


def _name_of(item: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(item, type=_Named).operation_id
    except ValueError:
        return None


def _refused(operation_id: str | None, error: CoreError) -> BatchVerdict:
    return BatchVerdict(operation_id=operation_id, status=error.status, error=error_object(error))


def _verdict(ctx: Context, result: SubmitResult) -> BatchVerdict:
    if result.error is not None:
        return _refused(result.operation_id, result.error)
    state = ctx.service.operation(result.operation_id).state
    return BatchVerdict(operation_id=result.operation_id, status=202 if result.created else 200, state=state)
