"""The chart renders what kustomize renders: its defaults are the base, each values file is an overlay."""

import copy
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.deploy.rendering import (
    DEPLOY,
    Object,
    by_name,
    containers,
    pod_templates,
    production_with,
    rendered,
)
from tests.deploy.schemas import CUSTOM, check_core

CHART = DEPLOY / "helm" / "agenc"
RELEASE = "1.32"
"""The Kubernetes release that helm renders for."""


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """One helm command; the test is skipped where helm is not installed."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is not installed (go install helm.sh/helm/v3/cmd/helm@v3.18.6)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def template(*options: str) -> tuple[Object, ...]:
    """The chart's objects."""
    done = helm("template", "agenc", str(CHART), "--kube-version", RELEASE, *options)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def _comparable(objects: Sequence[Object]) -> dict[tuple[str, str], Object]:
    """By kind and name, without the namespace, which helm is told and kustomize writes, and with lists that Kubernetes
    merges by a key in the order of that key.
    """
    found = {}
    for item in copy.deepcopy(list(objects)):
        if item["kind"] != "Namespace":
            item["metadata"].pop("namespace", None)
            found[item["kind"], item["metadata"]["name"]] = item
    for _, pod in pod_templates(tuple(found.values())):
        pod["spec"]["volumes"].sort(key=lambda volume: volume["name"])
        for container in containers(pod):
            container.get("env", []).sort(key=lambda entry: entry["name"])
            container["volumeMounts"].sort(key=lambda mount: mount["mountPath"])
    return found


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("base", ()),
        ("overlays/dev", ("-f", str(CHART / "values-dev.yaml"))),
        ("overlays/staging", ("-f", str(CHART / "values-staging.yaml"))),
        ("overlays/prod", ("-f", str(CHART / "values-prod.yaml"))),
    ],
)
def test_the_chart_renders_what_kustomize_renders(target: str, options: tuple[str, ...]) -> None:
    ours, theirs = _comparable(template(*options)), _comparable(rendered(target))
    assert set(ours) == set(theirs)
    for name, item in ours.items():
        assert item == theirs[name], name


@pytest.mark.parametrize("component", ["tls", "scaling"])
def test_a_switch_of_the_chart_is_a_component(component: str, tmp_path: Path) -> None:
    values = ("-f", str(CHART / "values-prod.yaml"), "--set", f"{component}.enabled=true")
    ours, theirs = (
        _comparable(template("--namespace", "agenc", *values)),
        _comparable(production_with(component, tmp_path)),
    )
    assert ours == theirs


def test_the_chart_passes_helms_linter() -> None:
    done = helm("lint", "--strict", str(CHART), "--kube-version", RELEASE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_with_everything_on_the_objects_hold_against_the_strict_schemas() -> None:
    flags = (
        "proofWorkers.gpu.enabled",
        "scaling.enabled",
        "tls.enabled",
        "prometheus.enabled",
        "prometheusOperator.enabled",
    )
    switches = (word for flag in flags for word in ("--set", f"{flag}=true"))
    objects = template("--namespace", "elsewhere", *switches)
    for item in objects:
        if item["kind"] not in CUSTOM:
            check_core(item)
    worker = by_name(objects, "Deployment", "proof-workers")["spec"]["template"]["spec"]["containers"][0]
    assert worker["image"].startswith("agenc-prover-cuda:")
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    pod = by_name(objects, "Deployment", "agenc")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    (subject,) = by_name(objects, "RoleBinding", "proof-workers-scaler")["subjects"]
    assert (subject["name"], subject["namespace"]) == (pod["serviceAccountName"], "elsewhere")


@pytest.mark.parametrize(
    "wrong", ["profile=test", "proofWorkers.replicas=33", "proofworkers.replicas=1", "coordinator.replicas=2"]
)
def test_a_wrong_value_is_refused(wrong: str) -> None:
    done = helm("template", "agenc", str(CHART), "--kube-version", RELEASE, "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
