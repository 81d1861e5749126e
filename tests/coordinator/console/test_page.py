"""The console in a real browser, over a real coordinator: it shows, it acts, it is usable without a mouse."""

import shutil
from collections.abc import Callable, Iterator

import httpx
import pytest

from coordinator.client.sync import Client
from tests.coordinator.conftest import OPERATOR_TOKEN, Actor, RunningSystem, unique

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.xdist_group("console"),
    pytest.mark.timeout(180),
]

PATIENCE_MS = 60_000


class Visitor:
    """A browser's page on the console, with all that it asked for and complained of."""

    def __init__(self, page: "playwright.Page", url: str) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.goto(url)

    def sees(self, selector: str, text: str) -> None:
        """Wait until that part of the page says so."""
        playwright.expect(self.page.locator(selector)).to_contain_text(text, timeout=PATIENCE_MS)

    def uses_token(self, token: str) -> None:
        self.page.get_by_label("Operator’s token").fill(token)
        self.page.keyboard.press("Enter")

    def does(self, action: str) -> None:
        """Start an action and confirm it."""
        self.page.get_by_role("button", name=f"{action}…").click()
        self.page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()


@pytest.fixture(scope="module")
def browser() -> "Iterator[playwright.Browser]":
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: "playwright.Browser", system: RunningSystem) -> Iterator[Visitor]:
    page = browser.new_page()
    yield Visitor(page, system.url)
    page.close()


@pytest.fixture
def chain_of_work(operator: Client, new_actor: Callable[..., Actor], frozen_chain: None) -> "tuple[str, str]":
    """An operation and its speculative child, neither confirmed while the test runs."""
    actor = new_actor()
    parent, child = unique("parent"), unique("child")
    with actor.client as client:
        client.submit(actor.body(parent))
        client.submit(actor.body(child, parent))
    return parent, child


def test_it_shows_the_system_and_asks_nobody_else(
    visitor: Visitor, system: RunningSystem, chain_of_work: tuple[str, str]
) -> None:
    parent, child = chain_of_work
    visitor.sees("#facts", "connected")
    assert visitor.page.locator(".figure").count() == 7
    assert visitor.page.locator(".chart").count() == 8
    visitor.page.locator(f'.node[data-id="{child}"]').click()
    visitor.sees("#operation", child)
    visitor.sees("#operation", "Granted")
    visitor.sees("#operation .timeline", "speculating")
    visitor.sees("#operation", parent)
    assert visitor.complaints == []
    assert all(url.startswith(system.url) for url in visitor.asked)


def test_an_action_asks_first_then_acts_and_is_recorded(
    visitor: Visitor, operator: Client, system: RunningSystem
) -> None:
    visitor.uses_token(OPERATOR_TOKEN)
    visitor.page.get_by_label("Rollout in %").select_option("25")
    visitor.page.get_by_role("button", name="Rollout…").click()
    visitor.sees("#confirm-command", '"speculation.features.rollout_percentage":25')
    visitor.page.keyboard.press("Escape")
    assert system.service.engine.config.rollout_percentage == 100
    visitor.does("Rollout")
    visitor.sees("#action-result", "Rollout: done")
    assert system.service.engine.config.rollout_percentage == 25
    visitor.sees("#audit", "rollout_percentage")


@pytest.mark.parametrize(
    ("token", "said"), [("", "need the operator’s token"), ("not-the-token", "Drain speculation:")]
)
def test_without_the_right_token_nothing_happens(
    visitor: Visitor, operator: Client, system: RunningSystem, token: str, said: str
) -> None:
    if token:
        visitor.uses_token(token)
    visitor.does("Drain speculation")
    visitor.sees("#action-result.critical", said)
    assert system.service.engine.state.totals.latch is None


def test_it_can_be_used_from_the_keyboard_alone(
    visitor: Visitor, system: RunningSystem, chain_of_work: tuple[str, str]
) -> None:
    page = visitor.page
    visitor.uses_token(OPERATOR_TOKEN)
    page.locator(f'.node[data-id="{chain_of_work[1]}"]').wait_for()
    page.get_by_label("Operation’s id").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowUp")
    for _ in range(2):  # other tests' operations may stand before ours
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    visitor.sees("#operation .timeline", "submitted")

    page.get_by_role("button", name="Drain speculation…").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "confirm-no"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    visitor.sees("#action-result", "Drain speculation: done")
    assert system.service.engine.state.totals.latch is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(visitor: Visitor, chain_of_work: tuple[str, str], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    visitor.page.emulate_media(color_scheme=scheme)
    visitor.page.locator(f'.node[data-id="{chain_of_work[1]}"]').click()
    visitor.sees("#operation", "Granted")
    found = axe.Axe().run(visitor.page)
    assert found.violations_count == 0, found.generate_report()


def test_its_files_are_named_and_nothing_else_is_served(system: RunningSystem) -> None:
    page = httpx.get(system.url + "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    again = httpx.get(system.url + "/", headers={"if-none-match": page.headers["etag"]})
    assert again.status_code == 304
    for name in ("none.js", "..%2foverview.py", "__init__.py"):
        assert httpx.get(f"{system.url}/console/{name}").status_code == 404
