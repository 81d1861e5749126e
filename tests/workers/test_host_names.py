"""By which names a host's 9091 endpoint may be asked."""

import pytest

from workers.host import names_of
from workers.http_server import host_allowed


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_only_loopbacks_names(host: str) -> None:
    assert host_allowed("localhost:9091", names_of(host))
    assert not host_allowed("attacker.example:9091", names_of(host))


def test_where_others_reach_it_they_come_by_whatever_address_it_has() -> None:
    assert host_allowed("10.1.2.3:9091", names_of("0.0.0.0"))
