"""What the handlers work with: the service behind them, its metrics, authentication, and the settings in
force.
"""

from dataclasses import dataclass, field
from typing import Annotated

import psutil
from fastapi import Depends, Request

from coordinator.console.overview import History
from coordinator.core.engine import Engine
from coordinator.core.state import CoreState
from coordinator.http.auth import Authenticator
from coordinator.metrics import Metrics
from coordinator.metrics_samples import Reading
from coordinator.service import Service
from coordinator.settings import Scalar, Settings
from coordinator.tokens import Scope


@dataclass
class Context:
    """One application's surroundings. `streams`: event streams that are open; `simulations`: those under way."""

    service: Service
    auth: Authenticator
    metrics: Metrics
    streams: int = 0
    simulations: int = 0
    history: History = field(default_factory=History)
    _process: psutil.Process = field(default_factory=psutil.Process)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.service.settings

    @property
    def engine(self) -> Engine:
        """The core."""
        return self.service.engine

    @property
    def state(self) -> CoreState:
        """The core's state, for reading."""
        return self.service.engine.state

    def require_reader(self, request: Request) -> None:
        """Let a read of `/v1` pass. Raises CoreError: unauthorized, where reads need a token."""
        if self.settings.flag("admin.require_token_for_reads"):
            self.auth.anyone(request, Scope.READ)

    def require_admin_reader(self, request: Request) -> None:
        """Let a read of `/admin` or `/metrics` pass. Raises CoreError: unauthorized or forbidden."""
        if self.settings.flag("admin.require_token_for_reads"):
            self.auth.operator(request, Scope.READ)

    async def record(self, by: str | None, action: str, **after: Scalar) -> None:
        """Keep for the audit what an operator did through `/v1`; None is an agent, whose writes the log has anyway."""
        if by is not None:
            await self.service.note(action, before={}, after=after, by=by)

    def memory_bytes(self) -> int:
        """The process's resident memory."""
        return int(self._process.memory_info().rss)

    def reading(self) -> Reading:
        """The state of things for one scrape."""
        pool = self.service.parts.pool
        scale = pool.scale()
        return Reading(
            engine=self.engine,
            now_ms=self.service.now_ms(),
            memory_bytes=self.memory_bytes(),
            writable=self.service.read_only is None,
            workers_running=scale.running,
            workers_target=scale.target,
            utilizations={worker.worker_id: worker.utilization for worker in pool.workers()},
            loop_failures=self.service.parts.loop_failures,
        )

    def health(self) -> dict[str, float]:
        """Every part of the health score."""
        return self.reading().health


async def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


#: The handlers' parameter.
Ctx = Annotated[Context, Depends(_context)]
