"""Our own pages for operators: each command in them is run, in the page's order, at the same desk."""

import re
from collections.abc import Callable

import pytest

from coordinator.core.states import OperationState
from tests.conftest import REPOSITORY
from tests.docs.runbook.blocks import Block, blocks_of
from tests.docs.runbook.desk import Desk
from tests.docs.runbook.trouble import guilty_parent, unprovable

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]


def bash_of(name: str) -> list[Block]:
    return [
        block for block in blocks_of((REPOSITORY / "docs" / name).read_text()) if block.language == "bash"
    ]


@pytest.fixture
def placeholders(speculating: Desk) -> dict[str, Callable[[], str]]:
    """What the pages' capitals stand for: made when a block first asks for it."""
    desk, made = speculating, dict[str, str]()

    def kept(name: str, make: Callable[[], str]) -> Callable[[], str]:
        return lambda: made.setdefault(name, make())

    def confirmed() -> str:
        name = desk.submit(desk.new_actor())
        assert desk.wait(name) == OperationState.CONFIRMED
        return name

    def bundle() -> str:
        unprovable(desk)
        folder = desk.folder / "data" / "bundles"
        desk.until("the bundle is written", lambda: list(folder.glob("*.json")))
        return str(next(folder.glob("*.json")))

    def slash() -> str:
        guilty_parent(desk)
        return str(desk.value_of("/admin/slashes")[0]["slash_id"])

    return {
        "OP_ID": kept("OP_ID", confirmed),
        "AGENT_ID": kept("AGENT_ID", lambda: desk.new_actor().agent_id),
        "SLASH_ID": kept("SLASH_ID", slash),
        "BUNDLE": kept("BUNDLE", bundle),
    }


@pytest.mark.parametrize("page", ["RUNBOOK.md", "CONFIGURATION.md"])
def test_every_command_works(
    speculating: Desk, placeholders: dict[str, Callable[[], str]], page: str
) -> None:
    for block in bash_of(page):
        needed = {
            name: make() for name, make in placeholders.items() if re.search(rf"\b{name}\b", block.text)
        }
        ran = speculating.run(block, strict=True, **needed)
        assert ran.status == 0, (block.name, ran)
        assert ran.output or "export" in block.text or "-o " in block.text, (block.name, ran)


def test_every_link_leads_somewhere() -> None:
    text = (REPOSITORY / "docs" / "RUNBOOK.md").read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {"#" + title.lower().replace(" ", "-") for title in titles}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link in anchors or (REPOSITORY / "docs" / link).is_file(), link
