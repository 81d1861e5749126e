"""Fixtures that every test may use: where the shared vectors lie, and the one Ray of a test process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.shell import machine
from tests import kept_ray

REPOSITORY = Path(__file__).resolve().parent.parent

#: Groups of few and long tests: begun first, so that no process works on alone at the end.
LONG_GROUPS = ("system", "hosts", "desk", "cuda", "monitoring", "recovery", "console")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file stay in one process, where they share what is dear to start; long groups come first."""
    ranks = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(REPOSITORY).as_posix()))
        name = "" if mark is None else mark.args[0]
        ranks[item] = LONG_GROUPS.index(name) if name in LONG_GROUPS else len(LONG_GROUPS)
    items.sort(key=ranks.__getitem__)


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
