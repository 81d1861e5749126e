"""Pages that are made from the code say what the code says now: `make docs` makes them anew."""

import re
from collections.abc import Callable

import pytest

from coordinator.http.api_docs import api_page
from coordinator.http.app import routed_app
from coordinator.settings_docs import configuration_page
from coordinator.settings_table import KEYS
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(("name", "page"), [("API.md", api_page), ("CONFIGURATION.md", configuration_page)])
def test_a_generated_page_is_current(name: str, page: Callable[[], str]) -> None:
    kept = (REPOSITORY / "docs" / name).read_text()
    assert kept == page(), f"docs/{name} is not current: make docs"


def test_every_key_has_one_row() -> None:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| [^|]+\| [^|]+\| [^|]+\| [^|]+\|$", configuration_page(), re.MULTILINE
    )
    assert sorted(rows) == sorted(KEYS)


def test_every_route_has_its_section() -> None:
    page = api_page()
    for path, methods in routed_app().openapi()["paths"].items():
        for method in methods:
            assert f"\n## {method.upper()} {path}\n" in page


def test_no_link_of_the_api_page_leads_nowhere() -> None:
    page = api_page()
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.+)$", page, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
