"""What `kubectl apply -k` would send, rendered once a process, and small ways to walk it."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"

OVERLAYS = ("overlays/dev", "overlays/staging", "overlays/prod")
TARGETS = ("base", *OVERLAYS, "kuberay")

Object = dict[str, Any]


@functools.cache
def rendered(target: str) -> tuple[Object, ...]:
    """The objects of a kustomization below deploy/kubernetes."""
    return render(KUBERNETES / target)


def render(folder: Path) -> tuple[Object, ...]:
    """The objects of a kustomization; the test is skipped where kubectl is not installed."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which renders the manifests, is not installed")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def production_with(component: str, folder: Path) -> tuple[Object, ...]:
    """The production overlay with one more component."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "agenc",
        "resources": [_relative(KUBERNETES / "overlays" / "prod", folder)],
        "components": [_relative(KUBERNETES / "components" / component, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder.resolve())


def by_name(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind}/{name}: {len(found)} of them"
    return found[0]


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    """The objects of those kinds."""
    return [item for item in objects if item["kind"] in kinds]


def pod_templates(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Every pod template with a name for it: of deployments and of Ray clusters."""
    for item in of_kind(objects, "Deployment"):
        yield item["metadata"]["name"], item["spec"]["template"]
    for item in of_kind(objects, "RayCluster"):
        yield f"{item['metadata']['name']}-head", item["spec"]["headGroupSpec"]["template"]
        for group in item["spec"]["workerGroupSpecs"]:
            yield group["groupName"], group["template"]


def containers(template: Object) -> list[Object]:
    """Every container of a pod template, init containers too."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector that uses `matchLabels` alone picks these labels."""
    assert set(selector) <= {"matchLabels"}, selector
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def variables(container: Object) -> dict[str, Object]:
    """The container's environment by name."""
    return {entry["name"]: entry for entry in container.get("env", [])}
