"""The scheduler's door on the in-process broker: `queues.door.Door` without a server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from queues.door import Delivery
from queues.errors import BrokerAway, DoorClosed, NotConfirmed, Unroutable
from queues.memory.broker import Connection, MemoryBroker
from queues.memory.queue import Consumer, Held, MemoryQueue
from queues.message import PARKED, Message, dead_letter, next_attempt, read_delivery, routing_key_of
from queues.topology import DEAD, parked, parked_exchange, retry_delay, retry_name
from sandpool.wire import EVENTS_EXCHANGE

_log = logging.getLogger(__name__)

OnDelivery = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Token:
    queue: MemoryQueue
    consumer: Consumer
    held: Held

    @property
    def is_held(self) -> bool:
        """Whether this delivery is still ours to settle."""
        return id(self.held) in self.consumer.unsettled


class MemoryDoor:
    """One scheduler on an in-process broker; use it on one event loop."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._service = broker.service_user
        self._connection: Connection | None = None
        self._wanted: dict[str, tuple[int, OnDelivery]] = {}
        self._consumers: dict[str, Consumer] = {}
        self._closed = False

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect()

    async def consume(self, queue: str, prefetch: int, on_delivery: OnDelivery) -> None:
        self._wanted[queue] = (prefetch, on_delivery)
        consumer = self._consumers.get(queue)
        if consumer is None:
            self._start(queue)
            return
        self._broker.change_prefetch(queue, consumer, prefetch)

    async def stop_consuming(self) -> None:
        self._wanted.clear()
        for queue, consumer in self._consumers.items():
            self._broker.stop_handing_out(queue, consumer)
        self._consumers.clear()

    async def ack(self, delivery: Delivery) -> None:
        token: _Token = delivery.token
        self._broker.settle(token.queue, token.consumer, token.held)

    async def retry(self, delivery: Delivery, delay_s: float, code: str) -> None:
        whole_s = retry_delay(delay_s)
        message = next_attempt(delivery, code, whole_s, self._service)
        await self._move(delivery, retry_name(whole_s), routing_key_of(delivery.queue), message)

    async def park(self, delivery: Delivery) -> None:
        message = next_attempt(delivery, PARKED, 0, self._service)
        await self._move(delivery, parked_exchange(delivery.tenant or ""), routing_key_of(delivery.queue), message)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self._move(delivery, DEAD, "", dead_letter(delivery, reason, time.time()))

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        token: _Token = delivery.token
        if not delivery.reply_to or not token.is_held:
            return
        try:
            self._publish("", delivery.reply_to, Message(body, correlation_id=delivery.correlation_id))
        except (Unroutable, NotConfirmed):
            return  # the caller is gone or does not read: the record in the volume is the answer it can still ask for

    async def publish_event(self, routing_key: str, body: bytes) -> None:
        try:
            self._publish(EVENTS_EXCHANGE, routing_key, Message(body))
        except Unroutable:
            return  # nobody listens

    async def publish_outcome(self, delivery: Delivery, routing_key: str, body: bytes) -> None:
        try:
            await self.publish_event(routing_key, body)
        except NotConfirmed as error:
            _log.warning("event %s refused: %s", routing_key, error)
        await self.reply(delivery, body)

    async def depths(self) -> dict[str, int]:
        names = [queue.name for queue in self._broker.topology.queues]
        names += [queue.name for name in self._wanted for queue in parked(name).queues]
        return {name: self._broker.waiting(name) for name in names}

    async def close(self) -> None:
        self._closed = True
        self._wanted.clear()
        self._consumers.clear()
        if self._connection is not None:
            self._broker.disconnect(self._connection)
            self._connection = None

    def _connect(self) -> None:
        if self._closed:
            return
        self._broker.declare_topology()
        self._consumers.clear()
        self._connection = self._broker.connect(self._service, on_lost=self._on_lost)
        for queue in self._wanted:
            self._start(queue)

    def _on_lost(self) -> None:
        self._connection = None
        self._loop.call_soon_threadsafe(self._connect)

    def _start(self, queue: str) -> None:
        if self._connection is None:
            raise DoorClosed("open the door first") if self._closed else BrokerAway("not connected")
        self._broker.declare(parked(queue))
        prefetch, on_delivery = self._wanted[queue]
        hand_on = partial(self._hand_on, queue, on_delivery)
        consumer = Consumer(self._loop, lambda held: hand_on(consumer, held), partial(self._restart, queue), prefetch)
        self._consumers[queue] = consumer
        self._broker.consume(self._connection, queue, consumer)

    def _restart(self, queue: str) -> None:
        """Someone deleted the queue: declare it again and go on."""
        if self._connection is not None and queue in self._wanted:
            self._broker.declare_topology()
            self._start(queue)

    def _hand_on(self, queue: str, on_delivery: OnDelivery, consumer: Consumer, held: Held) -> None:
        if id(held) not in consumer.unsettled:
            return  # went back with a lost connection before the loop came to it
        token = _Token(self._broker.queue(queue), consumer, held)
        on_delivery(read_delivery(held.as_delivered(), queue, self._service, token))

    async def _move(self, delivery: Delivery, exchange: str, routing_key: str, message: Message) -> None:
        """Publish elsewhere, then ack; what is refused there goes back to its queue."""
        token: _Token = delivery.token
        if not token.is_held:
            return  # it comes again by itself
        try:
            self._publish(exchange, routing_key, message)
        except (NotConfirmed, Unroutable):
            self._broker.give_back(token.queue, token.consumer, token.held)
            raise
        await self.ack(delivery)

    def _publish(self, exchange: str, routing_key: str, message: Message) -> None:
        if self._connection is None:
            raise DoorClosed("the door is closed") if self._closed else BrokerAway("not connected")
        self._broker.publish(self._service, exchange, routing_key, message)
