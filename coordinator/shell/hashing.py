"""Statements of single submissions, hashed together with those that come at the same moment.

Hashing one statement takes half a millisecond, nearly all of it the price of a call; hashing a hundred together hardly
takes longer. So a submission waits until the event loop has gone through what is ready, and everything that asked by
then is hashed in one go: alone when the system is idle, in groups that grow with the load.
"""

import asyncio
from typing import NamedTuple

from coordinator.core.commands import Submission
from coordinator.shell.statements import Prepared, submissions_of

#: Outputs of at most this size wait for others; a larger one takes a thread by itself.
MAX_OUTPUT_BYTES = 8 * 1_024
#: A group is hashed on the loop (a few milliseconds at most); what is above comes in the next one.
MAX_GROUP = 64


class _Asked(NamedTuple):
    prepared: Prepared
    answer: "asyncio.Future[Submission]"


class GroupHasher:
    """Collects what asks within one turn of the event loop. Lives on one loop."""

    def __init__(self, domain: bytes) -> None:
        self._domain = domain
        self._asked: list[_Asked] = []

    async def submission(self, prepared: Prepared) -> Submission:
        """What the core decides on."""
        loop = asyncio.get_running_loop()
        asked = _Asked(prepared, loop.create_future())
        self._asked.append(asked)
        if len(self._asked) == 1:
            loop.call_soon(self._hash, loop)
        return await asked.answer

    def _hash(self, loop: asyncio.AbstractEventLoop) -> None:
        group, self._asked = self._asked[:MAX_GROUP], self._asked[MAX_GROUP:]
        if self._asked:
            loop.call_soon(self._hash, loop)
        try:
            submissions = submissions_of(self._domain, [asked.prepared for asked in group], None)
        except Exception as error:  # whatever it is, it must not leave a caller waiting for ever
            for asked in group:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            return
        for asked, submission in zip(group, submissions, strict=True):
            if not asked.answer.done():  # its caller may be gone
                asked.answer.set_result(submission)
