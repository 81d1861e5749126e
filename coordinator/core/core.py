"""What the parts of the engine share: the state, the configuration, and the one way to change anything (`emit`)."""

from collections.abc import Sequence

from coordinator.core import breaker, fold
from coordinator.core.config import CoreConfig
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import Event
from coordinator.core.records import Agent, Operation
from coordinator.core.state import CoreState


class Core:
    """State, configuration, the events decided since the last `take_events`, and what the shell has observed.

    `config` may be replaced at any time. `memory_bytes` is the process's memory as the shell last saw it. Neither
    they nor the workers' names enter the fold: what a decision took from them stands in its events.
    """

    def __init__(self, state: CoreState, config: CoreConfig) -> None:
        self.state = state
        self.config = config
        self.memory_bytes = 0
        self.worker_ids: tuple[str, ...] = ()
        self._events: list[Event] = []
        self._cancelled: list[str] = []

    def replace_state(self, state: CoreState) -> None:
        """Go on from another state; what was decided on the one before and is not durable never was."""
        self.state = state
        self._events = []
        self._cancelled = []

    def set_workers(self, worker_ids: Sequence[str]) -> None:
        """The workers that exist now, busy or idle."""
        self.worker_ids = tuple(worker_ids)

    def emit(self, event: Event) -> None:
        """Apply an event at once, and keep it for the log."""
        self.state.apply(event)
        self._events.append(event)

    def record(self, event: Event) -> None:
        """Keep an event for the log whose effects were applied while it was decided."""
        fold.note_time(self.state, event)
        self._events.append(event)

    def take_events(self) -> list[Event]:
        """The events since the last call, all applied; to be made durable together, before anyone is told."""
        taken, self._events = self._events, []
        return taken

    def cancel_batch(self, batch_id: str) -> None:
        """Note that a worker proves this batch in vain."""
        self._cancelled.append(batch_id)

    def cancelled_batches(self) -> list[str]:
        """The batches since the last call whose proving the shell should stop."""
        taken, self._cancelled = self._cancelled, []
        return taken

    def agent(self, agent_id: str) -> Agent:
        """The agent's record.

        Raises:
            CoreError: `unknown_agent`.
        """
        found = self.state.agents.get(agent_id)
        if found is None:
            raise CoreError(ErrorCode.UNKNOWN_AGENT, f"no agent {agent_id!r}", field="agent_id")
        return found

    def live(self, operation_ids: Sequence[str]) -> list[Operation]:
        """Those of the operations that have not ended."""
        live = self.state.live
        return [live[operation_id] for operation_id in operation_ids if operation_id in live]

    def move_breaker(self, *, now_ms: int) -> None:
        """Let the circuit breaker make the move that is due, after operations have ended or time has passed."""
        move = breaker.next_move(self.state, self.config, now_ms=now_ms)
        if move is not None:
            self.emit(move)
