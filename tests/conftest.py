"""Fixtures that every test may use: where the shared vectors lie, and the one Ray of a test process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.shell import machine
from tests import kept_ray

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The shared folder beside the repository; tests that need it are skipped where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "vectors").is_dir():
        pytest.skip("the shared folder with the vectors is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def vectors_dir(shared_dir: Path) -> Path:
    return shared_dir / "vectors"


@pytest.fixture(scope="session", autouse=True)
def _one_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "RayRuntime", kept_ray.keep)
        yield
    kept_ray.let_go()
