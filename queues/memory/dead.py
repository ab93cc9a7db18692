"""The operator's side of `sandpool.dead` on the in-process broker: `queues.dead.DeadLetters` without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from queues.errors import BrokerAway
from queues.letter import Letter, read_letter, requeued
from queues.memory.broker import Connection, MemoryBroker
from queues.memory.queue import Consumer, Held
from queues.topology import DEAD
from sandpool.wire import JOBS_EXCHANGE

GET_TIMEOUT_S = 5.0


class MemoryDeadLetters:
    """Takes letters as a consumer with a prefetch of all that lie there, and gives back what it holds at `close`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._service = broker.service_user
        self._connection: Connection | None = None
        self._consumer: Consumer | None = None

    async def open(self) -> None:
        self._connection = self._broker.connect(self._service, on_lost=self._on_lost)

    async def count(self) -> int:
        return self._broker.waiting(DEAD)

    async def letters(self) -> AsyncIterator[Letter]:
        if self._connection is None:
            raise BrokerAway("not connected")
        arrived: asyncio.Queue[Held] = asyncio.Queue()
        count = await self.count()
        loop = asyncio.get_running_loop()
        self._consumer = Consumer(loop, arrived.put_nowait, on_cancel=self._on_lost, prefetch=count)
        self._broker.consume(self._connection, DEAD, self._consumer)
        self._broker.stop_handing_out(DEAD, self._consumer)
        for _ in range(len(self._consumer.unsettled)):
            async with asyncio.timeout(GET_TIMEOUT_S):
                held = await arrived.get()
            yield read_letter(held.message, self._service, held)

    async def requeue(self, letter: Letter) -> None:
        key, message = requeued(letter, self._service)
        self._broker.publish(self._service, JOBS_EXCHANGE, key, message)
        await self.drop(letter)

    async def drop(self, letter: Letter) -> None:
        if self._consumer is None or self._connection is None:
            raise BrokerAway("the connection broke: what was not settled is in the queue again")
        self._broker.settle(self._broker.queue(DEAD), self._consumer, letter.token)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._broker.disconnect(connection)

    def _on_lost(self) -> None:
        self._connection = None
