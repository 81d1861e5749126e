"""The test of the tests: a coordinator that is broken in one place is caught, for each invariant and then some."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from coordinator.core import (
    admission,
    batches,
    breaker,
    confirmation,
    fold_admission,
    fold_batches,
    fold_ends,
    operators,
    rollback,
    speculation,
    ticks,
)
from coordinator.core.core import Core
from coordinator.core.events import BatchConfirmed
from coordinator.core.invariants import CHECKS
from coordinator.core.states import Denial, TransactionStatus
from coordinator.shell.journal import Journal
from coordinator.sim.faults import ALL
from coordinator.sim.plan import Plan
from coordinator.sim.run import run

#: Runs in which a broken coordinator must be caught at the latest.
MAX_SEEDS = 12
OPERATIONS = 120

Break = Callable[[pytest.MonkeyPatch], None]


def _without_rule(denial: Denial) -> Break:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(
            speculation, "RULES", tuple(one for one in speculation.RULES if one.denial is not denial)
        )

    return break_it


def _submits_before_the_parents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fold_batches, "_waits_on", lambda *_: [])


def _plans_against_the_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batches, "_parents_in_flight", lambda *_: True)
    patch.setattr(fold_batches, "_waits_on", lambda *_: [])


def _keeps_a_lamport(patch: pytest.MonkeyPatch) -> None:
    whole = fold_ends._return_bond

    def short(state: Any, operation: Any) -> None:
        whole(state, operation)
        state.agents[operation.bonded_by].free_lamports -= 1

    patch.setattr(fold_ends, "_return_bond", short)


def _pays_victims_twice(patch: pytest.MonkeyPatch) -> None:
    whole = fold_ends._slash

    def generous(state: Any, operation: Any, event: Any, slash: Any) -> None:
        whole(state, operation, event, slash)
        state.totals.treasury_lamports += slash.lamports

    patch.setattr(fold_ends, "_slash", generous)


def _forgets_branches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fold_ends, "count_branches", lambda *_: None)


def _takes_unknown_parents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        admission, "_check_parents", lambda core, submission, _refused: core.live(list(submission.parents))
    )
    patch.setattr(
        admission,
        "resolve_parents",
        lambda core, parents, staged: tuple(core.state.commitment_of(one) or bytes(32) for one in parents),
    )


def _ranks_children_first(patch: pytest.MonkeyPatch) -> None:
    whole = fold_admission._record

    def backwards(*args: Any, **kwargs: Any) -> Any:
        operation = whole(*args, **kwargs)
        operation.rank = -operation.rank
        return operation

    patch.setattr(fold_admission, "_record", backwards)


def _leaves_descendants_behind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rollback, "with_descendants", lambda _state, roots: list(roots))


def _ancestors_first(patch: pytest.MonkeyPatch) -> None:
    whole = rollback.with_descendants
    patch.setattr(rollback, "with_descendants", lambda *args: whole(*args)[::-1])


def _looks_at_claims_in_vain(patch: pytest.MonkeyPatch) -> None:
    def never(question: speculation.Question) -> bool:
        question.find_claims()
        return False

    rules = [
        speculation.Rule(one.denial, never) if one.denial is Denial.CLAIM_WINDOW else one
        for one in speculation.RULES
    ]
    patch.setattr(speculation, "RULES", tuple(rules))


def _takes_spent_nullifiers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(admission, "_check_unspent", lambda *_: None)


def _lets_rivals_live(patch: pytest.MonkeyPatch) -> None:
    """The rivals of a confirmed operation are not rolled back."""

    def confirm(core: Core, batch: Any, seen: Any, queueable: Any, *, now_ms: int) -> None:
        members = list(core.state.members(batch))
        core.emit(BatchConfirmed(now_ms, batch.batch_id, seen.transaction, seen.slot))
        for operation in members:
            queueable.update(dict.fromkeys(operation.children))

    patch.setattr(confirmation, "_confirm", confirm)


def _ends_what_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    def at_once(core: Core, roots: Any, *, cause: str, commanded: bool = False, now_ms: int) -> Any:
        ended, lost = rollback.end(core, roots, cause=cause, commanded=commanded, now_ms=now_ms)
        rollback.return_batches(core, lost, rollback.ReturnReason.MEMBER_LOST, detail=cause, now_ms=now_ms)
        return rollback.Outcome(rolled_back=ended, pending=())

    for module in (ticks, operators, confirmation):
        patch.setattr(module, "roll_back", at_once)


def _forgets_what_waits(patch: pytest.MonkeyPatch) -> None:
    """A dead transaction does not end what waited for its death."""
    patch.setattr(confirmation, "end_pending", lambda *_, **__: [])


def _confirms_what_is_only_included(patch: pytest.MonkeyPatch) -> None:
    whole = confirmation._observe

    def hasty(core: Core, batch: Any, seen: Any, queueable: Any, *, now_ms: int) -> None:
        if seen.status is TransactionStatus.INCLUDED and seen.transaction == batch.transaction:
            seen = type(seen)(
                transaction=seen.transaction, status=TransactionStatus.CONFIRMED, slot=seen.slot
            )
        whole(core, batch, seen, queueable, now_ms=now_ms)

    patch.setattr(confirmation, "_observe", hasty)


def _blames_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(confirmation, "_named", lambda core, batch, _seen: list(core.state.members(batch)))


def _tells_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    whole = Journal.commit

    async def hasty(journal: Journal, **parts: Any) -> None:
        if journal._engine._events:
            journal._kept = asyncio.ensure_future(whole(journal, **parts))  # type: ignore[attr-defined]  # a mutation
            await asyncio.sleep(0)

    patch.setattr(Journal, "commit", hasty)


def _never_closes_the_breaker(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(breaker, "next_move", lambda *_, **__: 1 / 0)


#: By the invariant that it breaks (the last ones break what the simulator promises beside the eight): how it is broken,
#: and what the simulator says then (a regular expression). The core's own assertions may speak before the check does.
BREAKS: Mapping[str, tuple[tuple[Break, str], ...]] = {
    "proof_ordering": (
        (_submits_before_the_parents, "invariant proof_ordering"),
        (_plans_against_the_order, "invariant proof_ordering"),
    ),
    "stake_conservation": (
        (_keeps_a_lamport, "invariant stake_conservation"),
        (_pays_victims_twice, "invariant stake_conservation"),
    ),
    "depth_and_branches": (
        (_without_rule(Denial.DEPTH_LIMIT), "invariant depth_and_branches"),
        (_without_rule(Denial.BRANCH_LIMIT), "invariant depth_and_branches"),
        (_forgets_branches, "invariant depth_and_branches"),
    ),
    "acyclic": (
        (_takes_unknown_parents, "is neither live nor confirmed|invariant acyclic"),
        (_ranks_children_first, "invariant acyclic"),
    ),
    "leaves_first": (
        (_leaves_descendants_behind, "a descendant outlived it|invariant leaves_first"),
        (_ancestors_first, "a descendant outlived it|invariant leaves_first"),
    ),
    "claim_window": (
        (_without_rule(Denial.CLAIM_WINDOW), "while the claim of"),
        (_looks_at_claims_in_vain, "while the claim of"),
    ),
    "no_double_spend": (
        (_takes_spent_nullifiers, "invariant no_double_spend"),
        (_lets_rivals_live, "invariant no_double_spend"),
    ),
    "no_zombie": (
        (_ends_what_is_on_its_way, "SUBMITTING → ROLLED_BACK|invariant no_zombie"),
        (_forgets_what_waits, "invariant no_zombie|have not ended within"),
    ),
    "finality": ((_confirms_what_is_only_included, "is not final on chain"),),
    "innocence": ((_blames_everybody, "and did nothing"),),
    "durability": ((_tells_before_it_is_written, "acknowledged before it was on the disk"),),
    "no_defects": ((_never_closes_the_breaker, "ZeroDivisionError"),),
}
CASES = [
    pytest.param(break_it, words, id=f"{name}-{number}")
    for name, some in BREAKS.items()
    for number, (break_it, words) in enumerate(some)
]


@pytest.mark.parametrize(("break_it", "words"), CASES)
def test_a_broken_coordinator_is_caught(break_it: Break, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    for seed in range(MAX_SEEDS):
        violation = run(Plan(seed=seed, operations=OPERATIONS, faults=ALL)).violation
        if violation is not None:
            assert re.search(words, violation), violation
            return
    pytest.fail(f"not caught in {MAX_SEEDS} runs of {OPERATIONS} operations")


def test_every_invariant_is_broken_by_some() -> None:
    assert BREAKS.keys() >= CHECKS.keys()
