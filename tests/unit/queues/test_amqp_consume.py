"""The door's `consume` on a connection that breaks under it: the next one takes the queue up, within a deadline."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiormq import exceptions as vendor

from queues.amqp import AmqpDoor
from queues.errors import AccessRefused, BrokerAway
from sandpool.fault import Fault, Kind

QUEUE = "sandpool.jobs.sql.batch"


class FakeLane:
    """A lane on which consuming raises, or works."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.broken = asyncio.Event()
        self.incoming = self.outgoing = self
        self.consumed: list[str] = []

    async def queue_declare(self, *_: object, **__: object) -> None:
        pass

    async def basic_qos(self, **_: object) -> None:
        pass

    async def basic_consume(self, queue: str, *_: object, **__: object) -> None:
        if self.error is not None:
            raise self.error
        self.consumed.append(queue)


class FakeLink:
    """A link that, once its lane is broken, connects to the next: as `sandpool.link.Link` does, without a broker."""

    def __init__(self, door: AmqpDoor, lanes: list[FakeLane]) -> None:
        self.door = door
        self.lanes = lanes

    @property
    def current(self) -> FakeLane:
        return self.lanes[0]

    async def lane(self, timeout_s: float) -> FakeLane:
        while self.lanes[0].broken.is_set():
            self.lanes.pop(0)
            if not self.lanes:
                raise Fault(Kind.AWAY, f"no connection within {timeout_s:g} s")
            for queue in list(self.door._wanted):
                try:
                    await self.door._consume(self.lanes[0], queue)  # type: ignore[arg-type]
                except vendor.AMQPError:
                    self.lanes[0].broken.set()
        return self.lanes[0]


def opened(*lanes: FakeLane) -> AmqpDoor:
    door = AmqpDoor("amqp://sandpool:x@127.0.0.1/")
    door._link = FakeLink(door, list(lanes))  # type: ignore[assignment]
    return door


async def test_consuming_from_a_queue_without_a_leader_is_tried_again_on_the_next_connection() -> None:
    no_leader = vendor.ConnectionInternalError("INTERNAL_ERROR")
    last = FakeLane()
    door = opened(FakeLane(no_leader), FakeLane(no_leader), last)
    await door.consume(QUEUE, 5, lambda delivery: None)
    assert last.consumed == [QUEUE]


async def test_consuming_ends_with_an_error_when_no_connection_holds() -> None:
    door = opened(FakeLane(vendor.ConnectionInternalError("INTERNAL_ERROR")))
    with pytest.raises(BrokerAway):
        await door.consume(QUEUE, 5, lambda delivery: None)


async def test_a_refusal_to_consume_is_said_at_once() -> None:
    lane = FakeLane(vendor.ChannelAccessRefused("no"))
    with pytest.raises(AccessRefused):
        await opened(lane, FakeLane()).consume(QUEUE, 5, lambda delivery: None)
    assert not lane.broken.is_set()


class SlowConsumer:
    """Cancelling it takes as long as the test wants."""

    def __init__(self) -> None:
        self.lane, self.queue = self, QUEUE
        self.gate = asyncio.Event()
        self.back: list[int] = []

    async def set_prefetch(self, prefetch: int) -> None:
        await self.gate.wait()

    def settled(self, tag: str) -> None:
        pass

    def give_back(self, delivery_tag: int) -> None:
        assert self.gate.is_set(), "not before the last consumer has ended: it would come again at once"
        self.back.append(delivery_tag)


async def test_what_comes_while_consuming_stops_goes_back_although_nobody_waits_for_that_any_more() -> None:
    door, consumer = AmqpDoor("amqp://nowhere"), SlowConsumer()
    door._consumers[QUEUE] = consumer  # type: ignore[assignment]
    stopping = asyncio.create_task(door.stop_consuming())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = SimpleNamespace(delivery_tag=7)
    await door._on_message(consumer, "tag", late)  # type: ignore[arg-type]
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert consumer.back == []
    consumer.gate.set()
    await door.stop_consuming()
    assert consumer.back == [7]
