"""When to ask again, and after how long: pure decisions, the same for both clients."""

import random
from dataclasses import dataclass, field

#: The server said that waiting helps.
RETRY_STATUSES = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """At most `attempts` tries in all, with a growing and randomised pause between them.

    A pause is drawn from 0 up to base × 2^n, at most `cap_s` ("full jitter": many clients do not come back at
    the same moment); a Retry-After of the server is waited for at least, up to `cap_s`.
    """

    attempts: int = 8
    base_s: float = 0.1
    cap_s: float = 10.0
    rng: random.Random = field(default_factory=random.Random)

    def pause_s(self, attempt: int, *, retry_after: str | None = None) -> float | None:
        """Seconds to wait after the failed try number `attempt` (from 1); None: give up."""
        if attempt >= self.attempts:
            return None
        pause_s = self.rng.uniform(0, min(self.base_s * 2 ** (attempt - 1), self.cap_s))
        if retry_after is not None and retry_after.isascii() and retry_after.isdecimal():
            pause_s += min(float(retry_after), self.cap_s)
        return pause_s


#: Ask once.
NO_RETRY = RetryPolicy(attempts=1)
