"""The client library: `aio.AsyncClient` and `sync.Client` over the same calls, `session.Session` on top."""
