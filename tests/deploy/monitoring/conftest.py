"""Prometheus's own tools and the files they judge."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

MONITORING = REPOSITORY / "deploy" / "monitoring"


def tool(name: str) -> str:
    """The path of a program of Debian's `prometheus` package; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def promtool(*arguments: str, folder: Path = MONITORING) -> subprocess.CompletedProcess[str]:
    """What promtool says of the files in a folder."""
    command = [tool("promtool"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def rules() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    document = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}
