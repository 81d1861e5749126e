"""One running coordinator with tokens of every scope, for the tests of a module."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.coordinator.conftest import ONE_WORKER, QUICK, RunningSystem, running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Mock proofs (what is proved does not matter here), registration for the operator alone."""
    with running(tmp_path_factory.mktemp("system"), QUICK | ONE_WORKER) as started:
        yield started


@dataclass(frozen=True)
class Callers:
    """A token of each operator's scope, and one of an agent."""

    operators: Mapping[str, str]
    agent: str
