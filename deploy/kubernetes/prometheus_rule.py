"""The alert rules as the Prometheus operator takes them: `deploy/monitoring/rules.yml` inside a PrometheusRule.

`python deploy/kubernetes/prometheus_rule.py` writes `components/prometheus-operator/rules.yaml` anew.
"""

from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "monitoring" / "rules.yml"
TARGET = HERE / "components" / "prometheus-operator" / "rules.yaml"

_HEAD = "# Made from deploy/monitoring/rules.yml by prometheus_rule.py: edit there.\n"


def manifest(rules: str) -> str:
    """The PrometheusRule as YAML; `rules` is the text of a Prometheus rule file."""
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "agenc", "labels": {"app.kubernetes.io/part-of": "agenc-prover"}},
        "spec": yaml.safe_load(rules),
    }
    return _HEAD + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    TARGET.write_text(manifest(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
