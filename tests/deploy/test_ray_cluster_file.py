"""`ray up` takes the cluster file, and the commands in it are commands that exist."""

import shlex
from typing import Any

import pytest
import yaml

from tests.deploy.commands import check_agenc, check_ray_start
from tests.deploy.rendering import DEPLOY

FILE = DEPLOY / "ray" / "cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_rays_own_validator_takes_the_file(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    with pytest.raises(Exception, match="surprise"):
        validate_config(prepared | {"surprise": 1})


def test_the_nodes_are_as_many_as_the_hosts(config: dict[str, Any]) -> None:
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_commands_parse(config: dict[str, Any]) -> None:
    head = config["head_start_ray_commands"][-1].partition("; ")[2]
    check_ray_start(shlex.split(head))
    worker = config["worker_start_ray_commands"][-1].partition("nohup ")[2].partition(" > ")[0]
    check_agenc(shlex.split(worker))


def test_every_node_asks_for_the_token(config: dict[str, Any]) -> None:
    options = " ".join(config["docker"]["run_options"])
    assert "RAY_AUTH_MODE=token" in options
    assert "RAY_AUTH_TOKEN_PATH=/run/ray-token" in options
    assert ":/run/ray-token:ro" in options
