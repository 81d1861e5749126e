"""How many proof workers there should be: a pure policy, which the shell carries out, or only shows (a dry run).

    demand    ceil(work · p95 / drain window): so many workers drain what waits, and what will come meanwhile, within
              the window, if every batch takes its 95th percentile; never fewer than deadlines need
    limits    clamped to [min_workers, max_workers]
    damping   up after `up_confirmations` looks in a row that wanted more, and then to what all of them wanted; down by
              one after `down_confirmations` looks that wanted fewer; after any step a cooldown, which each step down
              that had to be taken back doubles before the next one, up to eight times
    holding   a manual scale is left alone for `hold_ms`

What comes meanwhile is taken from the rate of arrivals, averaged over a few windows: without it, a queue that many
workers keep short would ask for few, and the pool would swing between the two. An increase for a deadline needs no
confirmation, and no cooldown holds it up: waiting is what it cannot afford.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from math import ceil, exp, inf

from coordinator.core.config import CoreConfig
from coordinator.core.cost import padded_rows
from coordinator.core.estimates import capacity, settle_ms
from coordinator.core.state import CoreState
from coordinator.core.states import BatchState

#: The rate of arrivals is averaged over so many drain windows.
RATE_WINDOWS = 2.0
#: Doublings of the cooldown before a step down.
MAX_REGRETS = 3
#: Queued operations that are looked at for their deadlines.
MAX_DEADLINES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingConfig:
    """The policy's numbers; the settings validate their ranges, and that `min_workers` ≤ `max_workers`."""

    min_workers: int = 1
    max_workers: int = 32
    drain_window_ms: int = 10_000
    up_confirmations: int = 2
    down_confirmations: int = 6
    up_cooldown_ms: int = 10_000
    down_cooldown_ms: int = 60_000
    hold_ms: int = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the policy looks at, at one instant; work is counted in rows of operations.

    `rows` wait or are being proved; `arrived_rows` ever came, of which the rate is taken; `batch_rows` are a whole
    batch's, and `batch_p95_ms` the time within which 95 % of such are proved; `deadline_workers`: workers without which
    a deadline is missed.
    """

    rows: int
    arrived_rows: int
    batch_rows: int
    batch_p95_ms: float
    deadline_workers: int = 0


class Why(StrEnum):
    """What a decision rests on."""

    STEADY = "steady"
    """As many as are wanted."""

    CONFIRMING = "confirming"
    """More, or fewer, are wanted, but not for long enough yet."""

    COOLDOWN = "cooldown"
    HELD = "held"
    """Somebody scaled by hand."""

    LIMIT = "limit"
    """More are wanted than `max_workers`, or fewer than `min_workers`."""

    UP = "up"
    DOWN = "down"
    DEADLINE = "deadline"
    """Up at once: a deadline needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the policy remembers between two looks; `rows_per_ms` arrive, on average.

    The latest step down was at `down_ms` and stands; of those before, `regrets` more were taken back than stood.
    """

    looked_ms: float | None = None
    arrived_rows: int = 0
    rows_per_ms: float = 0.0
    above: tuple[int, ...] = ()
    below: int = 0
    stepped_ms: float = -inf
    down_ms: float = -inf
    regrets: int = 0
    held_until_ms: float = -inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`target` workers from now on (the same as `current`: nothing to do), what was `wanted`, and why."""

    current: int
    wanted: int
    target: int
    why: Why
    load: Load
    rows_per_ms: float
    held_until_ms: float | None


def decide(
    memory: Memory, load: Load, config: ScalingConfig, *, current: int, now_ms: float
) -> tuple[Decision, Memory]:
    """One look: the decision, and what to remember for the next."""
    memory = _observe(memory, load, config, now_ms)
    demanded = max(demand(load, memory.rows_per_ms, config), load.deadline_workers)
    wanted = min(max(demanded, config.min_workers), config.max_workers)
    memory = replace(
        memory,
        above=(*memory.above, wanted)[-config.up_confirmations :] if wanted > current else (),
        below=memory.below + 1 if wanted < current else 0,
    )
    target, why = _step(memory, load, config, current=current, wanted=wanted, now_ms=now_ms)
    if why is Why.STEADY and demanded != wanted:
        why = Why.LIMIT
    if target != current:
        memory = _stepped(memory, config, up=target > current, now_ms=now_ms)
    held = memory.held_until_ms if memory.held_until_ms > now_ms else None
    decision = Decision(
        current=current,
        wanted=wanted,
        target=target,
        why=why,
        load=load,
        rows_per_ms=memory.rows_per_ms,
        held_until_ms=held,
    )
    return decision, memory


