"""One running coordinator with tokens of every scope, for the tests of a module."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.coordinator.conftest import (
    OPERATOR_TOKEN,
    RunningSystem,
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Mock proofs (what is proved does not matter here), registration for the operator alone."""
    environ = {
        "AGENC_ADMIN_TOKEN": OPERATOR_TOKEN,
        "AGENC_ADMIN_WORKERS_PORT": "0",
        "AGENC_CHAIN_SLOT_MS": "20",
        "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
        "AGENC_SPECULATION_PROOF_WORKER_THREADS": "1",
    }
    running = RunningSystem(tmp_path_factory.mktemp("system"), environ)
    running.start()
    yield running
    running.stop()


@dataclass(frozen=True)
class Callers:
    """A token of each operator's scope, and one of an agent."""

    operators: Mapping[str, str]
    agent: str
