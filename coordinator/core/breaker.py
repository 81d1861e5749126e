"""The circuit breaker: opens on too many rollbacks or errors, pauses, probes, closes. It says why.

Operators' own rollbacks are left out of its window; every move empties the window.
"""

from typing import TYPE_CHECKING

from coordinator.core.config import CoreConfig
from coordinator.core.events import BreakerChanged
from coordinator.core.states import BreakerState

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

FINALITY_VIOLATION = "finality_violation"


def next_move(state: "CoreState", config: CoreConfig, *, now_ms: int) -> BreakerChanged | None:
    """The move that the breaker makes now, if any."""
    breaker = state.breaker
    if breaker.state is BreakerState.CLOSED:
        reason = why_open(state, config, now_ms=now_ms)
        return None if reason is None else opened(reason, config, now_ms=now_ms)
    if breaker.state is BreakerState.OPEN:
        if breaker.until_ms is not None and now_ms < breaker.until_ms:
            return None
        return BreakerChanged(
            now_ms, BreakerState.HALF_OPEN, f"{config.breaker_probes} probes after: {breaker.reason}", None
        )
    if breaker.probe_failure:
        return opened(breaker.probe_failure, config, now_ms=now_ms)
    if breaker.probes_confirmed >= config.breaker_probes:
        return BreakerChanged(
            now_ms, BreakerState.CLOSED, f"{breaker.probes_confirmed} probes were confirmed", None
        )
    return None


def opened(reason: str, config: CoreConfig, *, now_ms: int) -> BreakerChanged:
    """Open it, for a reason, until the pause is over."""
    return BreakerChanged(now_ms, BreakerState.OPEN, reason, now_ms + config.breaker_pause_ms)


def window_counts(state: "CoreState", config: CoreConfig, *, now_ms: int) -> tuple[int, int, int]:
    """(finished, rolled back, failed) in the window, by whole seconds."""
    oldest_second = (now_ms - config.breaker_window_ms) // 1_000
    finished = rolled_back = failed = 0
    for bucket in reversed(state.breaker.window):
        if bucket.second <= oldest_second:
            break
        finished += bucket.finished
        rolled_back += bucket.rolled_back
        failed += bucket.failed
    return finished, rolled_back, failed


def why_open(state: "CoreState", config: CoreConfig, *, now_ms: int) -> str | None:
    """The reason to open, from the window, or None."""
    finished, rolled_back, failed = window_counts(state, config, now_ms=now_ms)
    if finished < config.breaker_min_finished:
        return None
    window_s = config.breaker_window_ms // 1_000
    for name, count, limit in (
        ("rollbacks", rolled_back, config.breaker_rollback_ratio),
        ("errors", failed, config.breaker_error_ratio),
    ):
        if count > limit * finished:
            return f"{name}: {count} of {finished} finished in {window_s} s, more than {limit:.0%}"
    return None


def refuses(state: "CoreState", config: CoreConfig) -> bool:
    """Whether speculation is refused: open, or half-open with all probes given out."""
    breaker = state.breaker
    if breaker.state is BreakerState.CLOSED:
        return False
    if breaker.state is BreakerState.OPEN:
        return True
    return len(breaker.probes) + breaker.probes_confirmed >= config.breaker_probes
