"""Tests of the workers start their own Ray: the one kept for the coordinators is let go of first."""

import pytest

from tests.kept_ray import let_go


@pytest.fixture(scope="module", autouse=True)
def _no_kept_ray() -> None:
    let_go()
