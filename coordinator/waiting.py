"""When a wait for a state is over: it, a later one, or an end. Server and client go by the same order."""

from coordinator.core.states import TERMINAL, OperationState

_S = OperationState

#: How far along each state is; an operation may go back, so this is an order of progress, not of time.
_PROGRESS: dict[OperationState, int] = {
    _S.SUBMITTED: 0,
    _S.SPECULATING: 1,
    _S.DEFERRED: 1,
    _S.QUEUED: 2,
    _S.PROVING: 3,
    _S.PROVED: 4,
    _S.AWAITING_ANCESTORS: 5,
    _S.SUBMITTING: 6,
    _S.CONFIRMED: 7,
    _S.ROLLED_BACK: 7,
    _S.FAILED: 7,
}


def reached_states(state: OperationState) -> frozenset[OperationState]:
    """The states in which a wait for `state` is over."""
    later = {other for other, progress in _PROGRESS.items() if progress > _PROGRESS[state]}
    return frozenset({state} | later | TERMINAL)
