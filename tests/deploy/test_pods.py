"""What every pod promises: no privileges, no writable image, bounded, probed, and time to drain."""

import json
import re
import shlex
import tomllib
from typing import Any

import pytest

from tests.deploy.rendering import (
    OVERLAYS,
    REPOSITORY,
    TARGETS,
    by_name,
    containers,
    matches,
    of_kind,
    pod_templates,
    rendered,
    variables,
)
from workers.ray_runtime import SLOT_RESOURCE

RAY_DRAIN_S = 30
"""How long a Ray node drains on SIGTERM."""


@pytest.mark.parametrize("target", TARGETS)
def test_pods_run_without_privileges_on_a_read_only_root(target: str) -> None:
    for name, template in pod_templates(rendered(target)):
        spec = template["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"], name
        assert pod["runAsUser"] > 0, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in containers(template):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in context, name


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_ours_gets_a_key_to_the_cluster(target: str) -> None:
    for name, template in pod_templates(rendered(target)):
        if name != "agenc-head":  # KubeRay makes the account of the autoscaler beside it
            assert template["spec"]["automountServiceAccountToken"] is False, name


@pytest.mark.parametrize("target", TARGETS)
def test_containers_are_bounded_and_probed_and_everything_on_disk_has_a_limit(target: str) -> None:
    for name, template in pod_templates(rendered(target)):
        for container in containers(template):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"], name
            assert ":" in container["image"], f"{name}: an image without a version"
            assert not container["image"].endswith(":latest"), name
        for container in template["spec"]["containers"]:
            assert {"livenessProbe", "readinessProbe"} <= set(container), name
        for volume in template["spec"]["volumes"]:
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], name


def test_the_deployments_are_the_runbooks() -> None:
    coordinator = by_name(rendered("base"), "Deployment", "agenc")
    workers = by_name(rendered("base"), "Deployment", "proof-workers")
    assert coordinator["spec"]["replicas"] == 1
    assert coordinator["spec"]["strategy"] == {"type": "Recreate"}
    for deployment, ports in ((coordinator, {9090, 9091, 6379}), (workers, {9091})):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels["app"] == deployment["metadata"]["name"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {port["containerPort"] for port in container["ports"]} == ports
        assert container["livenessProbe"]["httpGet"]["path"] == "/health"
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


@pytest.mark.parametrize("target", TARGETS)
def test_ray_nodes_have_time_to_drain(target: str) -> None:
    for name, template in pod_templates(rendered(target)):
        if template["metadata"]["labels"].get("ray-cluster"):
            assert template["spec"]["terminationGracePeriodSeconds"] > RAY_DRAIN_S, name


@pytest.mark.parametrize("target", OVERLAYS)
def test_the_coordinators_memory_limit_is_above_the_configured_one(target: str) -> None:
    template = by_name(rendered(target), "Deployment", "agenc")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    profile = variables(container)["PROFILE"]["value"]
    files = [REPOSITORY / "config" / f"{name}.toml" for name in ("default", profile)]
    settings: dict[str, Any] = {}
    for path in files:
        settings |= tomllib.loads(path.read_text()).get("speculation", {}).get("limits", {})
    own_mb = settings.get("max_memory_mb", 4096)
    rays_mb = 1024  # the head's processes, and the object store
    assert _mebibytes(container["resources"]["limits"]["memory"]) >= own_mb + rays_mb


def test_the_object_store_fits_the_shared_memory() -> None:
    template = by_name(rendered("base"), "Deployment", "agenc")["spec"]["template"]
    script = template["spec"]["containers"][0]["args"][-1]
    store = re.search(r"--object-store-memory=(\d+)", script)
    assert store is not None
    (shm,) = [volume["emptyDir"] for volume in template["spec"]["volumes"] if volume["name"] == "shm"]
    assert int(store[1]) <= _mebibytes(shm["sizeLimit"]) << 20


def _mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]  # fails the test
    return int(number) * (1024 if unit == "Gi" else 1)


@pytest.mark.parametrize("target", TARGETS)
def test_all_our_pods_are_closed_but_for_what_is_named(target: str) -> None:
    objects = rendered(target)
    denial = by_name(objects, "NetworkPolicy", "agenc-default-deny")
    assert set(denial["spec"]) == {"podSelector", "policyTypes"}
    assert set(denial["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    for name, template in pod_templates(objects):
        assert matches(denial["spec"]["podSelector"], template["metadata"]["labels"]), name
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert rule.get("from"), f"{policy['metadata']['name']} lets everybody in"


def test_ray_asks_for_its_token_everywhere() -> None:
    for name, template in pod_templates(rendered("base")):
        environment = variables(template["spec"]["containers"][0])
        assert environment["RAY_AUTH_MODE"]["value"] == "token", name
    (cluster,) = of_kind(rendered("kuberay"), "RayCluster")
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "agenc-ray"}


def test_the_ray_clusters_autoscaler_knows_what_a_worker_brings() -> None:
    (cluster,) = of_kind(rendered("kuberay"), "RayCluster")
    assert cluster["spec"]["enableInTreeAutoscaling"]
    assert cluster["spec"]["autoscalerOptions"]["version"] == "v2"
    (group,) = cluster["spec"]["workerGroupSpecs"]
    # The value is a word of a shell command.
    (offered,) = shlex.split(group["rayStartParams"]["resources"])
    assert json.loads(offered) == {SLOT_RESOURCE: 1}
    assert group["template"]["spec"]["restartPolicy"] == "Never"
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert not [
        d for d in of_kind(rendered("kuberay"), "Deployment") if d["metadata"]["name"] == "proof-workers"
    ]


def test_workers_have_no_secret_of_the_coordinators() -> None:
    template = by_name(rendered("base"), "Deployment", "proof-workers")["spec"]["template"]
    for container in containers(template):
        assert "AGENC_ADMIN_TOKEN" not in variables(container)