def demand(load: Load, rows_per_ms: float, config: ScalingConfig) -> int:
    """Workers that prove within the window what waits and what comes within it."""
    batches = (load.rows + rows_per_ms * config.drain_window_ms) / load.batch_rows
    return ceil(batches * load.batch_p95_ms / config.drain_window_ms - 1e-9)


def hold(memory: Memory, config: ScalingConfig, *, now_ms: float) -> Memory:
    """Somebody scaled by hand: leave it so for a while."""
    return replace(memory, above=(), below=0, stepped_ms=now_ms, held_until_ms=now_ms + config.hold_ms)


def _observe(memory: Memory, load: Load, config: ScalingConfig, now_ms: float) -> Memory:
    if memory.looked_ms is None or now_ms <= memory.looked_ms:  # the first look, or the clock was set back
        return replace(memory, looked_ms=now_ms, arrived_rows=load.arrived_rows)
    passed_ms = now_ms - memory.looked_ms
    sample = max(0, load.arrived_rows - memory.arrived_rows) / passed_ms
    kept = exp(-passed_ms / (RATE_WINDOWS * config.drain_window_ms))
    return replace(
        memory,
        looked_ms=now_ms,
        arrived_rows=load.arrived_rows,
        rows_per_ms=kept * memory.rows_per_ms + (1.0 - kept) * sample,
    )


def _patience_ms(memory: Memory, config: ScalingConfig) -> int:
    return config.down_cooldown_ms << memory.regrets


def _stepped(memory: Memory, config: ScalingConfig, *, up: bool, now_ms: float) -> Memory:
    regrets, down_ms = memory.regrets, now_ms
    if up:
        regretted = now_ms - memory.down_ms < 2 * _patience_ms(memory, config)
        regrets, down_ms = min(regrets + regretted, MAX_REGRETS), -inf
    elif memory.down_ms > -inf:
        regrets = max(0, regrets - 1)
    return replace(memory, above=(), below=0, stepped_ms=now_ms, down_ms=down_ms, regrets=regrets)


def _step(
    memory: Memory, load: Load, config: ScalingConfig, *, current: int, wanted: int, now_ms: float
) -> tuple[int, Why]:
    """The number of workers after this look, and why."""
    if memory.held_until_ms > now_ms:
        return current, Why.HELD
    needed = min(load.deadline_workers, config.max_workers)
    if needed > current:
        return needed, Why.DEADLINE
    if wanted == current:
        return current, Why.STEADY
    since_ms = now_ms - memory.stepped_ms
    if wanted > current:
        if len(memory.above) < config.up_confirmations:
            return current, Why.CONFIRMING
        if since_ms < config.up_cooldown_ms:
            return current, Why.COOLDOWN
        return min(memory.above), Why.UP
    if memory.below < config.down_confirmations:
        return current, Why.CONFIRMING
    if since_ms < _patience_ms(memory, config):
        return current, Why.COOLDOWN
    return current - 1, Why.DOWN


def load_of(state: CoreState, config: CoreConfig, *, now_ms: float) -> Load:
    """The load as the core's state shows it."""
    cost = state.totals.cost
    max_operations, batch_rows = capacity(config, cost)
    if config.batch_size is not None and state.queued:
        batch_rows = min(batch_rows, max(1, ceil(max_operations * state.queued_rows / state.queued)))
    p95_ms = cost.p95_ms(padded_rows(batch_rows))
    proving = (one for one in state.batches.values() if one.state is BatchState.PROVING)
    return Load(
        rows=state.queued_rows + sum(batch.operation_rows for batch in proving),
        arrived_rows=cost.started_rows + state.queued_rows,
        batch_rows=batch_rows,
        batch_p95_ms=p95_ms,
        deadline_workers=_deadline_workers(state, config, batch_rows, p95_ms, now_ms),
    )


def _deadline_workers(
    state: CoreState, config: CoreConfig, batch_rows: int, p95_ms: float, now_ms: float
) -> int:
    """The most that any deadline needs: what is due by then, proved by then, less a confirmation.

    A deadline that not even a batch of its own could meet asks for nothing: workers do not help it.
    """
    latest_ms = now_ms + settle_ms(state, config)
    needed, rows = 0, 0
    for deadline_ms, operation_rows in sorted(islice(_deadlines(state), MAX_DEADLINES)):
        rows += operation_rows
        rounds = int((deadline_ms - latest_ms) // p95_ms)
        if rounds >= 1:
            needed = max(needed, ceil(ceil(rows / batch_rows) / rounds))
    return needed


def _deadlines(state: CoreState) -> Iterator[tuple[int, int]]:
    """(deadline, rows) of what may be proved; each agent's queue begins with its deadlines."""
    for queues in (state.ready.closed, state.ready.dependent):
        for queue in queues.values():
            for operation_id in queue:
                operation = state.live[operation_id]
                if operation.deadline_ms is None:
                    break
                yield operation.deadline_ms, operation.rows
