"""Taking messages from one queue with a prefetch that can change while messages are out.

Used by `queues.amqp`, one per queue and lane. A prefetch belongs to a consumer for life, and what a cancelled consumer
holds no longer counts against any prefetch. So a change keeps the books itself: more prefetch is one more consumer
with the difference; less is all consumers cancelled, and new ones as what they hold is settled. Global QoS, the other
way, does not exist for quorum queues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

from aiormq.abc import DeliveredMessage

from sandpool.link import Lane

RPC_TIMEOUT_S = 15.0
_numbers = count(1)


class QueueConsumer:
    """The consumers of one queue on one lane: together they hold at most `target` unsettled messages."""

    def __init__(
        self, lane: Lane, queue: str, on_message: Callable[[QueueConsumer, str, DeliveredMessage], Awaitable[None]]
    ) -> None:
        self.queue = queue
        self.lane = lane
        self._on_message = on_message
        self._target = 0
        self._credits: dict[str, int] = {}
        """Prefetch of each live consumer, by tag."""
        self._retired: dict[str, int] = {}
        """Unsettled messages of each cancelled consumer, by tag."""
        self._held: dict[str, int] = {}
        """Unsettled messages of each live consumer, by tag."""
        self._changing = asyncio.Lock()
        self._refill: asyncio.Task[None] | None = None

    async def set_prefetch(self, prefetch: int) -> None:
        """Hold at most `prefetch` unsettled messages from now on; 0 takes nothing. Raises vendor errors."""
        self._target = prefetch
        async with self._changing:
            if sum(self._credits.values()) > self._target:
                await self._cancel_all()
            await self._fill()

    def settled(self, tag: str) -> None:
        """A message that consumer `tag` had handed out is settled."""
        if tag in self._held:
            self._held[tag] -= 1
            return
        left = self._retired.get(tag, 0) - 1
        if left > 0:
            self._retired[tag] = left
        else:
            self._retired.pop(tag, None)
        # Not one new consumer per settled message: when all is settled, or half of the target is free.
        if self._missing() > 0 and (not self._retired or 2 * self._missing() >= self._target) and self._refill is None:
            self._refill = asyncio.get_running_loop().create_task(self._fill_again())

    def _missing(self) -> int:
        return self._target - sum(self._credits.values()) - sum(self._retired.values())

    async def _fill_again(self) -> None:
        try:
            async with self._changing:
                await self._fill()
        except Exception:
            self.lane.broken.set()  # the next lane starts with the right prefetch
            raise
        finally:
            self._refill = None

    async def _fill(self) -> None:
        missing = self._missing()
        if missing <= 0:
            return
        channel = self.lane.incoming
        tag = f"sandpool-{next(_numbers)}"
        self._credits[tag] = missing
        self._held[tag] = 0
        await channel.basic_qos(prefetch_count=missing, timeout=RPC_TIMEOUT_S)
        await channel.basic_consume(self.queue, partial(self._take, tag), consumer_tag=tag, timeout=RPC_TIMEOUT_S)

    async def _cancel_all(self) -> None:
        tags = list(self._credits)
        self._credits.clear()
        for tag in tags:
            # Deliveries that were on their way when the cancel arrived are out, too: they are counted as they come.
            await self.lane.incoming.basic_cancel(tag, timeout=RPC_TIMEOUT_S)
            self._retired[tag] = self._retired.get(tag, 0) + self._held.pop(tag)

    async def _take(self, tag: str, message: DeliveredMessage) -> None:
        if tag in self._held:
            self._held[tag] += 1
        else:
            self._retired[tag] = self._retired.get(tag, 0) + 1
        await self._on_message(self, tag, message)
