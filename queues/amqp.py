"""The scheduler's door on RabbitMQ: `queues.door.Door` over one connection that comes back.

Opened by the composition root with the service user's URL. Replies and acks share a channel without confirms, so that
"publish the outcome, then ack" is one write and the broker's own order; what must not be lost (retries, dead letters,
events) goes over a second channel and waits for its confirm. Judgement about messages is in `queues.message`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from aiormq.abc import DeliveredMessage

from queues.consumer import QueueConsumer
from queues.door import Delivery
from queues.errors import BrokerAway, DoorClosed, NotConfirmed, Unroutable
from queues.fence import queue_error
from queues.message import PARKED, Message, dead_letter, next_attempt, read_delivery, routing_key_of
from queues.topology import DEAD, Limits, Topology, parked, parked_exchange, retry_delay, retry_name, topology
from queues.translation import message_of, properties_of
from sandpool.fault import VENDOR_ERRORS, Fault, Kind, fault_of
from sandpool.link import Lane, Link
from sandpool.wire import EVENTS_EXCHANGE

_log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 60.0
PUBLISH_TIMEOUT_S = 30.0
RPC_TIMEOUT_S = 15.0
UNHEARD_S = 1.0
"""After an event that nobody listened to, how long to publish none: so much a new listener may miss."""

OnDelivery = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Token:
    consumer: QueueConsumer
    consumer_tag: str
    delivery_tag: int


class AmqpDoor:
    """One scheduler's connection to the broker; use it on one event loop."""

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self._service = unquote(urlsplit(url).username or "guest")
        self._limits = limits
        self._topology = topology(limits)
        self._wanted: dict[str, tuple[int, OnDelivery]] = {}
        self._consumers: dict[str, QueueConsumer] = {}
        self._late: list[_Token] | None = None
        """What arrives while the consumers are being cancelled."""
        self._stopping: asyncio.Task[None] | None = None
        self._unheard_until_s = 0.0
        self._link: Link | None = None
        self._url = url
        self._closed = False

    async def open(self) -> None:
        self._link = Link(self._url, "sandpool door", self._prepare, self._consumers.clear)
        try:
            await self._link.open(OPEN_TIMEOUT_S)
        except Fault as fault:
            raise queue_error(fault) from fault

    async def consume(self, queue: str, prefetch: int, on_delivery: OnDelivery) -> None:
        self._wanted[queue] = (prefetch, on_delivery)
        link = self._require_link()
        lane = link.current
        if lane is None:
            return  # the next lane starts with it
        try:
            await self._consume(lane, queue)
        except VENDOR_ERRORS as error:
            fault = fault_of(error)
            if fault.kind is not Kind.AWAY:
                raise queue_error(fault) from error
            # Shortly after a broker's restart a queue may have no leader yet, and consuming ends the connection. The
            # link connects again, with pauses; a lane is there once it consumes everything that is wanted.
            lane.broken.set()
            await self._wait_for_lane(link)

    async def stop_consuming(self) -> None:
        self._wanted.clear()
        if self._stopping is None:
            late: list[_Token] = []
            self._late = late  # now: the task begins a moment later
            self._stopping = asyncio.create_task(self._cancel_consumers(late), name="stop consuming")
        # Whoever waits may be cancelled; what came late goes back all the same, and not before the last consumer ends.
        await asyncio.shield(self._stopping)

    async def _cancel_consumers(self, late: list[_Token]) -> None:
        try:
            for consumer in list(self._consumers.values()):
                try:
                    await consumer.set_prefetch(0)
                except VENDOR_ERRORS as error:
                    _log.info("consumer ended with its connection: %s", fault_of(error).text)
        finally:
            self._late = self._stopping = None
            for token in late:
                _give_back(token)

    async def ack(self, delivery: Delivery) -> None:
        token: _Token = delivery.token
        lane = token.consumer.lane
        if lane.is_open:
            token.consumer.settled(token.consumer_tag)
            lane.ack(token.delivery_tag)

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
        lane = _lane_of(delivery)
        if not delivery.reply_to or not lane.is_open:
            return
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                # Transient and without user_id: a copy of what is recorded, and no word of ours that could be sent on.
                await lane.post(delivery.reply_to, body, delivery.correlation_id)
        except TimeoutError:
            _give_back(delivery.token)
            raise NotConfirmed("the broker takes no messages: it is short of memory or disk") from None
        except Fault as fault:
            raise queue_error(fault) from fault

    async def publish_event(self, routing_key: str, body: bytes) -> None:
        now_s = time.monotonic()
        if now_s < self._unheard_until_s:
            return
        try:
            await self._publish(EVENTS_EXCHANGE, routing_key, Message(body))
        except Unroutable:
            self._unheard_until_s = now_s + UNHEARD_S

    async def publish_outcome(self, delivery: Delivery, routing_key: str, body: bytes) -> None:
        try:
            await self.publish_event(routing_key, body)
        except NotConfirmed as error:
            # A listener whose queue is full must not hold up the work it only watches.
            _log.warning("event %s refused: %s", routing_key, error)
        await self.reply(delivery, body)

    async def depths(self) -> dict[str, int]:
        found: dict[str, int] = {}
        queues = [*self._topology.queues, *(q for name in self._wanted for q in parked(name, self._limits).queues)]
        lane = await self._lane()
        for queue in queues:
            try:
                # Declared as it is, not passively: a queue that is missing would else end the channel.
                answer = await lane.outgoing.queue_declare(
                    queue.name, durable=True, arguments=dict(queue.arguments), timeout=RPC_TIMEOUT_S
                )
            except VENDOR_ERRORS as error:
                raise queue_error(fault_of(error)) from error
            found[queue.name] = answer.message_count or 0 if answer else 0
        return found

    async def _lane(self) -> Lane:
        try:
            return await self._require_link().lane(PUBLISH_TIMEOUT_S)
        except Fault as fault:
            raise queue_error(fault) from fault

    async def close(self) -> None:
        self._closed = True
        self._wanted.clear()
        if self._link is not None:
            await self._link.close()
        if self._stopping is not None:
            self._stopping.cancel()

    async def _wait_for_lane(self, link: Link) -> None:
        try:
            await link.lane(OPEN_TIMEOUT_S)
        except Fault as fault:
            raise queue_error(fault) from fault

    async def _prepare(self, lane: Lane) -> None:
        """Runs on every new lane: declare, then take up consuming where the last lane left it."""
        await declare(lane, self._topology)
        self._consumers.clear()
        for queue in list(self._wanted):
            await self._consume(lane, queue)

    async def _consume(self, lane: Lane, queue: str) -> None:
        if (own := parked(queue, self._limits)).queues:
            await declare(lane, own)
        consumer = self._consumers.get(queue)
        if consumer is None or consumer.lane is not lane:
            consumer = self._consumers[queue] = QueueConsumer(lane, queue, self._on_message)
        await consumer.set_prefetch(self._wanted[queue][0])

    async def _on_message(self, consumer: QueueConsumer, consumer_tag: str, delivered: DeliveredMessage) -> None:
        token = _Token(consumer, consumer_tag, delivered.delivery_tag or 0)
        wanted = self._wanted.get(consumer.queue)
        if wanted is None:  # was on its way while consuming stopped
            # Not back before every consumer is cancelled: the broker would hand it to one of them again, at once and
            # over and over, until that was too often.
            if self._late is None:
                _give_back(token)
            else:
                self._late.append(token)
            return
        wanted[1](read_delivery(message_of(delivered), consumer.queue, self._service, token))

    async def _move(self, delivery: Delivery, exchange: str, routing_key: str, message: Message) -> None:
        """Publish elsewhere, confirmed, then ack: twice is possible, lost is not."""
        if not _lane_of(delivery).is_open:
            return  # it comes again by itself
        try:
            await self._publish(exchange, routing_key, message)
        except (NotConfirmed, Unroutable):
            _give_back(delivery.token)
            raise
        await self.ack(delivery)

    async def _publish(self, exchange: str, routing_key: str, message: Message) -> None:
        link = self._require_link()
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                lane = await link.lane(PUBLISH_TIMEOUT_S)
                await lane.confirm(exchange, routing_key, message.body, properties_of(message))
        except TimeoutError:
            raise NotConfirmed(f"no confirm from the broker within {PUBLISH_TIMEOUT_S:g} s") from None
        except Fault as fault:
            raise queue_error(fault, exchange, routing_key) from fault

    def _require_link(self) -> Link:
        if self._link is None or self._closed:
            raise DoorClosed("the door is closed") if self._closed else BrokerAway("open the door first")
        return self._link


def _lane_of(delivery: Delivery) -> Lane:
    token: _Token = delivery.token
    return token.consumer.lane


def _give_back(token: _Token) -> None:
    """Into its queue again, so that it is not held for ever by someone who does not settle it."""
    token.consumer.settled(token.consumer_tag)
    token.consumer.lane.give_back(token.delivery_tag)


async def declare(lane: Lane, wanted: Topology) -> None:
    """Create what is missing of the topology. Raises vendor errors: another door's arguments close the channel."""
    channel = lane.outgoing
    for exchange in wanted.exchanges:
        await channel.exchange_declare(exchange.name, exchange_type=exchange.kind, durable=True, timeout=RPC_TIMEOUT_S)
    for queue in wanted.queues:
        await channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments), timeout=RPC_TIMEOUT_S)
        await channel.queue_bind(queue.name, queue.exchange, queue.routing_key, timeout=RPC_TIMEOUT_S)
