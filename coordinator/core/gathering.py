"""How long closed work waits for company before it is proved.

An operation that is proved at once and whose child comes a moment later costs the child a whole confirmation: the
child's batch may be submitted only when the first one's is confirmed. So while agents speculate, an operation waits
until the operations that build on it have stopped coming:

    after each arrival          quiet_ms, at most a small share of a confirmation: `gather_ratio` (8 %) where nothing is
                                known; once an agent's type is known, half as long again as its children usually take,
                                where that is worth it, and not at all where no child ever comes
    from the oldest's admission at most one confirmation. What waits loses then no more than what is missed would
                                have cost (the ski-rental rule: at most twice the best that hindsight could do)
    with a deadline             only while the deadline can still be met

Nothing waits when a whole batch is queued already, or while nobody may speculate: no child comes before confirmation.
Pure, as all of the planner: the same state and time give the same answer.
"""

from coordinator.core.config import CoreConfig
from coordinator.core.estimates import Estimates, capacity
from coordinator.core.records import Operation
from coordinator.core.speculation import speculation_on
from coordinator.core.state import CoreState
from coordinator.core.states import BreakerState, OperationState

#: A known gap between an operation and its child is waited for this many times, since gaps vary …
GAP_MARGIN = 1.5
#: … where that is at most this share of what it saves: a confirmation, times the share that has a child.
WORTH = 0.5
#: Of the operations of a type, so few have children that waiting for them is not worth it.
RARELY = 0.05


class Gathering:
    """When each closed operation may go; one call of the planner."""

    def __init__(self, state: CoreState, config: CoreConfig, estimates: Estimates) -> None:
        self._state = state
        self._estimates = estimates
        self._ratio = config.gather_ratio
        self._last_arrival_ms: dict[str, float] = {}
        max_operations, max_rows = capacity(config, state.totals.cost)
        self.on = (
            config.gather_ratio > 0.0
            and speculation_on(state, config)
            and state.breaker.state is not BreakerState.OPEN
            and state.queued < max_operations
            and state.queued_rows < max_rows
        )

    def until_ms(self, operation: Operation) -> float:
        """When the operation has waited long enough for those that build on it."""
        if not self.on:
            return 0.0
        until_ms = min(self._complete_ms(operation), operation.admitted_at_ms + self._estimates.settle_ms)
        if operation.deadline_ms is not None:
            needed_ms = self._estimates.prove_ms(operation.rows) + self._estimates.settle_ms
            until_ms = min(until_ms, operation.deadline_ms - needed_ms)
        return until_ms

    def _complete_ms(self, root: Operation) -> float:
        """When no more queued operations are expected to build on it, on its children, and so on.

        With its own stack: a chain may be longer than Python's.
        """
        known = self._last_arrival_ms
        stack = [root]
        while stack:
            top = stack[-1]
            children = self._queued_children(top)
            missing = [child for child in children if child.operation_id not in known]
            if missing:
                stack += missing
                continue
            stack.pop()
            until_ms = top.admitted_at_ms + self._quiet_ms(top)
            known[top.operation_id] = max([until_ms, *(known[child.operation_id] for child in children)])
        return known[root.operation_id]

    def _queued_children(self, operation: Operation) -> list[Operation]:
        found = (self._state.live.get(child_id) for child_id in operation.children)
        return [child for child in found if child is not None and child.state is OperationState.QUEUED]

    def _quiet_ms(self, operation: Operation) -> float:
        """How long after its admission a child of it is still expected."""
        settle_ms = self._estimates.settle_ms
        seen = self._state.agents[operation.agent_id].by_type.get(operation.operation_type)
        if seen is None or seen.company is None:
            return self._ratio * settle_ms
        if seen.company < RARELY:
            return 0.0
        if seen.gap_ms is None:
            return self._ratio * settle_ms
        expected_ms = GAP_MARGIN * seen.gap_ms
        worth_it = expected_ms <= WORTH * seen.company * settle_ms
        return expected_ms if worth_it else self._ratio * settle_ms
