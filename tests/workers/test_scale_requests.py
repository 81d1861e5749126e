"""Asking for machines: what Kubernetes and Ray are sent, and what becomes of their refusals."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube_api import KubeApi, kube_api
from workers.ray_runtime import RayRuntime, RaySettings
from workers.scale_requests import KubernetesScale, NobodyElse, RayAutoscaler, ScaleRequestError


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubeApi]:
    with kube_api(tmp_path) as serving:
        yield serving


async def test_kubernetes_is_patched_at_the_scale_subresource_and_read_back(api: KubeApi) -> None:
    scale = KubernetesScale("proof-workers", server=api.url, account=api.account)
    assert await scale.requested() == 3
    await scale.request(7)
    assert api.replicas == 7
    assert api.asked[-1] == ("PATCH", "application/merge-patch+json", {"spec": {"replicas": 7}})
    api.replicas = 0  # the API leaves a zero out
    assert await scale.requested() == 0
    await scale.close()


async def test_the_token_is_read_again_since_kubernetes_exchanges_it(api: KubeApi) -> None:
    scale = KubernetesScale("proof-workers", server=api.url, account=api.account)
    await scale.request(4)
    api.token = "second"
    with pytest.raises(ScaleRequestError, match="401"):
        await scale.request(5)
    (api.account / "token").write_text("second")
    await scale.request(5)
    assert api.replicas == 5
    await scale.close()


async def test_refusals_and_silence_are_errors_of_one_kind(api: KubeApi, tmp_path: Path) -> None:
    other = KubernetesScale("agenc", server=api.url, account=api.account)
    with pytest.raises(ScaleRequestError, match="403"):
        await other.request(1)
    await other.close()
    nobody = KubernetesScale("proof-workers", server="https://127.0.0.1:9", account=api.account)
    with pytest.raises(ScaleRequestError, match="ConnectError"):
        await nobody.requested()
    await nobody.close()
    with kube_api(_folder(tmp_path)) as stranger:
        fooled = KubernetesScale("proof-workers", server=stranger.url, account=api.account)
        with pytest.raises(ScaleRequestError, match="CERTIFICATE_VERIFY_FAILED"):
            await fooled.requested()
        await fooled.close()
        assert not stranger.asked, "the token went to nobody that the account's authority does not vouch for"


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stranger"
    folder.mkdir()
    return folder


def test_outside_a_pod_there_is_no_kubernetes(
    api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ScaleRequestError, match="no service account"):
        KubernetesScale("proof-workers", account=tmp_path / "absent")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ScaleRequestError, match="KUBERNETES_SERVICE_HOST"):
        KubernetesScale("proof-workers", account=api.account)


async def test_rays_autoscaler_is_asked_for_a_slot_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Connected(RayRuntime):
        up = True

        async def run(self, call: Any) -> Any:
            return await asyncio.to_thread(call)

    import ray.autoscaler.sdk

    monkeypatch.setattr(ray.autoscaler.sdk, "request_resources", lambda **call: asked.append(call))
    await RayAutoscaler(Connected(RaySettings(slots=1))).request(3)
    assert asked == [{"bundles": [{"proof_worker": 1}] * 3}]
    with pytest.raises(ScaleRequestError, match="not connected"):
        await RayAutoscaler(RayRuntime(RaySettings(slots=1))).request(3)


async def test_where_there_are_no_more_machines_nobody_is_asked() -> None:
    nobody = NobodyElse()
    await nobody.request(4)
    assert await nobody.requested() is None
    await nobody.close()
