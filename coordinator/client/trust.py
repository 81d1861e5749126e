"""Whom a client believes that the server is who it says."""

import ssl


def trusted(url: str, tls: ssl.SSLContext | None) -> ssl.SSLContext:
    """The context to connect to `url` with: the one given, or else the system's authorities, which the variable
    SSL_CERT_FILE replaces. There is none that does not verify.
    """
    if tls is not None:
        return tls
    if url.lower().startswith("https:"):
        return ssl.create_default_context()
    return ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # never used; trusts nobody, and loads no list to find that out
