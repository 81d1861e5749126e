"""Which operations are proved together, by whom, and when. Pure: a view of the state in, plans out.

A batch follows the graph: an operation joins when every unconfirmed parent stands earlier in the same batch (*closed*
work, submitted as soon as it is proved) or is in flight in another (*dependent* work, whose proof waits for the
ancestors' confirmation). Closed work waits a moment for those that build on it (`gathering`). Dependent work is held
until its proof would be ready just when its ancestors confirm: by then more operations have joined it, and a long chain
takes fewer links.

Agents take turns, the least recently served first; within an agent the earliest deadline goes first, then the greatest
priority, then the order of admission. In a turn an operation brings along those of its agent that build on it, so that
a chain is not torn apart by the turns of others. Where a turn does not fit everyone, the first half of the places goes
by turn (so everyone advances), the rest by deadline, priority and admission.

A trace has a power of two of rows. A batch a little above one leaves behind what nobody in it builds on, where two
proofs are cheaper than one of twice the rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, log

from coordinator.core.commands import BatchPlan
from coordinator.core.config import CoreConfig
from coordinator.core.cost import SHORTEST_MS
from coordinator.core.estimates import AUTO_LOG_ROWS, Estimates, capacity
from coordinator.core.gathering import Gathering
from coordinator.core.limits import PADDING_ROWS
from coordinator.core.ready import ReadyKey, ReadyQueue, ready_key
from coordinator.core.records import Operation
from coordinator.core.state import CoreState
from coordinator.core.states import OperationState

#: Several idle workers share what is queued, but not in pieces smaller than this.
MIN_SHARE_ROWS = 1 << 12
#: Dependent proofs start this much early: an idle worker costs less than a confirmation missed.
EARLY_MS = 200
#: Operations of an agent that one turn may pass over (their task is in flight, the worker failed them, not due).
MAX_PASSED_OVER = 64
#: Operations of one agent, each built on one before it, that one turn may put in.
MAX_RIDERS = 32

CLOSED, DEPENDENT, ISOLATED = "closed", "dependent", "isolated"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerView:
    """What the planner looks at; `worker_ids` are all workers, the idle ones included."""

    state: CoreState
    config: CoreConfig
    idle_workers: Sequence[str]
    worker_ids: Sequence[str]


def plan(view: PlannerView, *, now_ms: int) -> list[BatchPlan]:
    """A batch for each idle worker, as far as there is work for it now.

    The plans are disjoint and fit the state as it is; start them in their order. The work done is bounded by what the
    plans hold, not by what is queued.
    """
    return plan_until(view, now_ms=now_ms)[0]


def plan_until(view: PlannerView, *, now_ms: int) -> tuple[list[BatchPlan], float | None]:
    """The plans, and the time in milliseconds at which an idle worker could have more to do though nothing happens
    until then (None: at no time).
    """
    if not view.state.queued:
        return [], None
    plans: list[BatchPlan] = []
    search = _Search(view, now_ms)
    idle = search.fastest_first(view.idle_workers)
    for find in (search.isolated, search.closed, search.dependent):
        in_vain: dict[int, None] = {}
        for worker_id in list(idle):
            alike = search.pace(worker_id) if find == search.dependent else 0
            if alike in in_vain:
                continue
            search.choosy = False
            found = find(worker_id)
            if found is None and not search.choosy:
                in_vain[alike] = None  # nor would another find anything
            if found is not None:
                plans.append(found)
                idle.remove(worker_id)
                search.given(worker_id)
    return plans, search.next_ms if idle else None


class _Draft:
    """A batch while it is put together."""

    __slots__ = ("max_operations", "max_rows", "operations", "rows", "taken")

    def __init__(self, max_operations: int, max_rows: int) -> None:
        self.max_operations = max_operations
        self.max_rows = max_rows
        self.operations: list[Operation] = []
        self.taken: dict[str, None] = {}
        self.rows = 0

    def fits(self, operation: Operation) -> bool:
        """One operation always does, or it would never be proved."""
        return not self.operations or (
            len(self.operations) < self.max_operations and self.rows + operation.rows <= self.max_rows
        )

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self.taken[operation.operation_id] = None
        self.rows += operation.rows

    def remove(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            del self.taken[operation.operation_id]
            self.rows -= operation.rows
        self.operations = [one for one in self.operations if one.operation_id in self.taken]

    @property
    def full(self) -> bool:
        return len(self.operations) >= self.max_operations or self.rows >= self.max_rows


class _Search:
    """One call of the planner: what its earlier plans took is not taken again."""

    def __init__(self, view: PlannerView, now_ms: int) -> None:
        self.state = view.state
        self.config = view.config
        self.worker_ids = list(view.worker_ids)
        self.now_ms = now_ms
        self.taken: dict[str, None] = {}
        self.tasks: dict[str, None] = {}
        self.rows_left = view.state.queued_rows
        self.batch = 0
        self.next_ms: float | None = None
        self.speeds: dict[str, float] = {}
        self.sharing, self.sharing_speed = 0, 0.0
        self.choosy = False  # whether an operation was left out for the worker's sake: it failed it before
        self.turns: dict[bool, dict[str, _Turn]] = {True: {}, False: {}}
        self.estimates = Estimates(view.state, view.config, now_ms)
        self.gathering = Gathering(view.state, view.config, self.estimates)

    # -- the three kinds of batch ----------------------------------------------------------

    def fastest_first(self, worker_ids: Sequence[str]) -> list[str]:
        """In the order in which they are given work: where there is little, it goes to the fast ones."""
        self.sharing = len(worker_ids)
        self.sharing_speed = sum(map(self._speed, worker_ids))
        return sorted(worker_ids, key=self._speed, reverse=True)

    def given(self, worker_id: str) -> None:
        """The worker has its batch: the others share what is left."""
        self.sharing -= 1
        self.sharing_speed -= self._speed(worker_id)

    def pace(self, worker_id: str) -> int:
        """The same for workers within some 10 % of each other's speed: dependent work is due for them together."""
        return round(10 * log(self._speed(worker_id)))

    def _speed(self, worker_id: str) -> float:
        """Rows a millisecond, for a trace of the usual size."""
        speed = self.speeds.get(worker_id)
        if speed is None:
            line_ms = self.state.totals.cost.line(worker_id).ms(1 << AUTO_LOG_ROWS)
            speed = self.speeds[worker_id] = (1 << AUTO_LOG_ROWS) / max(line_ms, SHORTEST_MS)
        return speed

    def isolated(self, worker_id: str) -> BatchPlan | None:
        """The first isolation group with members that can be proved, by themselves."""
        for members in self.state.ready.groups.values():
            draft = self._draft(worker_id)
            operations = [self.state.live[operation_id] for operation_id in members]
            for operation in sorted(operations, key=lambda one: one.rank):
                blocked = sum(parent in draft.taken for parent in operation.parents) < operation.blocked
                if not blocked and draft.fits(operation) and self._may(operation, worker_id):
                    self._take(draft, operation)
            if draft.operations:
                return self._plan(draft, worker_id, ISOLATED)
        return None

    def closed(self, worker_id: str) -> BatchPlan | None:
        """Work that waits for nobody, and all that builds on it alone."""
        draft = self._draft(worker_id, shared=True)
        self._fill(draft, worker_id, closed=True)
        self._trim(draft)
        return self._plan(draft, worker_id, CLOSED) if draft.operations else None

    def dependent(self, worker_id: str) -> BatchPlan | None:
        """Work that waits for batches in flight: what is due now, or at once when a whole batch of it is there."""
        if not self.state.ready.dependent:
            return None
        draft = self._draft(worker_id)
        rows = min(self.state.queued_rows, draft.max_rows)
        ahead_ms = self.estimates.prove_ms(rows, worker_id) + EARLY_MS
        due_ms = self.now_ms + ahead_ms
        if self.estimates.first_confirmed_ms() <= due_ms:
            self._fill(draft, worker_id, closed=False, due_ms=due_ms)
            if draft.operations:
                return self._plan(draft, worker_id, DEPENDENT)
        following_ms = self.estimates.next_confirmed_ms(due_ms)
        if following_ms is not None:
            self._not_before(following_ms - ahead_ms)
        if self.state.queued >= draft.max_operations or self.state.queued_rows >= draft.max_rows:
            self._fill(draft, worker_id, closed=False)
            if draft.full:
                return self._plan(draft, worker_id, DEPENDENT)
            self._give_back(draft, list(draft.operations))
            self.turns[False].clear()
        return None

    def _not_before(self, at_ms: float) -> None:
        self.next_ms = at_ms if self.next_ms is None else min(self.next_ms, at_ms)

    def _draft(self, worker_id: str, *, shared: bool = False) -> _Draft:
        """An empty batch for the worker; those that share what is left take of it by their speeds."""
        max_operations, max_rows = capacity(self.config, self.state.totals.cost, worker_id)
        if shared and self.sharing > 1 and self.config.batch_size is None:
            share = self._speed(worker_id) / self.sharing_speed
            max_rows = min(max_rows, max(ceil(self.rows_left * share), MIN_SHARE_ROWS))
        return _Draft(max_operations, max_rows)

    def _plan(self, draft: _Draft, worker_id: str, reason: str) -> BatchPlan:
        return BatchPlan(tuple(one.operation_id for one in draft.operations), worker_id, reason)

    def _take(self, draft: _Draft, operation: Operation) -> None:
        draft.add(operation)
        self.taken[operation.operation_id] = None
        self.tasks[operation.task_id] = None
        self.rows_left -= operation.rows

    def _give_back(self, draft: _Draft, operations: Sequence[Operation]) -> None:
        draft.remove(operations)
        for operation in operations:
            del self.taken[operation.operation_id], self.tasks[operation.task_id]
            self.rows_left += operation.rows

    def _trim(self, draft: _Draft) -> None:
        """Leave behind what would double the trace for little: the latest of those that stand alone in the batch."""
        if self.config.batch_size is not None:
            return  # the operator has fixed it
        padded_rows = 1 << (draft.rows + PADDING_ROWS - 1).bit_length()
        room = padded_rows // 2 - PADDING_ROWS
        surplus = draft.rows - room
        if padded_rows < 2 * MIN_SHARE_ROWS or surplus + PADDING_ROWS > padded_rows // 4:
            return  # small proofs cost about the same; or the rest by itself would need as many rows again
        left: list[Operation] = []
        for operation in reversed(draft.operations):
            if surplus <= 0:
                break
            if not operation.unconfirmed and not any(child in draft.taken for child in operation.children):
                left.append(operation)
                surplus -= operation.rows
        if surplus <= 0 and sum(one.rows for one in left) + PADDING_ROWS <= padded_rows // 4:
            self._give_back(draft, left)

    def _may(self, operation: Operation, worker_id: str) -> bool:
        """Its task is not in flight, and no worker is left that has not failed it while this one has."""
        if operation.task_id in self.tasks or operation.task_id in self.state.task_in_flight:
            return False
        failed_on = operation.failed_on
        if worker_id not in failed_on:
            return True
        self.choosy = True
        return all(other in failed_on for other in self.worker_ids)

    # -- filling a batch ---------------------------------------------------------------------

    def _fill(self, draft: _Draft, worker_id: str, *, closed: bool, due_ms: float | None = None) -> None:
        """Let the agents take turns until the batch is full or nobody has anything left to put in.

        With `due_ms`, only what waits for confirmations expected until then.
        """
        ready = self.state.ready
        queues = ready.closed if closed else ready.dependent
        turns = self.turns[closed]
        self.batch += 1
        unlock = _Unlock(self, queues, turns, closed=closed)
        waiting: Iterable[str] = queues
        while not draft.full:
            places = draft.max_operations - len(draft.operations)
            candidates: list[tuple[str, Operation]] = []
            for agent_id in waiting:
                turn = turns.get(agent_id)
                if turn is None:
                    turn = turns[agent_id] = _Turn(queues.get(agent_id))
                turn.begin(self.batch, self.taken)
                operation = self._next(turn, worker_id, due_ms, closed=closed)
                if operation is not None:
                    candidates.append((agent_id, operation))
                    if len(candidates) >= 2 * places:
                        break
            if not candidates:
                return
            next_round: dict[str, None] = {}
            for agent_id, operation in _seated(candidates, places):
                if operation.task_id in self.tasks:  # a rival took it in this very round
                    next_round[agent_id] = None
                elif draft.fits(operation):
                    next_round[agent_id] = None
                    rider: Operation | None = operation
                    for _ in range(MAX_RIDERS):
                        if rider is None or not draft.fits(rider):
                            break
                        self._take(draft, rider)
                        next_round.update(dict.fromkeys(unlock.children(rider)))
                        rider = self._rider(turns[agent_id], worker_id, due_ms)
            waiting = next_round

    def _rider(self, turn: "_Turn", worker_id: str, due_ms: float | None) -> Operation | None:
        """An operation of the agent that builds on what it has in the batch."""
        while (operation := turn.ride()) is not None:
            if operation.operation_id in self.taken or not self._may(operation, worker_id):
                continue
            if due_ms is None or self.estimates.ancestors_confirmed_ms(operation) <= due_ms:
                return operation
        return None

    def _next(self, turn: "_Turn", worker_id: str, due_ms: float | None, *, closed: bool) -> Operation | None:
        """The agent's next operation that may join; gives the agent up after too many that may not."""
        passed_over = 0
        while passed_over < MAX_PASSED_OVER:
            operation = turn.next(self.state)
            if operation is None:
                return None
            if operation.operation_id in self.taken:
                continue
            if self._may(operation, worker_id) and self._is_due(operation, due_ms, closed=closed):
                return operation
            passed_over += 1
        return None

    def _is_due(self, operation: Operation, due_ms: float | None, *, closed: bool) -> bool:
        """Closed work has gathered its company; dependent work's ancestors confirm by `due_ms`."""
        if closed:
            # What a parent in this batch made ready has waited with it.
            if operation.unconfirmed:
                return True
            until_ms = self.gathering.until_ms(operation)
            if until_ms > self.now_ms:
                self._not_before(until_ms)
            return until_ms <= self.now_ms
        return due_ms is None or self.estimates.ancestors_confirmed_ms(operation) <= due_ms


