"""The certificate that both ports serve with."""

from pathlib import Path

from coordinator.settings import Settings
from workers.http_server import Tls


class TlsError(Exception):
    """The certificate cannot be served with; the message says why."""


def tls_of(settings: Settings) -> Tls | None:
    """The settings' certificate and key, or None for plain HTTP.

    Raises:
        TlsError: half a pair, or one that cannot be used.
    """
    certificate, key = settings.optional_text("admin.tls_cert"), settings.optional_text("admin.tls_key")
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise TlsError("TLS needs both: a certificate (--tls-cert) and its key (--tls-key)")
    tls = Tls(Path(certificate), Path(key))
    try:
        tls.check()
    except OSError as error:  # ssl.SSLError is one
        raise TlsError(f"TLS: {certificate} with {key}: {error.strerror or error}") from None
    return tls
