"""A sampling profiler inside the process: what is left where no debugger may attach.

It takes the Python stacks of all threads by the wall clock, waiting ones too, and sees no native frames. The lock that
Python takes for it falls between bytecodes, so that long native calls are seen a little less often than they run.
"""

import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import NamedTuple, TypeAlias

INTERVAL_S = 0.01
#: Distinct stacks kept; further ones are counted under `OVERFLOW`.
MAX_STACKS = 20_000
_MAX_DEPTH = 256


class Frame(NamedTuple):
    """One function on a stack; `line` is where it stood, 0 where that is not known."""

    function: str
    file: str
    line: int


#: From the outermost call to the innermost.
Stack: TypeAlias = tuple[Frame, ...]

OVERFLOW: Stack = (Frame("(more stacks than are kept)", "", 0),)


def sample(duration_s: float, *, stop: threading.Event | None = None) -> dict[Stack, int]:
    """How often each stack was met within `duration_s`, this function's own left out. Blocks; `stop` ends it early."""
    stop = stop or threading.Event()
    own = threading.get_ident()
    counts: Counter[Stack] = Counter()
    deadline_s = time.monotonic() + duration_s
    while (left_s := deadline_s - time.monotonic()) > 0 and not stop.wait(min(INTERVAL_S, left_s)):
        for thread_id, innermost in sys._current_frames().items():
            if thread_id != own:
                stack = _stack(innermost)
                counts[stack if stack in counts or len(counts) < MAX_STACKS else OVERFLOW] += 1
    return dict(counts)


def _stack(innermost: FrameType) -> Stack:
    frames: list[Frame] = []
    frame: FrameType | None = innermost
    while frame is not None and len(frames) < _MAX_DEPTH:
        code = frame.f_code
        frames.append(Frame(code.co_qualname, code.co_filename, frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(reversed(frames))
