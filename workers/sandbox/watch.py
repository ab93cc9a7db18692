"""Changes of files inside, as they are told: kept up to a limit, for whoever iterates.

Used by `transfers`. Whoever does not keep up loses changes and is told so by one of kind `lost`: a busy folder must not
make the host remember it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from workers.sandbox import wire
from workers.sandbox.replies import Reply

MOST_KEPT = 2000
LOST = wire.Change(path="", kind="lost")


@dataclass
class WatchReply(Reply):
    """The reply to a `watch`: goes on until it is ended. `begun` is set by the first frame."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    changes: deque[wire.Change] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: Exception) -> None:
        super().fail(error)
        self.news.set()

    async def take(self, message: wire.Message, payload: bytes) -> None:
        if not isinstance(message, wire.Changes):
            await super().take(message, payload)
        elif not self.ended.done():
            for change in wire.decode_changes(payload):
                self._keep(change)
            self.begun.set()
        self.news.set()

    def _keep(self, change: wire.Change) -> None:
        if len(self.changes) < MOST_KEPT:
            self.changes.append(change)
        elif self.changes[-1] != LOST:
            self.changes[-1] = LOST


class Watch:
    """Iterate: one change after another, waiting for the next; ends when the watch does, raises when the session is
    lost."""

    def __init__(self, reply: WatchReply) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[wire.Change]:
        reply = self._reply
        while True:
            while reply.changes:
                yield reply.changes.popleft()
            if reply.ended.done():
                reply.ended.result()  # raises when the session is lost
                return
            reply.news.clear()
            await reply.news.wait()
