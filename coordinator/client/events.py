"""The events of a stream as the client gives them out."""

from typing import Any

import msgspec
from httpx_sse import ServerSentEvent

from coordinator.client.errors import Unreachable


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One durable event: its place in the log, its name, its fields (digests in hex, times RFC 3339)."""

    seq: int
    name: str
    data: dict[str, Any]


def parse_event(message: ServerSentEvent) -> ServerEvent:
    """The event of a message.

    Raises:
        Unreachable: the message is none of this API.
    """
    try:
        data = msgspec.json.decode(message.data, type=dict[str, Any])
        return ServerEvent(seq=int(message.id), name=message.event, data=data)
    except ValueError:
        raise Unreachable(f"the event stream has a message {message.event!r} that is no event") from None
