"""The peer, built once; tests that need it are skipped, with the reason, where it cannot be had."""

import pytest

from bench import plonky3


@pytest.fixture(scope="session")
def peer() -> None:
    try:
        plonky3.binary()
    except plonky3.PeerUnavailable as reason:
        pytest.skip(str(reason))
