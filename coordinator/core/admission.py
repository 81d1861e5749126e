"""Admission: what is refused, what is the same as before, and how an operation is let in.

Items of one call are judged one by one, parents before children, each against the state that the
ones before it made.
"""

from collections.abc import Mapping, Sequence

from coordinator.core import limits
from coordinator.core.commands import OutputDecision, Submission, Verdict
from coordinator.core.core import Core
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import AdmittedOperation, Decision, OperationsAdmitted
from coordinator.core.fold_admission import admit
from coordinator.core.graph import arrange
from coordinator.core.records import Agent, Operation, TimelineEntry
from coordinator.core.speculation import Question, decide, decide_bond
from coordinator.core.states import OperationState

_ENDED_BADLY = (OperationState.ROLLED_BACK, OperationState.FAILED)


def submit(core: Core, submissions: Sequence[Submission], *, now_ms: int) -> list[Verdict]:
    """Admit what can be admitted, with one event for the whole call.

    Returns:
        A verdict for each submission, in their order.
    """
    verdicts: dict[int, Verdict] = {}
    admitted: list[AdmittedOperation] = []
    refused: dict[str, CoreError] = {}
    entries: dict[str, TimelineEntry] = {}
    for at in _order(submissions, refused):
        submission = submissions[at]
        operation_id = submission.operation_id
        try:
            made = _judge(core, submission, refused, now_ms=now_ms)
        except CoreError as error:
            refused[operation_id] = error
            verdicts[at] = Verdict(operation_id, False, error)
            continue
        if made is not None:
            admit(core.state, made, at_ms=now_ms, entries=entries)
            admitted.append(made)
        verdicts[at] = Verdict(operation_id, made is not None)
    if admitted:
        core.record(OperationsAdmitted(now_ms, tuple(admitted)))
    return [
        verdicts[at] if at in verdicts else Verdict(one.operation_id, False, refused[one.operation_id])
        for at, one in enumerate(submissions)
    ]


def _order(submissions: Sequence[Submission], refused: dict[str, CoreError]) -> Sequence[int]:
    """The order in which to judge. Items on a cycle, or descending from one, are refused here."""
    ids = {submission.operation_id: None for submission in submissions}
    if len(ids) == len(submissions) and _is_ordered(submissions, ids):
        return range(len(submissions))
    first: dict[str, int] = {}
    again: list[int] = []
    for at, submission in enumerate(submissions):
        if submission.operation_id in first:
            again.append(at)
        else:
            first[submission.operation_id] = at
    ordered, cyclic, below = arrange(list(first), {one: submissions[at].parents for one, at in first.items()})
    for operation_id in cyclic:
        message = f"{operation_id!r} would depend on itself"
        refused[operation_id] = CoreError(ErrorCode.CYCLE, message, field="depends_on")
    for operation_id in below:
        message = "its ancestors in this call form a cycle"
        refused[operation_id] = CoreError(ErrorCode.UNKNOWN_PARENT, message, field="depends_on")
    return [first[operation_id] for operation_id in ordered] + [
        at for at in again if submissions[at].operation_id not in refused
    ]


def _is_ordered(submissions: Sequence[Submission], ids: Mapping[str, None]) -> bool:
    seen: dict[str, None] = {}
    for submission in submissions:
        for parent_id in submission.parents:
            if parent_id in ids and parent_id not in seen:
                return False
        seen[submission.operation_id] = None
    return True


# -- one item ----------------------------------------------------------------------------------


def _judge(
    core: Core, submission: Submission, refused: Mapping[str, CoreError], *, now_ms: int
) -> AdmittedOperation | None:
    """What is admitted, or None for the same operation as before.

    Raises:
        CoreError: it is refused.
    """
    if _is_known(core, submission):
        return None
    agent = core.agent(submission.agent_id)
    if submission.agent_key != agent.agent_key:
        raise CoreError(
            ErrorCode.AGENT_KEY_MISMATCH, "the secret is not that of the agent's key", field="secret"
        )
    _check_task(core, submission, now_ms=now_ms)
    parents = _check_parents(core, submission, refused)
    _check_unspent(core, submission)
    _check_retry(core, submission)
    full = limits.check_rows(submission.rows, core.config) or limits.check_room(core.state, core.config)
    if full is not None:
        raise full
    return _terms(core, submission, agent, parents, now_ms=now_ms)


