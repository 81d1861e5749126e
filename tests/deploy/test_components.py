"""Each component adds what it says and leaves the rest alone."""

from pathlib import Path

import pytest
import yaml

from coordinator.settings_table import KEYS
from tests.deploy.rendering import KUBERNETES, Object, by_name, containers, of_kind, production_with, rendered
from tests.deploy.schemas import check_core, check_custom


def _without(objects: tuple[Object, ...], *names: tuple[str, str]) -> list[Object]:
    return [item for item in objects if (item["kind"], item["metadata"]["name"]) not in names]


@pytest.fixture(scope="module")
def with_gpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Object, ...]:
    return production_with("gpu", tmp_path_factory.mktemp("gpu"))


def test_a_worker_gets_one_gpu_and_the_cuda_image(with_gpus: tuple[Object, ...]) -> None:
    deployment = by_name(with_gpus, "Deployment", "proof-workers")
    check_core(deployment)
    template = deployment["spec"]["template"]
    assert all(container["image"].startswith("agenc-prover-cuda:") for container in containers(template))
    (worker,) = template["spec"]["containers"]
    for side in ("requests", "limits"):
        assert worker["resources"][side]["nvidia.com/gpu"] == "1"
    (code,) = [entry["value"] for entry in worker["env"] if entry["name"] == "AGENC_CUDA_CODE"]
    (cache,) = [mount["mountPath"] for mount in worker["volumeMounts"] if mount["name"] == "kernels"]
    assert code.startswith(f"{cache}/")
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_gpus_change_nothing_else(with_gpus: tuple[Object, ...]) -> None:
    name = ("Deployment", "proof-workers")
    assert _without(with_gpus, name) == _without(rendered("overlays/prod"), name)


def test_the_autoscaler_may_set_the_replicas_of_the_proof_workers_and_nothing_else(tmp_path: Path) -> None:
    objects = production_with("scaling", tmp_path)
    for item in objects:
        if item not in rendered("overlays/prod"):
            check_core(item)
    (role,) = of_kind(objects, "Role")
    assert role["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": ["proof-workers"],
            "verbs": ["get", "patch"],
        }
    ]
    (binding,) = of_kind(objects, "RoleBinding")
    pod = by_name(objects, "Deployment", "agenc")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert environment["AGENC_SCALING_MACHINES"] == "kubernetes"
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (pod["serviceAccountName"], "agenc")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")


def test_with_tls_the_coordinator_speaks_https_and_whoever_asks_it_knows(
    tmp_path: Path, shared_dir: Path
) -> None:
    objects = production_with("tls", tmp_path)
    check_core(by_name(objects, "Deployment", "agenc"))
    check_core(by_name(objects, "Deployment", "prometheus"))
    check_custom(by_name(objects, "ServiceMonitor", "agenc"), shared_dir / "schemas")
    (container,) = by_name(objects, "Deployment", "agenc")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    assert KEYS["admin.allow_plain_http"].environment_name not in environment
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for key in ("admin.tls_cert", "admin.tls_key"):
        assert str(Path(environment[KEYS[key].environment_name]).parent) in mounts
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    (endpoint,) = by_name(objects, "ServiceMonitor", "agenc")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    scrapes = yaml.safe_load(by_name(objects, "ConfigMap", "prometheus-config")["data"]["prometheus.yml"])
    assert scrapes["scrape_configs"][0]["scheme"] == "https"


def test_tls_changes_nothing_else_of_the_scrape_configuration() -> None:
    plain, secure = (
        yaml.safe_load((KUBERNETES / "components" / name / "prometheus.yml").read_text())
        for name in ("prometheus", "tls")
    )
    for key in ("scheme", "tls_config"):
        del secure["scrape_configs"][0][key]
    assert secure == plain
