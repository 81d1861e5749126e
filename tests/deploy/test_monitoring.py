"""The alert rules are one thing, wherever they are deployed, and Prometheus scrapes what the runbook says."""

import runpy
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.rendering import DEPLOY, KUBERNETES, Object, by_name, of_kind, rendered


def _rules() -> dict[str, Any]:
    rules: dict[str, Any] = yaml.safe_load((DEPLOY / "monitoring" / "rules.yml").read_text())
    return rules


def test_the_operators_rule_object_is_the_rule_file() -> None:
    rule = by_name(rendered("overlays/prod"), "PrometheusRule", "agenc")
    assert rule["spec"] == _rules(), "run: python deploy/kubernetes/prometheus_rule.py"


def test_the_rule_object_is_as_its_generator_writes_it() -> None:
    generator = runpy.run_path(str(KUBERNETES / "prometheus_rule.py"))
    expected = generator["manifest"](generator["SOURCE"].read_text())
    assert generator["TARGET"].read_text() == expected, "run: python deploy/kubernetes/prometheus_rule.py"


def test_the_clusters_own_prometheus_reads_the_rule_file_and_scrapes_both_ports() -> None:
    objects = rendered("overlays/dev")
    assert yaml.safe_load(by_name(objects, "ConfigMap", "agenc-rules")["data"]["rules.yml"]) == _rules()
    (config_map,) = [
        item
        for item in of_kind(objects, "ConfigMap")
        if item["metadata"]["name"].startswith("prometheus-config")
    ]
    config = yaml.safe_load(config_map["data"]["prometheus.yml"])
    assert config["rule_files"] == ["/etc/prometheus-rules/rules.yml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["agenc"]["static_configs"] == [{"targets": ["agenc:9090"]}]
    (found,) = jobs["proof-workers"]["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["proof-workers"], 9091)
    # A name lists the pods behind it only where the service has no address of its own.
    assert by_name(objects, "Service", "proof-workers")["spec"]["clusterIP"] == "None"


def test_jobs_are_named_as_on_one_machine() -> None:
    """Rules and dashboards may ask for a job by name."""
    local = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    inside = yaml.safe_load((KUBERNETES / "components" / "prometheus" / "prometheus.yml").read_text())
    assert _job_names(inside) == _job_names(local)


def _job_names(config: Object) -> set[str]:
    return {job["job_name"] for job in config["scrape_configs"]}


@pytest.mark.parametrize("component", ["prometheus", "tls"])
def test_prometheus_takes_the_scrape_configuration(component: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    path = KUBERNETES / "components" / component / "prometheus.yml"
    done = subprocess.run(
        [promtool, "check", "config", "--syntax-only", str(path)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
