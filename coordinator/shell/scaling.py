"""The autoscaler's loop: looks, asks the policy (core/scaling.py), and carries out what it says where that is wanted.

`scaling.mode` off and dry_run decide just the same; `GET /admin/scaling` shows what would be done.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from coordinator.core import scaling
from coordinator.core.engine import Engine
from coordinator.core.scaling import Decision, Memory, ScalingConfig
from coordinator.logs import get_logger
from coordinator.settings import Settings
from coordinator.shell.journal import Journal
from workers.pool import ProofPool
from workers.scale_requests import ScaleRequestError, ScaleRequests

_log = get_logger("scaling")


class Mode(StrEnum):
    """Whether decisions are carried out; `dry_run` logs them."""

    OFF = "off"
    DRY_RUN = "dry_run"
    ON = "on"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSettings:
    """The policy's numbers, whether it acts, and how often it looks."""

    policy: ScalingConfig
    mode: Mode
    interval_s: float


def scaling_settings(settings: Settings) -> ScalingSettings:
    """As they are set now."""
    return ScalingSettings(
        policy=ScalingConfig(
            min_workers=settings.integer("scaling.min_workers"),
            max_workers=settings.integer("scaling.max_workers"),
            drain_window_ms=settings.integer("scaling.drain_window_ms"),
            up_confirmations=settings.integer("scaling.up_confirmations"),
            down_confirmations=settings.integer("scaling.down_confirmations"),
            up_cooldown_ms=settings.integer("scaling.up_cooldown_ms"),
            down_cooldown_ms=settings.integer("scaling.down_cooldown_ms"),
            hold_ms=settings.integer("scaling.hold_ms"),
        ),
        mode=Mode(settings.text("scaling.mode")),
        interval_s=settings.integer("scaling.interval_ms") / 1000,
    )


class Scaling:
    """One pool's autoscaler. `elastic`: machines can be asked for, so slots that are not there yet are no limit."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        pool: ProofPool,
        machines: ScaleRequests,
        elastic: bool,
        settings: Callable[[], ScalingSettings],
        clock_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._pool = pool
        self._machines = machines
        self._elastic = elastic
        self._settings = settings
        self._clock_ms = clock_ms
        self._memory = Memory()
        self._number: int | None = None
        """The number of workers that stands by our last step, or that we found."""

        self.failures = 0
        self.last_error: str | None = None

    async def run(self) -> None:
        """Looks again and again; until cancelled or read-only."""
        while self._journal.read_only is None:
            await self.look()
            await asyncio.sleep(self._settings().interval_s)

    def hold(self) -> None:
        """Somebody scaled by hand: leave it so for a while."""
        self._memory = scaling.hold(self._memory, self._settings().policy, now_ms=self._clock_ms())
        self._number = None

    async def look(self) -> Decision:
        """One look at the load, and what follows from it."""
        settings = self._settings()
        if settings.mode is Mode.ON:
            await self._see_manual_scale()
        decision, self._memory = self._decide()
        if decision.target == decision.current:
            return decision
        facts = {"workers": decision.target, "before": decision.current, "reason": decision.why.value}
        if settings.mode is Mode.ON:
            _log.info("scaled", **facts)
            await self._scale(decision.target)
        elif settings.mode is Mode.DRY_RUN:
            _log.info("would_scale", **facts)
        return decision

    def explain(self) -> Decision:
        """What a look at this moment would decide; nothing is remembered or done."""
        return self._decide()[0]

    def _decide(self) -> tuple[Decision, Memory]:
        policy, now_ms = self._settings().policy, self._clock_ms()
        scale = self._pool.scale()
        current = min(scale.desired, scale.target) if self._number is None else self._number
        if not self._elastic:
            most = self._pool.most_workers()
            policy = dataclasses.replace(
                policy, min_workers=min(policy.min_workers, most), max_workers=min(policy.max_workers, most)
            )
            current = min(current, most)
        load = scaling.load_of(self._engine.state, self._engine.config, now_ms=now_ms)
        return scaling.decide(self._memory, load, policy, current=max(1, current), now_ms=now_ms)

    async def _scale(self, workers: int) -> None:
        self._number = workers
        await self._pool.resize(workers)
        try:
            await self._machines.request(workers)
        except ScaleRequestError as error:
            self._number = None  # what stands is read again, and is nobody's hand
            self._failed(error)

    async def _see_manual_scale(self) -> None:
        """A number that is not ours was set by hand (`kubectl scale`): it stands, and workers get its slots."""
        try:
            requested = await self._machines.requested()
        except ScaleRequestError as error:
            self._failed(error)
            return
        if requested is None or requested == self._number:
            return
        if self._number is not None:
            _log.info("scaled_by_hand", workers=requested, before=self._number)
            self.hold()
        self._number = requested
        if requested:
            await self._pool.resize(requested)

    async def close(self) -> None:
        """Asks for no more machines; those that are there stay."""
        await self._machines.close()

    def _failed(self, error: ScaleRequestError) -> None:
        self.failures += 1
        self.last_error = str(error)
        _log.warning("scaling_failed", reason=str(error))
