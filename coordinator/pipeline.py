"""Where operations spend their time on the way from admission to confirmation, measured, and what would help.

The stages are read off the operations' own timelines (`STAGE_OF`); only `admit`, the time from a request's arrival
until its operations are durable, is measured where it happens (`AdmissionTimes`), since the timeline begins after it.
An operation that the planner holds in the queue until its ancestors in flight confirm waits for parents, not for a
worker.

The bottleneck is the stage with the greatest mean time above what it takes by its nature (`floor_s`: a confirmation
cannot be quicker than the chain's depth). Operations that are still under way count with their time so far: a stage
that lets nothing through would otherwise never show.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice, pairwise, takewhile

from coordinator.core.config import CoreConfig
from coordinator.core.planner import DEPENDENT
from coordinator.core.records import Operation
from coordinator.core.state import CoreState
from coordinator.core.states import OperationState

DEFAULT_WINDOW_S = 300
#: Operations looked at, of those that ended and of those under way each: a request stays quick at any load.
SAMPLED_OPERATIONS = 500
#: Admissions remembered.
_KEPT_ADMISSIONS = 2_000
#: Less than this above its floor, and a stage holds nothing up.
NOTICEABLE_S = 0.1


class Stage(StrEnum):
    """The stages in the order in which an operation passes them."""

    ADMIT = "admit"
    WAIT_FOR_PARENTS = "wait_for_parents"
    QUEUE = "queue"
    PROVE = "prove"
    SUBMIT = "submit"
    CONFIRM = "confirm"


_S = OperationState
STAGE_OF: Mapping[OperationState, Stage] = {
    _S.SPECULATING: Stage.WAIT_FOR_PARENTS,
    _S.DEFERRED: Stage.WAIT_FOR_PARENTS,
    _S.AWAITING_ANCESTORS: Stage.WAIT_FOR_PARENTS,
    _S.QUEUED: Stage.QUEUE,
    _S.PROVING: Stage.PROVE,
    _S.PROVED: Stage.SUBMIT,
    _S.SUBMITTING: Stage.CONFIRM,
}


@dataclass(slots=True)
class AdmissionTimes:
    """How long the latest submissions took from their arrival until they were durable."""

    _latest: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_KEPT_ADMISSIONS))

    def add(self, *, at_ms: int, took_s: float) -> None:
        """Remember one request, whatever the number of its operations."""
        self._latest.append((at_ms, took_s))

    def since(self, oldest_ms: int) -> list[float]:
        """Seconds of each that ended at `oldest_ms` or later."""
        return [took_s for at_ms, took_s in self._latest if at_ms >= oldest_ms]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """One stage: seconds an operation spent in it (visits added up), what is in it now, and its share of the whole.

    `mean_s` counts every sampled operation, also those that passed through in no time or have not come so far.
    `oldest_s` is the longest that one of the sampled operations under way has been in it without a break.
    """

    stage: Stage
    mean_s: float
    p50_s: float
    p99_s: float
    floor_s: float
    share: float
    operations_now: int
    oldest_s: float | None

    @property
    def excess_s(self) -> float:
        """Mean time above what the stage takes by its nature."""
        return max(self.mean_s - self.floor_s, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The pipeline over a window: the stages in their order, and how many operations they were measured on."""

    window_s: int
    confirmed: int
    under_way: int
    sampled: int
    confirmed_per_s: float
    stages: tuple[StageTimes, ...]

    @property
    def ranked(self) -> list[StageTimes]:
        """The stages, the slowest above its floor first; of equals, the earlier one."""
        return sorted(self.stages, key=lambda stage: -stage.excess_s)

    @property
    def bottleneck(self) -> StageTimes | None:
        """The slowest stage, or None where none is noticeably slower than it must be."""
        slowest = self.ranked[0]
        return slowest if slowest.excess_s >= NOTICEABLE_S else None


