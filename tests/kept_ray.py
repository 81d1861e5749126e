"""One real Ray for all the coordinators that the tests of a process open: it is started once, not once a test.

A process has one Ray at a time, so tests that start their own let go of this one first.
"""

import asyncio

from workers.ray_runtime import RayRuntime, RaySettings

_kept: "KeptRay | None" = None


class KeptRay(RayRuntime):
    """A runtime that outlives the pool that started it; a pool that finds it up leaves it so."""

    async def stop(self) -> None:
        if not self.alive():
            await super().stop()

    async def restart(self) -> None:
        await super().stop()
        await self.start()

    async def end(self) -> None:
        """Stop the cluster for good."""
        await super().stop()


def keep(settings: RaySettings) -> RayRuntime:
    """The kept runtime, for a pool with these settings."""
    global _kept
    if _kept is not None and (_kept.settings != settings or not _kept.alive()):
        let_go()
    if _kept is None:
        _kept = KeptRay(settings)
    return _kept


def let_go() -> None:
    """Stop it, if it runs. Call it outside an event loop, or from a thread of its own."""
    global _kept
    if _kept is not None:
        asyncio.run(_kept.end())
    _kept = None
