"""From a failing run to a small one that fails the same way: fewer steps, fewer kinds of faults (delta debugging).

Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002), on the list of steps and on the list
of kinds. It works well here because each step and kind draws from a stream of its own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from coordinator.sim.plan import Outcome, Plan
from coordinator.sim.run import run

T = TypeVar("T")

#: Runs that shrinking may take.
MAX_RUNS = 150


class _Search:
    """Tries plans while runs are left; `found` is the smallest failing one."""

    def __init__(self, failing: Outcome, max_runs: int) -> None:
        assert failing.violation is not None, "only a failing run is shrunk"
        self.found = failing
        self._kind = kind_of(failing.violation)
        self._left = max_runs

    @property
    def spent(self) -> bool:
        return self._left <= 0

    def fails(self, plan: Plan) -> bool:
        """Whether the plan fails the same way; it is kept if it does."""
        if self.spent:
            return False
        self._left -= 1
        outcome = run(plan)
        if outcome.violation is None or kind_of(outcome.violation) != self._kind:
            return False
        self.found = outcome
        return True


def kind_of(violation: str) -> str:
    """What kind of violation it is: its first words, without names and numbers."""
    return re.sub(r"\S*\d\S*", "#", violation.partition(":")[0])


def shrink(failing: Outcome, *, max_runs: int = MAX_RUNS) -> Outcome:
    """The smallest run found that fails as this one does."""
    search = _Search(failing, max_runs)
    plan = failing.plan
    steps = plan.steps if plan.steps is not None else tuple(range(failing.steps))
    search.fails(replace(plan, steps=steps))
    _reduce(
        search,
        search.found.plan.faults.kinds,
        lambda kinds: replace(search.found.plan, faults=search.found.plan.faults.only(kinds)),
    )
    if search.found.plan.steps is not None:
        _reduce(search, search.found.plan.steps, lambda some: replace(search.found.plan, steps=tuple(some)))
    return search.found


def _reduce(search: _Search, items: Sequence[T], plan_of: Callable[[Sequence[T]], Plan]) -> None:
    """ddmin: leaves out ever smaller parts, as long as the rest still fails."""
    left, parts = list(items), 2
    while left and not search.spent:
        size = max(1, len(left) // parts)
        for start in range(0, len(left), size):
            rest = left[:start] + left[start + size :]
            if search.fails(plan_of(rest)):
                left, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                return
            parts = min(len(left), 2 * parts)