def _is_known(core: Core, submission: Submission) -> bool:
    state, operation_id = core.state, submission.operation_id
    known = state.live.get(operation_id) or state.ended.get(operation_id)
    if known is not None:
        same = known.content_digest == submission.content_digest and known.agent_id == submission.agent_id
    elif operation_id in state.confirmed_outputs:
        # Its record was let go long ago: task and output tell whether this is the same operation.
        same = (
            state.confirmed_outputs[operation_id] == submission.output_commitment
            and state.confirmed_tasks.get(submission.task_id) == operation_id
        )
    else:
        return False
    if not same:
        message = f"{operation_id!r} was submitted before with other content"
        raise CoreError(ErrorCode.ID_CONFLICT, message, field="operation_id")
    return True


def _check_task(core: Core, submission: Submission, *, now_ms: int) -> None:
    task = core.state.tasks.get(submission.task_id)
    if task is None:
        if core.config.tasks_require_registration:
            message = f"task {submission.task_id!r} is not registered"
            raise CoreError(ErrorCode.UNKNOWN_TASK, message, field="task_id")
        return
    if task.constraint_hash is not None and task.constraint_hash != submission.constraint_hash:
        message = f"the output is not the one that task {submission.task_id!r} asks for"
        raise CoreError(ErrorCode.CONSTRAINT_MISMATCH, message, field="output")
    if task.claimed_by not in (None, submission.agent_id) and now_ms < task.claim_expires_ms:
        message = f"task {submission.task_id!r} is claimed by {task.claimed_by!r}"
        raise CoreError(ErrorCode.TASK_CLAIMED, message, field="task_id")


def _check_parents(core: Core, submission: Submission, refused: Mapping[str, CoreError]) -> list[Operation]:
    """The unconfirmed parents, all others being confirmed."""
    parent_ids = submission.parents
    if not parent_ids:
        if submission.parent_outputs:
            raise CoreError(ErrorCode.INVALID, "outputs of no parent", field="parent_outputs")
        return []
    if len(parent_ids) > 1 and len(set(parent_ids)) < len(parent_ids):
        raise CoreError(ErrorCode.INVALID, "a parent is named twice", field="depends_on")
    live, unconfirmed, outputs = core.state.live, [], []
    for parent_id in parent_ids:
        if refused and parent_id in refused:
            message = f"parent {parent_id!r} was refused in this call"
            raise CoreError(ErrorCode.UNKNOWN_PARENT, message, field="depends_on")
        parent = live.get(parent_id)
        if parent is not None:
            unconfirmed.append(parent)
            outputs.append(parent.output_commitment)
        else:
            outputs.append(_confirmed_output(core, parent_id))
    if submission.parent_commitments is not None and submission.parent_commitments != tuple(outputs):
        message = "the statement was computed from other outputs of the parents than theirs"
        raise CoreError(ErrorCode.UNKNOWN_PARENT, message, field="depends_on")
    if submission.parent_outputs is not None:
        known = dict(zip(parent_ids, outputs, strict=True))
        for parent_id, output in submission.parent_outputs.items():
            if known.get(parent_id) != output:
                message = f"{parent_id!r} is no parent, or its output is not the one built on"
                raise CoreError(ErrorCode.INVALID, message, field="parent_outputs")
    return unconfirmed


def _confirmed_output(core: Core, parent_id: str) -> bytes:
    output = core.state.confirmed_outputs.get(parent_id)
    if output is not None:
        return output
    ended = core.state.ended.get(parent_id)
    if ended is None:
        message = f"no operation {parent_id!r} is known"
    else:
        replaced = "" if ended.replaced_by is None else f"; {ended.replaced_by!r} replaces it"
        message = f"parent {parent_id!r} ended {ended.state} ({ended.reason}){replaced}"
    raise CoreError(ErrorCode.UNKNOWN_PARENT, message, field="depends_on")


