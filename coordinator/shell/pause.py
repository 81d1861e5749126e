"""Waiting for an event or for a time, whichever is first."""

import asyncio


async def wait_or_pause(event: asyncio.Event, timeout_s: float) -> bool:
    """True once the event is set, False when the time is over first.

    Trap: `asyncio.wait_for` swallows a cancellation that comes together with the result (Python 3.11), and a loop that
    rests on it cannot be stopped; `asyncio.timeout` does not.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