def _seated(candidates: list[tuple[str, Operation]], places: int) -> Iterable[tuple[str, Operation]]:
    """Everyone, or, where places are short, half of them by turn and half by deadline, priority and admission."""
    if len(candidates) <= places:
        return candidates
    by_turn = (places + 1) // 2
    rest = sorted(candidates[by_turn:], key=lambda candidate: ready_key(candidate[1]))
    return candidates[:by_turn] + rest[: places - by_turn]


class _Turn:
    """One agent's operations in order: those that were ready, and those that the batch itself made ready."""

    __slots__ = ("_at", "_batch", "_queue", "_start", "_unlocked")

    def __init__(self, queue: ReadyQueue | None) -> None:
        self._queue = queue
        self._start = self._at = 0
        self._batch = 0
        self._unlocked: list[tuple[ReadyKey, Operation]] = []

    def begin(self, batch: int, taken: Mapping[str, None]) -> "_Turn":
        """Start over for another batch, after what earlier ones took from the front."""
        if batch != self._batch:
            self._batch = batch
            self._unlocked.clear()
            while (found := self._scan(self._start)) is not None and found[1][3] in taken:
                self._start = found[0] + 1
            self._at = self._start
        return self

    def _scan(self, position: int) -> tuple[int, ReadyKey] | None:
        return None if self._queue is None else self._queue.scan(position)

    def unlock(self, operation: Operation) -> None:
        heappush(self._unlocked, (ready_key(operation), operation))

    def ride(self) -> Operation | None:
        """The first operation that the batch made ready, whatever else the agent has in its queue."""
        return heappop(self._unlocked)[1] if self._unlocked else None

    def next(self, state: CoreState) -> Operation | None:
        """The next operation, which is used up for this batch."""
        found = self._scan(self._at)
        if self._unlocked and (found is None or self._unlocked[0][0] < found[1]):
            return heappop(self._unlocked)[1]
        if found is None:
            return None
        self._at = found[0] + 1
        return state.live[found[1][3]]


class _Unlock:
    """Finds the children that may join because their parents have."""

    __slots__ = ("_closed", "_missing", "_queues", "_search", "_turns")

    def __init__(
        self, search: _Search, queues: Mapping[str, ReadyQueue], turns: dict[str, _Turn], *, closed: bool
    ) -> None:
        self._search = search
        self._queues = queues
        self._turns = turns
        self._closed = closed
        self._missing: dict[str, int] = {}

    def children(self, operation: Operation) -> list[str]:
        """Puts them where their agents' turns find them; returns those agents."""
        agents: list[str] = []
        for child_id in operation.children:
            child = self._search.state.live.get(child_id)
            if child is None or child.state is not OperationState.QUEUED or child.group:
                continue
            missing = self._missing.get(child_id)
            if missing is None:
                missing = child.unconfirmed if self._closed else child.blocked
            missing -= 1
            self._missing[child_id] = missing
            if not missing:
                turn = self._turns.get(child.agent_id)
                if turn is None:
                    turn = _Turn(self._queues.get(child.agent_id))
                    self._turns[child.agent_id] = turn
                turn.begin(self._search.batch, self._search.taken).unlock(child)
                agents.append(child.agent_id)
        return agents
