"""The client library: `AsyncClient` and `Client` over the same calls; `Session` carries a task to confirmation and
resubmits where that can help. Errors: `coordinator.client.errors`.
"""

from coordinator.client.aio import AsyncClient
from coordinator.client.session import Session
from coordinator.client.sync import Client

__all__ = ["AsyncClient", "Client", "Session"]
