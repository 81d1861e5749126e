"""The autoscaler's loop on a real pool's numbers and a real HTTPS server in Kubernetes' place."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordinator.core.scaling import ScalingConfig, Why
from coordinator.shell.scaling import Mode, Scaling, ScalingSettings
from tests.coordinator.core.world import World
from tests.kube_api import KubeApi, kube_api
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings
from workers.scale_requests import KubernetesScale

SETTINGS = ScalingSettings(
    policy=ScalingConfig(
        max_workers=20, up_confirmations=2, up_cooldown_ms=0, down_cooldown_ms=0, down_confirmations=1
    ),
    mode=Mode.ON,
    interval_s=0.0,
)


class Scene:
    """A loop whose looks the test makes; 60 batches' worth wait, which asks for many workers."""

    def __init__(self, pool: ProofPool, api: KubeApi) -> None:
        self.pool, self.api = pool, api
        self.world = World(check=False)
        self.world.agent("alice")
        for number in range(60):
            self.world.submit(f"op{number}", rows=32_000)
        self.settings = SETTINGS
        self.scaling = Scaling(
            engine=self.world.engine,
            journal=cast("Any", SimpleNamespace(read_only=None)),
            pool=pool,
            machines=KubernetesScale("proof-workers", server=api.url, account=api.account),
            elastic=True,
            settings=lambda: self.settings,
            clock_ms=lambda: self.world.now_ms,
        )

    async def look(self) -> Why:
        self.world.now_ms += 5_000
        return (await self.scaling.look()).why


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubeApi]:
    with kube_api(tmp_path) as serving:
        yield serving


@pytest.fixture
async def scene(api: KubeApi) -> AsyncIterator[Scene]:
    pool = ProofPool(
        PoolConfig(desired=32), runtime=RayRuntime(RaySettings(slots=1))
    )  # not started: numbers only
    scene = Scene(pool, api)
    yield scene
    await scene.scaling.close()
    await pool.stop()


async def test_it_begins_from_what_is_there_and_scales_pool_and_deployment(scene: Scene) -> None:
    assert await scene.look() is Why.CONFIRMING
    assert (scene.pool.scale().desired, scene.api.replicas) == (3, 3)
    assert await scene.look() is Why.UP
    assert scene.api.replicas == scene.pool.scale().desired > 3


async def test_a_dry_run_decides_the_same_and_does_nothing(scene: Scene) -> None:
    scene.settings = replace(SETTINGS, mode=Mode.DRY_RUN)
    await scene.pool.resize(3)
    decisions = [await scene.look() for _ in range(3)]
    assert Why.UP in decisions
    assert not scene.api.asked
    assert scene.pool.scale().desired == 3


async def test_kubectl_scale_is_seen_taken_over_and_left_alone(scene: Scene) -> None:
    await scene.look()
    scene.api.replicas = 24
    assert await scene.look() is Why.HELD
    assert scene.pool.scale().desired == 24
    assert [await scene.look() for _ in range(5)] == [Why.HELD] * 5
    assert scene.api.replicas == 24
    scene.world.now_ms += SETTINGS.policy.hold_ms
    await scene.look()
    assert scene.scaling.explain().held_until_ms is None


async def test_kubernetes_away_is_counted_and_tried_again(scene: Scene) -> None:
    await scene.look()
    scene.api.broken = True
    await scene.look()
    assert scene.scaling.failures == 2, "neither read nor set"
    assert "500" in (scene.scaling.last_error or "")
    scene.api.broken = False
    for _ in range(2):
        await scene.look()
    assert scene.api.replicas == scene.pool.scale().desired > 3
