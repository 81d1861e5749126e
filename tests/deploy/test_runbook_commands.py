"""Every kubectl command of the operator's runbook finds what it names, in every overlay."""

import re
import shlex
from pathlib import Path

import pytest

from coordinator.settings_table import KEYS
from tests.deploy.rendering import OVERLAYS, Object, by_name, of_kind, pod_templates, rendered

_COMMAND = re.compile(r"kubectl [^`|\n#]+")


def kubectl_commands(text: str) -> list[list[str]]:
    """The commands as words, without `kubectl`; in code blocks and in running text."""
    return [shlex.split(found)[1:] for found in _COMMAND.findall(text)]


def resolve(words: list[str], objects: tuple[Object, ...]) -> None:
    """Fails unless the command finds its objects. A verb that is not known here is a failure too."""
    match words:
        case ["scale", "deployment", name, replicas]:
            assert re.fullmatch(r"--replicas=(\d+|N)", replicas), replicas
            by_name(objects, "Deployment", name)
        case ["rollout", "restart", "deployment", name]:
            by_name(objects, "Deployment", name)
        case ["logs", "-l", selector, *options]:
            assert all(re.fullmatch(r"--(tail|since)=\w+", option) for option in options), options
            _pods(selector, objects)
        case ["delete", "pod", "-l", selector, "--field-selector=status.phase=Failed"]:
            _pods(selector, objects)
        case ["port-forward", target, ports]:
            kind, _, name = target.partition("/")
            assert kind == "svc", target
            service = by_name(objects, "Service", name)
            asked = int(ports.rpartition(":")[2])
            assert asked in {port["port"] for port in service["spec"]["ports"]}, words
        case _:
            pytest.fail(f"the test does not know how to resolve: kubectl {' '.join(words)}")


def _pods(selector: str, objects: tuple[Object, ...]) -> None:
    key, _, value = selector.partition("=")
    labelled = [name for name, t in pod_templates(objects) if t["metadata"]["labels"].get(key) == value]
    assert len(labelled) == 1, f"-l {selector} picks the pods of {labelled}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_command_of_the_runbook_resolves(overlay: str, shared_dir: Path) -> None:
    commands = kubectl_commands((shared_dir / "runbook.md").read_text())
    assert len(commands) >= 9
    assert {words[0] for words in commands} == {"scale", "rollout", "logs", "delete", "port-forward"}
    for words in commands:
        resolve(words, rendered(overlay))


@pytest.mark.parametrize(
    "command",
    [
        "scale deployment proof-worker --replicas=3",
        "logs -l app=coordinator",
        "port-forward svc/prometheus 9090:9093",
        "apply -f x.yaml",
    ],
)
def test_a_command_that_finds_nothing_fails(command: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        resolve(command.split(), rendered("overlays/prod"))


def test_scaling_to_the_runbooks_24_stays_within_what_may_be_wanted() -> None:
    assert KEYS["speculation.proof.worker_threads"].high >= 24
    for overlay in OVERLAYS:
        assert not of_kind(rendered(overlay), "HorizontalPodAutoscaler"), "it would undo a manual scale"
