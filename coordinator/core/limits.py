"""Limits that stop admission: what is in use is never dropped, new work waits or is refused until use has fallen."""

from typing import TYPE_CHECKING

from coordinator.core.config import CoreConfig
from coordinator.core.errors import CoreError, ErrorCode

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

#: Rows of a proof that are no operation's: they blind it (proof.md, section 1).
PADDING_ROWS = 256
#: Operations that one receipt's verifier accepts in a batch.
MAX_BATCH_OPERATIONS = 4_096
_MEGABYTE = 1 << 20


def check_room(state: "CoreState", config: CoreConfig) -> CoreError | None:
    """`queue_full` when the proof queue or the number of open operations is at its limit."""
    if state.queued >= config.queue_size:
        return CoreError(ErrorCode.QUEUE_FULL, f"the proof queue holds {state.queued} operations, its limit")
    if state.open_operations >= config.max_open_operations:
        return CoreError(ErrorCode.QUEUE_FULL, f"{state.open_operations} operations are open, the limit")
    return None


def check_rows(rows: int, config: CoreConfig) -> CoreError | None:
    """`output_too_large` when the operation alone does not fit the greatest proof."""
    limit = (1 << config.max_log_rows) - PADDING_ROWS
    if rows > limit:
        return CoreError(
            ErrorCode.OUTPUT_TOO_LARGE, f"{rows} rows, a proof has room for {limit}", field="output"
        )
    return None


def memory_exhausted(state: "CoreState", config: CoreConfig, observed_bytes: int) -> bool:
    """Whether the process, or the open operations by themselves, take more than the limit."""
    return max(state.open_bytes, observed_bytes) >= config.max_memory_mb * _MEGABYTE
