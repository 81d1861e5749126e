"""docs/DEPLOYMENT.md says what is there: paths, overlays, components, secrets."""

import re

import pytest

from tests.deploy.rendering import KUBERNETES, REPOSITORY, by_name, of_kind, rendered
from tests.deploy.test_manifests import SECRETS_TO_MAKE

PAGE = (REPOSITORY / "docs" / "DEPLOYMENT.md").read_text()


def test_every_path_named_exists() -> None:
    paths = set(re.findall(r"\b(?:deploy|config)/[\w./-]+\w", PAGE))
    assert len(paths) > 8
    for path in paths:
        assert (REPOSITORY / path).exists(), path


def test_the_table_of_overlays_is_true() -> None:
    rows = re.findall(r"\| `(overlays/\w+)` \| `([\w-]+)` \| (\w+) \| (\d+) \| (\d+) GiB \|", PAGE)
    assert {row[0] for row in rows} == {
        f"overlays/{path.name}" for path in (KUBERNETES / "overlays").iterdir()
    }
    for overlay, namespace, profile, workers, memory in rows:
        objects = rendered(overlay)
        assert of_kind(objects, "Namespace")[0]["metadata"]["name"] == namespace
        assert by_name(objects, "Deployment", "proof-workers")["spec"]["replicas"] == int(workers)
        (container,) = by_name(objects, "Deployment", "agenc")["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["memory"] == f"{memory}Gi"
        assert {"name": "PROFILE", "value": profile} in container["env"]


def test_every_component_is_told_of() -> None:
    told = re.findall(r"^\| `([\w-]+)` \| (?!`)", PAGE, re.MULTILINE)
    assert set(told) == {path.name for path in (KUBERNETES / "components").iterdir()}


@pytest.mark.parametrize("secret", SECRETS_TO_MAKE)
def test_the_secrets_are_made_with_the_keys_that_are_read(secret: str) -> None:
    (key,) = re.findall(rf"create secret generic {secret} --from-literal=(\w+)=", PAGE)
    assert SECRETS_TO_MAKE[secret] == {key}
