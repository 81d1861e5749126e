"""Who can reach the server, and what that takes: beyond this machine a token that the operator chose, and TLS or the
operator's word that something else protects the line.
"""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.cli.errors import CliError

if TYPE_CHECKING:
    from coordinator.settings import Settings

#: The placeholder of a copied line is shorter than what `openssl rand -base64 32` prints.
MIN_TOKEN_CHARS = 20


def require_safe(settings: "Settings") -> None:
    """Refuse to listen where others can reach the server without what that takes, or with a certificate that cannot be
    used. Raises CliError.
    """
    from coordinator.tls import TlsError, tls_of
    from coordinator.tokens import TokenFile

    try:
        tls = tls_of(settings)
    except TlsError as error:
        raise CliError(str(error)) from None
    host = settings.text("admin.host")
    if is_loopback(host):
        return
    token = settings.optional_text("admin.token")
    if token is None and not TokenFile(Path(settings.text("data_dir"))).read():
        raise CliError(
            f"--host {host}: others could reach the admin API; set AGENC_ADMIN_TOKEN, make a token with "
            "`agenc token create`, or listen on 127.0.0.1"
        )
    if token is not None and len(token) < MIN_TOKEN_CHARS:
        raise CliError(
            f"--host {host}: AGENC_ADMIN_TOKEN is short enough to be guessed; take at least {MIN_TOKEN_CHARS} random "
            "characters (openssl rand -base64 32)"
        )
    if tls is None and not settings.flag("admin.allow_plain_http"):
        raise CliError(
            f"--host {host}: tokens would cross the network in the clear; give --tls-cert and --tls-key, or "
            "--allow-plain-http where a proxy or a private network protects the line"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
