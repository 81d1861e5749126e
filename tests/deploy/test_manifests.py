"""The manifests are what a strict API server would take, and their references hold."""

import copy
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from tests.deploy.rendering import (
    OVERLAYS,
    REPOSITORY,
    TARGETS,
    Object,
    by_name,
    containers,
    matches,
    of_kind,
    pod_templates,
    rendered,
)
from tests.deploy.schemas import CUSTOM, check_core, check_custom

SECRETS_TO_MAKE = {"agenc-admin": {"token"}, "agenc-ray": {"auth_token"}}
"""The secrets that the operator makes, and their keys."""


@pytest.mark.parametrize("target", TARGETS)
def test_core_objects_hold_against_the_strict_schemas(target: str) -> None:
    for item in rendered(target):
        if item["kind"] not in CUSTOM:
            check_core(item)


@pytest.mark.parametrize("target", ["overlays/prod", "kuberay"])
def test_custom_objects_hold_against_their_schemas(target: str, shared_dir: Path) -> None:
    custom = [item for item in rendered(target) if item["kind"] in CUSTOM]
    assert {item["kind"] for item in custom} >= {"ServiceMonitor", "PodMonitor"}
    for item in custom:
        check_custom(item, shared_dir / "schemas")


def test_pod_templates_of_the_ray_cluster_hold_against_the_strict_schemas() -> None:
    for name, template in pod_templates(tuple(of_kind(rendered("kuberay"), "RayCluster"))):
        check_core({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]})


def test_the_checks_refuse_a_misspelt_field(shared_dir: Path) -> None:
    deployment = copy.deepcopy(by_name(rendered("base"), "Deployment", "agenc"))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check_core(deployment)
    monitor = copy.deepcopy(by_name(rendered("overlays/prod"), "ServiceMonitor", "agenc"))
    monitor["spec"]["endpoints"][0]["scrape_timeout"] = "1s"
    with pytest.raises(jsonschema.ValidationError):
        check_custom(monitor, shared_dir / "schemas")


@pytest.mark.parametrize("target", TARGETS)
def test_no_object_is_there_twice_and_overlays_put_all_in_one_namespace(target: str) -> None:
    objects = rendered(target)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))
    namespaces = {item["metadata"].get("namespace") for item in objects if item["kind"] != "Namespace"}
    assert len(namespaces) == 1
    if target != "base":
        assert namespaces == {of_kind(objects, "Namespace")[0]["metadata"]["name"]}


@pytest.mark.parametrize("target", TARGETS)
def test_selectors_pick_pods_that_exist(target: str) -> None:
    objects = rendered(target)
    pods = [template["metadata"]["labels"] for _, template in pod_templates(objects)]
    for item in of_kind(objects, "Deployment"):
        assert matches(item["spec"]["selector"], item["spec"]["template"]["metadata"]["labels"])
    for item in of_kind(objects, "Service"):
        assert any(matches({"matchLabels": item["spec"]["selector"]}, labels) for labels in pods), item
    for item in of_kind(objects, "PodDisruptionBudget", "PodMonitor"):
        assert any(matches(item["spec"]["selector"], labels) for labels in pods), item
    for item in of_kind(objects, "NetworkPolicy"):
        assert any(matches(item["spec"]["podSelector"], labels) for labels in pods), item
    for item in of_kind(objects, "ServiceMonitor"):
        services = [service["metadata"]["labels"] for service in of_kind(objects, "Service")]
        assert any(matches(item["spec"]["selector"], labels) for labels in services), item


@pytest.mark.parametrize("target", TARGETS)
def test_named_ports_exist(target: str) -> None:
    objects = rendered(target)
    templates = [template for _, template in pod_templates(objects)]
    for service in of_kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in _ports_behind(service["spec"]["selector"], templates), service
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                assert port["port"] in _ports_behind(policy["spec"]["podSelector"]["matchLabels"], templates)
    for monitor in of_kind(objects, "PodMonitor"):
        behind = _ports_behind(monitor["spec"]["selector"]["matchLabels"], templates)
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= behind
    for template in templates:
        for container in template["spec"]["containers"]:
            named = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in named


def _ports_behind(labels: dict[str, str], templates: list[Object]) -> set[str]:
    chosen = [t for t in templates if matches({"matchLabels": labels}, t["metadata"]["labels"])]
    return {port["name"] for t in chosen for c in t["spec"]["containers"] for port in c.get("ports", [])}


@pytest.mark.parametrize("target", TARGETS)
def test_volumes_accounts_and_configuration_exist(target: str) -> None:
    objects = rendered(target)
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for name, template in pod_templates(objects):
        spec = template["spec"]
        if "serviceAccountName" in spec:
            assert ("ServiceAccount", spec["serviceAccountName"]) in there
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
        mounted = {mount["name"] for c in containers(template) for mount in c["volumeMounts"]}
        assert mounted == set(volumes), name


@pytest.mark.parametrize("target", TARGETS)
def test_secrets_are_referred_to_and_never_held(target: str) -> None:
    objects = rendered(target)
    assert not of_kind(objects, "Secret")
    for _, template in pod_templates(objects):
        for container in containers(template):
            for entry in container.get("env", []):
                if any(word in entry["name"] for word in ("TOKEN", "SECRET", "PASSWORD")):
                    reference = entry["valueFrom"]["secretKeyRef"]
                    assert reference["key"] in SECRETS_TO_MAKE[reference["name"]]


@pytest.mark.parametrize("target", TARGETS)
def test_the_configuration_is_the_shipped_files(target: str) -> None:
    data = by_name(rendered(target), "ConfigMap", "agenc-config")["data"]
    shipped = {path.name: path.read_text() for path in (REPOSITORY / "config").glob("*.toml")}
    assert data == shipped


@pytest.mark.parametrize("target", OVERLAYS)
def test_an_overlay_runs_its_own_profile(target: str) -> None:
    coordinator = by_name(rendered(target), "Deployment", "agenc")
    (container,) = coordinator["spec"]["template"]["spec"]["containers"]
    (profile,) = [entry["value"] for entry in container["env"] if entry["name"] == "PROFILE"]
    assert profile == target.rpartition("/")[2]