def _check_unspent(core: Core, submission: Submission) -> None:
    state = core.state
    by = state.confirmed_tasks.get(submission.task_id)
    if by is not None:
        message = f"task {submission.task_id!r} was confirmed by {by!r}"
        raise CoreError(ErrorCode.TASK_CONFIRMED, message, field="task_id")
    user = state.live_nullifiers.get(submission.nullifier) or state.spent_nullifiers.get(submission.nullifier)
    if user is not None:
        message = f"operation {user!r} has the same agent, task and parents"
        raise CoreError(ErrorCode.NULLIFIER_USED, message, field="operation_id")


def _check_retry(core: Core, submission: Submission) -> None:
    if submission.retry_of is None:
        return
    old = core.state.operation(submission.retry_of)
    if old.state not in _ENDED_BADLY:
        message = f"{submission.retry_of!r} is {old.state}: only what was rolled back or failed is retried"
        raise CoreError(ErrorCode.INVALID, message, field="retry_of")
    if old.agent_id != submission.agent_id:
        raise CoreError(ErrorCode.INVALID, f"{submission.retry_of!r} is another agent's", field="retry_of")


def _terms(
    core: Core, submission: Submission, agent: Agent, parents: list[Operation], *, now_ms: int
) -> AdmittedOperation:
    """State, depth, bond and decision of an operation that is let in."""
    decision: Decision | None
    if parents:
        question = Question(
            core.state,
            core.config,
            agent=agent,
            parents=parents,
            task_id=submission.task_id,
            memory_bytes=core.memory_bytes,
            now_ms=now_ms,
        )
        decision = decide(question)
        granted = decision.denial is None
        depth = question.depth
        payer = question.payer if granted else None
        snapshot = granted and question.snapshot
        if not granted:
            to = OperationState.DEFERRED
        elif core.config.optimistic_proofs:
            to = OperationState.QUEUED
        else:
            to = OperationState.SPECULATING
    else:
        depth, snapshot, to = 0, False, OperationState.QUEUED
        decision, payer = decide_bond(core.state, core.config, agent, now_ms=now_ms)
    return AdmittedOperation(
        submission.operation_id,
        submission.agent_id,
        submission.task_id,
        submission.operation_type,
        submission.parents,
        submission.content_digest,
        submission.constraint_hash,
        submission.output_commitment,
        submission.nullifier,
        submission.agent_key,
        submission.public_digest,
        submission.statement,
        submission.binding,
        submission.output_bytes,
        submission.rows,
        to,
        depth,
        decision.stake_lamports if payer is not None and decision is not None else 0,
        decision,
        submission.priority,
        submission.deadline_ms,
        submission.retry_of,
        payer is not None,
        snapshot,
        None if payer is None or payer is agent else payer.agent_id,
    )


# -- questions ---------------------------------------------------------------------------------


def resolve_parents(core: Core, parents: Sequence[str], staged: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Output commitments of the parents: of those staged in the same call, of live and of confirmed ones.

    Raises:
        CoreError: `unknown_parent`.
    """
    outputs = []
    for parent_id in parents:
        output = staged.get(parent_id)
        if output is None:
            parent = core.state.live.get(parent_id)
            output = _confirmed_output(core, parent_id) if parent is None else parent.output_commitment
        outputs.append(output)
    return tuple(outputs)


def output_decision(core: Core, agent_id: str, parent_id: str, *, now_ms: int) -> OutputDecision:
    """Whether the agent may have this output now: what would be decided for a child that has only this parent.

    Raises:
        CoreError: `unknown_agent`, `unknown_operation`, or `unknown_parent` for one that has ended badly.
    """
    agent = core.agent(agent_id)
    if parent_id in core.state.confirmed_outputs:
        return OutputDecision(final=True, granted=True)
    parent = core.state.live.get(parent_id)
    if parent is None:
        core.state.operation(parent_id)
        _confirmed_output(core, parent_id)
        raise AssertionError("an ended operation that is not confirmed has no output")
    question = Question(
        core.state,
        core.config,
        agent=agent,
        parents=[parent],
        task_id=None,
        memory_bytes=core.memory_bytes,
        now_ms=now_ms,
    )
    denial = decide(question).denial
    return OutputDecision(final=False, granted=denial is None, denial=denial)
