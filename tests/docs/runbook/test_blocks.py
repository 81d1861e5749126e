"""That no block of the runbook is left out."""

from pathlib import Path

from tests.docs.runbook.conftest import Blocks


def test_every_block_is_run(blocks: Blocks) -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    bash = [block.name for block in blocks.values() if block.language == "bash"]
    assert [name for name in bash if f'"{name}"' not in sources] == []
