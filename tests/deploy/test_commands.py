"""What the containers run is what Ray and our own command line take."""

import re
import shlex

import pytest

from tests.deploy.commands import check, script_commands
from tests.deploy.rendering import (
    OVERLAYS,
    Object,
    by_name,
    containers,
    of_kind,
    pod_templates,
    rendered,
    variables,
)


def _main_container(objects: tuple[Object, ...], deployment: str) -> Object:
    spec = by_name(objects, "Deployment", deployment)["spec"]["template"]["spec"]
    return next(container for container in spec["containers"] if container["name"] != "prometheus")


@pytest.mark.parametrize("target", [*OVERLAYS, "kuberay"])
def test_the_coordinator_starts_its_ray_node_and_joins_it(target: str) -> None:
    shell, flags, script = _main_container(rendered(target), "agenc")["args"]
    assert (shell, flags) == ("sh", "-ec")
    ray, agenc = script_commands(script)
    node = check(ray)
    assert node["num_cpus"] == 0
    assert not node["block"]
    assert bool(node["head"]) == (target != "kuberay")
    assert node["head"] or node["address"] == "agenc-head-svc:6379"
    up = check(agenc)
    assert (up["env"], up["ray_address"], up["host"]) == ("prod", "auto", "0.0.0.0")
    assert "exec agenc" in script, "signals have to reach the coordinator"


def test_a_worker_pod_joins_the_head_with_one_slot() -> None:
    objects = rendered("base")
    worker = check(_main_container(objects, "proof-workers")["args"])
    host, _, port = str(worker["ray_address"]).partition(":")
    service = by_name(objects, "Service", host)
    assert int(port) in {entry["port"] for entry in service["spec"]["ports"]}
    assert (worker["slots"], worker["host"], worker["node_address"]) == (1, "0.0.0.0", "10.0.0.1")


def test_the_ray_cluster_runs_what_the_operator_would_and_our_workers() -> None:
    (cluster,) = of_kind(rendered("kuberay"), "RayCluster")
    assert cluster["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    (head,) = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert head["args"] == ['eval exec "$KUBERAY_GEN_RAY_START_CMD"']
    (worker,) = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    parsed = check(shlex.split(worker["args"][0])[1:])
    assert (parsed["ray_address"], parsed["slots"]) == ("head.agenc.svc:6379", 1)
    assert (parsed["host"], parsed["node_address"]) == ("0.0.0.0", "10.0.0.1")


@pytest.mark.parametrize("target", ["base", "kuberay"])
def test_variables_that_a_command_uses_are_set_in_its_container(target: str) -> None:
    set_by_kuberay = {"KUBERAY_GEN_RAY_START_CMD", "FQ_RAY_IP"}
    for name, template in pod_templates(rendered(target)):
        for container in containers(template):
            text = " ".join([*container.get("args", []), *_values(container)])
            used = set(re.findall(r"\$\(?(\w+)\)?", text)) - set_by_kuberay
            assert used <= set(variables(container)), name


def _values(container: Object) -> list[str]:
    return [entry["value"] for entry in container.get("env", []) if "value" in entry]