def analyze(
    state: CoreState,
    config: CoreConfig,
    admissions: AdmissionTimes,
    *,
    now_ms: int,
    window_s: int = DEFAULT_WINDOW_S,
) -> Analysis:
    """Measure the stages over what was confirmed within the window and what is under way."""
    oldest_ms = now_ms - window_s * 1_000
    recent = takewhile(lambda one: (one.ended_at_ms or 0) >= oldest_ms, reversed(state.ended.values()))
    confirmed = [one for one in islice(recent, SAMPLED_OPERATIONS) if one.state is _S.CONFIRMED]
    under_way = list(islice(state.live.values(), SAMPLED_OPERATIONS))
    spent = [stage_seconds(one, now_ms=now_ms) for one in (*confirmed, *under_way)]
    admitted_s = admissions.since(oldest_ms)
    seconds = {stage: sorted(each.get(stage, 0.0) for each in spent) for stage in Stage}
    seconds[Stage.ADMIT] = sorted(admitted_s)
    means = {stage: _mean(values) for stage, values in seconds.items()}
    total_s = sum(means.values())
    floors = {Stage.CONFIRM: (config.confirmation_slots + 1) * config.slot_ms / 1_000}
    now_in = _counts(state)
    oldest = _oldest(under_way, now_ms)
    stages = tuple(
        StageTimes(
            stage=stage,
            mean_s=means[stage],
            p50_s=_quantile(seconds[stage], 0.5),
            p99_s=_quantile(seconds[stage], 0.99),
            floor_s=floors.get(stage, 0.0),
            share=means[stage] / total_s if total_s else 0.0,
            operations_now=now_in.get(stage, 0),
            oldest_s=oldest.get(stage),
        )
        for stage in Stage
    )
    return Analysis(
        window_s=window_s,
        confirmed=len(confirmed),
        under_way=state.open_operations,
        sampled=len(spent),
        confirmed_per_s=_rate(confirmed, now_ms, window_s),
        stages=stages,
    )


def stage_seconds(operation: Operation, *, now_ms: int) -> dict[Stage, float]:
    """What the operation spent in each stage until now, or until its end."""
    timeline = operation.timeline
    spent: dict[Stage, float] = {}
    for (at_ms, state, _), following in pairwise(timeline):
        stage = STAGE_OF.get(state)
        if stage is Stage.QUEUE and following[2] == DEPENDENT:
            stage = Stage.WAIT_FOR_PARENTS
        if stage is not None:
            spent[stage] = spent.get(stage, 0.0) + (following[0] - at_ms) / 1_000
    stage = stage_now(operation)
    if stage is not None:
        since_s = max(now_ms - timeline[-1][0], 0) / 1_000
        spent[stage] = spent.get(stage, 0.0) + since_s
    return spent


def stage_now(operation: Operation) -> Stage | None:
    """Where an operation under way is; None once it has ended."""
    stage = STAGE_OF.get(operation.state)
    if stage is Stage.QUEUE and operation.unconfirmed and not operation.blocked:
        return Stage.WAIT_FOR_PARENTS
    return stage


def _counts(state: CoreState) -> dict[Stage, int]:
    counts: dict[Stage, int] = {}
    for at, stage in STAGE_OF.items():
        counts[stage] = counts.get(stage, 0) + state.counts[at]
    return counts


def _oldest(under_way: Iterable[Operation], now_ms: int) -> dict[Stage, float]:
    oldest: dict[Stage, float] = {}
    for operation in under_way:
        stage = stage_now(operation)
        if stage is not None:
            since_s = (now_ms - operation.timeline[-1][0]) / 1_000
            oldest[stage] = max(oldest.get(stage, 0.0), since_s)
    return oldest


def _rate(confirmed: Sequence[Operation], now_ms: int, window_s: int) -> float:
    """Confirmations a second, over the time that the sample covers (newest first)."""
    if not confirmed:
        return 0.0
    covered_s = float(window_s)
    if len(confirmed) >= SAMPLED_OPERATIONS:
        covered_s = (now_ms - (confirmed[-1].ended_at_ms or now_ms)) / 1_000
    return len(confirmed) / max(covered_s, 0.001)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
