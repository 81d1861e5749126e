"""Asking those who own the machines for more of them: Ray's autoscaler, or Kubernetes.

Both are told how many proof workers there should be, and bring, or take away, the hosts that hold them. Neither starts
a worker: the pool does, in the slots that appear.
"""

import os
import ssl
from pathlib import Path
from typing import Protocol

import httpx

from workers.ray_runtime import SLOT_RESOURCE, RayRuntime

#: Where Kubernetes puts a pod's credentials.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 5.0
_MAX_REPLICAS = 1_000


class ScaleRequestError(Exception):
    """The owner of the machines did not take the request; the text says why. Asked again at the next look."""


class ScaleRequests(Protocol):
    """The owner of the machines."""

    async def request(self, workers: int) -> None:
        """Ask for hosts for so many workers, in place of what was asked before.

        Raises:
            ScaleRequestError: it was not taken.
        """

    async def requested(self) -> int | None:
        """The number that stands now, whoever asked for it; None where that cannot be read.

        Raises:
            ScaleRequestError: no answer.
        """

    async def close(self) -> None:
        """Idempotent."""


class NobodyElse:
    """The machines that are there are all there are: the pool's own resize is enough."""

    async def request(self, workers: int) -> None:
        """Nothing to ask for."""

    async def requested(self) -> int | None:
        """Nobody keeps a number but the pool."""
        return None

    async def close(self) -> None:
        """Nothing to close."""


class RayAutoscaler:
    """Ray's autoscaler (`ray up`, KubeRay), by `ray.autoscaler.sdk.request_resources`: a slot for each worker.

    It keeps at least these, however idle they are, and gives hosts back after its own idle time when fewer are asked.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        self._runtime = runtime

    async def request(self, workers: int) -> None:
        """See `ScaleRequests.request`."""

        def ask() -> None:
            from ray.autoscaler.sdk import request_resources

            request_resources(bundles=[{SLOT_RESOURCE: 1}] * workers)

        if not self._runtime.up:
            raise ScaleRequestError("Ray is not connected")
        try:
            await self._runtime.run(ask)
        except Exception as error:  # Ray raises what its transport raises
            raise ScaleRequestError(f"Ray: {type(error).__name__}: {error}") from error

    async def requested(self) -> int | None:
        """Ray has no call that reads it back."""
        return None

    async def close(self) -> None:
        """Nothing to close."""


class KubernetesScale:
    """The `scale` subresource of one deployment, with the pod's service account (verbs get and patch on
    deployments/scale; deploy/kubernetes/components/scaling).

    The token is read again for each request, since Kubernetes exchanges it hourly.
    """

    def __init__(
        self,
        deployment: str,
        *,
        server: str | None = None,
        account: Path = SERVICE_ACCOUNT,
    ) -> None:
        """`server` None: the one that Kubernetes names in the pod's environment.

        Raises:
            ScaleRequestError: this process does not run in a pod with a service account.
        """
        self._account = account
        try:
            namespace = (account / "namespace").read_text().strip()
            verify = ssl.create_default_context(cafile=account / "ca.crt")
        except (OSError, ssl.SSLError) as error:
            raise ScaleRequestError(f"no service account at {account}: {error}") from None
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale"
        self._url = (server or _server()) + path
        self._client = httpx.AsyncClient(verify=verify, timeout=_TIMEOUT_S, trust_env=False)

    async def request(self, workers: int) -> None:
        """See `ScaleRequests.request`."""
        body = {"spec": {"replicas": workers}}
        await self._call("PATCH", json=body, headers={"Content-Type": "application/merge-patch+json"})

    async def requested(self) -> int | None:
        """See `ScaleRequests.requested`: `kubectl scale` changes it too."""
        answer = await self._call("GET")
        try:
            replicas = answer.json()["spec"].get("replicas", 0)  # the API leaves a zero out
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ScaleRequestError("the Kubernetes API answered something that is no scale") from None
        if not isinstance(replicas, int) or not 0 <= replicas <= _MAX_REPLICAS:
            raise ScaleRequestError(f"the Kubernetes API says {replicas!r} replicas")
        return replicas

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _call(
        self, method: str, *, json: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            token = (self._account / "token").read_text().strip()
            answer = await self._client.request(
                method,
                self._url,
                json=json,
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"} | (headers or {}),
            )
        except (OSError, httpx.HTTPError) as error:
            raise ScaleRequestError(f"the Kubernetes API: {type(error).__name__}: {error}") from None
        if answer.status_code != httpx.codes.OK:
            raise ScaleRequestError(f"the Kubernetes API answered {answer.status_code} to {method} scale")
        return answer


def _server() -> str:
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise ScaleRequestError("KUBERNETES_SERVICE_HOST is not set: this is no pod")
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}:{os.environ.get('KUBERNETES_SERVICE_PORT_HTTPS', '443')}"
