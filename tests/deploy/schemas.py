"""Strict schema checks without a cluster: unknown fields are errors, as with `kubectl apply --validate=strict`."""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

OLDEST_KUBERNETES = "1.30"
"""The oldest release that the manifests are for; they are checked against it and against 1.35."""
RELEASES = (OLDEST_KUBERNETES, "1.35")

CUSTOM = {
    "RayCluster": "raycluster",
    "ServiceMonitor": "servicemonitor",
    "PodMonitor": "podmonitor",
    "PrometheusRule": "prometheusrule",
}
"""Custom resources and their schema files in the shared folder."""


def check_core(item: dict[str, Any]) -> None:
    """Raises kubernetes_validate.ValidationError, or SchemaNotFoundError for a kind that Kubernetes has not."""
    _check_core(json.dumps(item, sort_keys=True))


@functools.cache
def _check_core(text: str) -> None:
    for release in RELEASES:
        kubernetes_validate.validate(json.loads(text), release, strict=True)


def check_custom(item: dict[str, Any], folder: Path) -> None:
    """Raises jsonschema.ValidationError; a pod template within is checked like any pod."""
    jsonschema.Draft202012Validator(_closed_schema(folder / f"{CUSTOM[item['kind']]}.schema.json")).validate(
        item
    )


@functools.cache
def _closed_schema(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(path.read_text())
    _close(schema)
    return schema


def _close(schema: Any) -> None:
    """Forbid properties that the schema does not name, except where the API server keeps them (metadata too)."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    if not isinstance(schema, dict):
        return
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for part in schema.values():
        _close(part)
