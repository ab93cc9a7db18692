"""The operator's side of `sandpool.dead`: look at every letter, make some of them jobs again, drop others.

`AmqpDeadLetters` is the real one (`sandpool dead`), `queues.memory.MemoryDeadLetters` the in-process twin; both pass
the same suite. Runs beside any number of schedulers, with the service user's URL, and declares nothing: a repair tool
must work where a declaration would not.

Looking takes a letter out of the queue and holds it unsettled; what was neither requeued nor dropped goes back at
`close`, or when this process dies, in its old order. So memory here is one window of letters, however many there are,
and nothing is lost when a call is interrupted; meanwhile another call does not see the letters that this one holds.
(Putting each back at once would show the same first letter for ever; a copy of the queue would have to be kept in
step.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from typing import Protocol
from urllib.parse import unquote, urlsplit

from aiormq.abc import DeliveredMessage

from queues.errors import BrokerAway, NotConfirmed
from queues.fence import queue_error
from queues.letter import Letter, read_letter, requeued
from queues.topology import DEAD
from queues.translation import message_of, properties_of
from sandpool.fault import VENDOR_ERRORS, Fault, fault_of
from sandpool.link import Lane, Link
from sandpool.wire import JOBS_EXCHANGE

OPEN_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 30.0
LOOK_S = 1.0
WINDOW = 64
"""Letters under way at once, each of at most some MiB. Getting them one by one takes 7 ms each, so this takes 0.2."""
_numbers = count(1)


class DeadLetters(Protocol):
    """Every method has a deadline inside and raises `queues.errors` only."""

    async def open(self) -> None:
        """Connect. Raises BrokerAway, AccessRefused."""

    async def count(self) -> int:
        """How many letters lie there and are not held by another call. Raises TopologyMismatch: there is no queue."""

    def letters(self) -> AsyncIterator[Letter]:
        """The letters that lie there now, oldest first, each once; those that come meanwhile are for the next call."""

    async def requeue(self, letter: Letter) -> None:
        """Publish it as a job at its first attempt, confirmed, then remove it: twice is possible, lost is not.

        Raises NotRequeueable, NotConfirmed (its queue is full).
        """

    async def drop(self, letter: Letter) -> None:
        """Remove it for good."""

    async def close(self) -> None:
        """Give back what is held. Safe to call twice."""


class AmqpDeadLetters:
    """On RabbitMQ; use it on one event loop."""

    def __init__(self, url: str) -> None:
        self._service = unquote(urlsplit(url).username or "guest")
        self._url = url
        self._link: Link | None = None
        self._lane: Lane | None = None
        self._arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        """At most WINDOW of them: the prefetch bounds it."""
        self._credit = 0
        self._held = 0

    async def open(self) -> None:
        self._link = Link(self._url, "sandpool dead letters", _prepare_nothing, _ignore)
        try:
            await self._link.open(OPEN_TIMEOUT_S)
            self._lane = await self._link.lane(OPEN_TIMEOUT_S)
        except Fault as fault:
            raise queue_error(fault) from fault

    async def count(self) -> int:
        try:
            found = await self._held_lane().incoming.queue_declare(DEAD, passive=True, timeout=CALL_TIMEOUT_S)
        except VENDOR_ERRORS as error:
            raise queue_error(fault_of(error)) from error
        return found.message_count or 0 if found else 0

    async def letters(self) -> AsyncIterator[Letter]:
        for _ in range(await self.count()):
            try:
                delivered = await self._next()
            except VENDOR_ERRORS as error:
                raise queue_error(fault_of(error)) from error
            if delivered is None:
                return
            self._held += 1
            yield self._read(delivered)

    async def _take_more(self) -> None:
        """One more consumer: what the others hold uses up their prefetch. None is cancelled, for what is on its way to
        a cancelled consumer is dropped by the library."""
        channel = self._held_lane().incoming
        # Padded, because a broker hands back what several consumers held in the order of their tags.
        tag = f"sandpool-dead-{next(_numbers):08d}"
        self._credit += WINDOW
        await channel.basic_qos(prefetch_count=WINDOW, timeout=CALL_TIMEOUT_S)
        await channel.basic_consume(DEAD, self._arrived.put, consumer_tag=tag, timeout=CALL_TIMEOUT_S)

    async def _next(self) -> DeliveredMessage | None:
        """The next one; None when the queue has no more, because another call took the rest."""
        if self._arrived.empty() and self._held >= self._credit:
            await self._take_more()
        for _ in range(round(CALL_TIMEOUT_S / LOOK_S)):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    return await self._arrived.get()
            if await self.count() == 0 and self._arrived.empty():
                return None
        raise BrokerAway(f"no dead letter within {CALL_TIMEOUT_S:g} s, though some are there")

    def _read(self, delivered: DeliveredMessage) -> Letter:
        return read_letter(message_of(delivered), self._service, delivered.delivery_tag)

    async def requeue(self, letter: Letter) -> None:
        key, message = requeued(letter, self._service)
        lane = self._held_lane()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await lane.confirm(JOBS_EXCHANGE, key, message.body, properties_of(message))
        except TimeoutError:
            raise NotConfirmed(f"no confirm from the broker within {CALL_TIMEOUT_S:g} s") from None
        except Fault as fault:
            raise queue_error(fault, JOBS_EXCHANGE, key) from fault
        await self.drop(letter)

    async def drop(self, letter: Letter) -> None:
        self._held_lane().ack(letter.token)
        self._held -= 1

    async def close(self) -> None:
        link, self._link, self._lane = self._link, None, None
        if link is not None:
            await link.close()

    def _held_lane(self) -> Lane:
        """The lane that holds the letters: on another one, after a lost connection, they would be seen twice."""
        if self._lane is None or not self._lane.is_open:
            raise BrokerAway("the connection broke: what was not settled is in the queue again")
        return self._lane


async def _prepare_nothing(_lane: Lane) -> None:
    return


def _ignore() -> None:
    return
