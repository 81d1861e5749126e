"""The runbook's blocks, and the desk at which they are run: one live system under load for all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.runbook.blocks import Block, blocks_of
from tests.docs.runbook.desk import Desk, loaded, missing_tools, open_desk

if TYPE_CHECKING:
    from tests.coordinator.otlp import Collector

Blocks = dict[str, Block]


@pytest.fixture(scope="session")
def blocks(shared_dir: Path) -> Blocks:
    """The runbook's blocks by name."""
    missing = missing_tools()
    if missing:
        pytest.skip(f"the runbook's tools are not installed: {', '.join(missing)} (Debian: jq procps curl)")
    found = blocks_of((shared_dir / "runbook.md").read_text())
    return {block.name: block for block in found}


@pytest.fixture(scope="package")
def collector() -> Iterator["Collector | None"]:
    """Where the system's traces go; None where the extra `tracing` is not installed."""
    try:
        from tests.coordinator.otlp import collecting
    except ImportError:
        yield None
        return
    with collecting() as server:
        yield server


@pytest.fixture(scope="package")
def desk(
    blocks: Blocks, tmp_path_factory: pytest.TempPathFactory, collector: "Collector | None"
) -> Iterator[Desk]:
    environment = {} if collector is None else {"AGENC_TRACING_ENDPOINT": collector.endpoint}
    with open_desk(tmp_path_factory.mktemp("desk"), **environment) as opened, loaded(opened):
        yield opened


@pytest.fixture
def speculating(desk: Desk) -> Iterator[Desk]:
    """The desk with speculation on and no trouble, before and after."""
    desk.reset()
    yield desk
    desk.reset()
