"""One AMQP connection that comes back: connect, prepare, watch, and again after a pause that grows.

Used by `sandpool.amqp` (the client) and by the cluster's door. A lane is one life of the connection; whatever belongs
to a lane (deliveries, unconfirmed messages) ends with it and is never carried over. Any trouble with a channel ends the
whole lane: one thing to lose, one way to recover. Built on aiormq rather than on aio-pika's robust objects, which
replay declarations and consumers behind the caller's back, cannot say which connection a delivery came from, and cost
about as much again per message.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import aiormq
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.commands import Basic
from yarl import URL

from sandpool import frames
from sandpool.fault import VENDOR_ERRORS, Fault, Kind, fault_of
from sandpool.wire import CONTENT_TYPE

_log = logging.getLogger(__name__)
# The library logs every lost connection as an error with a traceback, besides raising it: the link says it once.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

HEARTBEAT_S = 15
"""A silent peer is given up after three of them."""
CONNECT_TIMEOUT_S = 30.0
"""For connecting and declaring together."""
CLOSE_TIMEOUT_S = 5.0
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 10.0
"""A connection that lived as long was none that broke at once."""
LARGE_WRITE_BYTES = 64 * 1024
"""Above this a writer waits until the socket took it; what is below is bounded by the number of unsettled messages."""


@dataclass(eq=False, slots=True)
class Lane:
    """One life of the connection. `incoming` carries deliveries, their acks, and messages that need no confirm (the
    broker handles one channel's commands in order, so an ack after a publish implies it); `outgoing` has confirms."""

    connection: aiormq.Connection
    incoming: Channel
    outgoing: Channel
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    _unwritten: bytearray = field(default_factory=bytearray)
    _writer: asyncio.Task[None] | None = None
    _publishing: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        return not (self.broken.is_set() or self.incoming.is_closed or self.outgoing.is_closed)

    async def ready(self) -> None:
        """Return when the broker takes messages: it blocks publishers while it is short of memory or disk."""
        await self.connection.ready()

    async def post(self, queue: str, body: bytes, correlation_id: str) -> None:
        """Publish into a queue, transient and unconfirmed, before whatever `incoming` sends next. Raises Fault."""
        if not self.is_open:
            raise Fault(Kind.AWAY, "the connection broke")
        await self.ready()
        self._write(
            frames.publish(
                self.incoming.number,
                queue,
                body,
                content_type=CONTENT_TYPE,
                correlation_id=correlation_id,
                frame_max=self.connection.connection_tune.frame_max,
            )
        )
        if len(self._unwritten) > LARGE_WRITE_BYTES and self._writer is not None:
            await asyncio.shield(self._writer)

    async def confirm(self, exchange: str, routing_key: str, body: bytes, properties: Basic.Properties) -> None:
        """Publish and return when the broker has the message safe. Raises Fault, also when the lane ends meanwhile."""
        if not self.is_open:
            raise Fault(Kind.AWAY, "the connection broke")
        # In a task of its own, for `end` to cut: the library waits for ever to write to a connection that just broke.
        publish = asyncio.get_running_loop().create_task(self._publish(exchange, routing_key, body, properties))
        self._publishing.add(publish)
        try:
            await publish
        except VENDOR_ERRORS as error:
            raise fault_of(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Fault(Kind.AWAY, "the connection broke before the confirm") from error
        except Exception as error:
            if type(error) is not Exception:
                raise
            raise Fault(Kind.AWAY, "the connection was closed") from error  # the library's close raises a bare one
        finally:
            self._publishing.discard(publish)

    async def _publish(self, exchange: str, routing_key: str, body: bytes, properties: Basic.Properties) -> None:
        await self.ready()
        await self.outgoing.basic_publish(
            body,
            exchange=exchange,
            routing_key=routing_key,
            properties=properties,
            mandatory=True,
            wait=len(body) > LARGE_WRITE_BYTES,
        )

    def end(self) -> None:
        """Whatever still waits on this lane waits in vain."""
        self.broken.set()
        if self._writer is not None:
            self._writer.cancel()
        for publish in self._publishing:
            publish.cancel()

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Settle a delivery of this lane; on a lane that has ended nothing happens: the message comes again."""
        if self.is_open:
            self._write(frames.ack(self.incoming.number, delivery_tag, multiple=multiple))

    async def flush(self) -> None:
        """Return when everything posted and acknowledged so far is with the socket."""
        if self._writer is not None:
            await asyncio.shield(self._writer)
        if self.is_open:
            drained = self.connection.create_future()
            await self.connection.write_queue.put(ChannelFrame(b"", should_close=False, drain_future=drained))
            await asyncio.wait([drained])

    def give_back(self, delivery_tag: int) -> None:
        """Return a delivery of this lane to its queue."""
        if self.is_open:
            self._write(frames.requeue(self.incoming.number, delivery_tag))

    def _write(self, data: bytes) -> None:
        """Everything that is written in one turn of the event loop goes to the socket at once, in order."""
        self._unwritten += data
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._unwritten and self.is_open:
                data = bytes(self._unwritten)
                self._unwritten.clear()
                drained = self.connection.create_future() if len(data) > LARGE_WRITE_BYTES else None
                await self.connection.write_queue.put(ChannelFrame(data, should_close=False, drain_future=drained))
                if drained is not None:
                    await asyncio.wait([drained])
        except VENDOR_ERRORS as error:
            _log.info("not written: %s", fault_of(error).text)
        finally:
            self._writer = None


Prepare = Callable[[Lane], Awaitable[None]]


class Link:
    """The connection's owner. `prepare` declares and consumes on every new lane; `on_down` hears that one ended."""

    def __init__(self, url: str, name: str, prepare: Prepare, on_down: Callable[[], None]) -> None:
        self._url = URL(url)
        if "heartbeat" not in self._url.query:
            self._url = self._url.update_query(heartbeat=str(HEARTBEAT_S))
        self._url = self._url.update_query(name=name)
        self._prepare = prepare
        self._on_down = on_down
        self._lane: Lane | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self.ending = False
        """Set before something is done that ends the lane, such as deleting its queue: it shall not come back."""
        self._reason = Fault(Kind.AWAY, "not connected yet")

    @property
    def current(self) -> Lane | None:
        """The lane, if there is one now."""
        return self._lane if self._lane is not None and self._lane.is_open else None

    async def open(self, timeout_s: float) -> None:
        """Connect for the first time, trying again until `timeout_s`. Raises Fault; not worth trying again: at once."""
        self._keeper = asyncio.create_task(self._keep(), name="sandpool-link")
        try:
            await self.lane(timeout_s, hopeless=True)
        except BaseException:
            await self.close()
            raise

    async def lane(self, timeout_s: float, *, hopeless: bool = False) -> Lane:
        """The lane, waited for while there is none. Raises Fault(AWAY)."""
        if (lane := self.current) is not None:
            return lane
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while self._keeper is not None:
            if (lane := self.current) is not None:
                return lane
            if hopeless and self._reason.kind is not Kind.AWAY:
                raise self._reason
            left_s = deadline_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise Fault(Kind.AWAY, f"no connection within {timeout_s:g} s: {self._reason.text}") from self._reason
            self._up.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), left_s)
        raise Fault(Kind.AWAY, "closed")

    async def close(self) -> None:
        """End the lane and do not come back. Safe to call twice."""
        keeper, self._keeper = self._keeper, None
        self._up.set()
        if (lane := self.current) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await lane.flush()
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await asyncio.gather(*self._farewells, return_exceptions=True)

    async def _keep(self) -> None:
        now_s = asyncio.get_running_loop().time
        failures = short_lives = 0
        while True:
            try:
                lane = await self._connect()
            except Fault as fault:
                self._reason = fault
                self._up.set()
                await _pause(failures, fault.text)
                failures += 1
                continue
            failures, since_s = 0, now_s()
            self._lane = lane
            self._up.set()
            why = "the connection broke"
            try:
                why = await _ended(lane)
            finally:
                self._lane = None
                self._reason = Fault(Kind.AWAY, why)
                self._part_with(lane.connection)
                self._on_down()
            if self.ending:
                return
            # The broker counts what a broken connection held as one more delivery, and a job with many of them is
            # given up: a network on which connections live for a moment must not bring them about in seconds.
            short_lives = short_lives + 1 if now_s() - since_s < STEADY_S else 0
            if short_lives:
                await _pause(short_lives - 1, f"soon after it was there: {why}")

    async def _connect(self) -> Lane:
        connection = aiormq.Connection(self._url)
        # In a task of its own: the library answers calls on a connection that breaks meanwhile with a cancellation,
        # which would pass for one of ours, or not at all.
        setup = asyncio.get_running_loop().create_task(self._set_up(connection))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.wait([setup, connection.closing], return_when=asyncio.FIRST_COMPLETED)
            if not setup.done():
                raise Fault(Kind.AWAY, "the connection broke while it was set up")
            if setup.cancelled():
                raise Fault(Kind.AWAY, "the connection was closed while it was set up")
            return setup.result()
        except BaseException as error:
            setup.cancel()
            self._part_with(connection)
            if isinstance(error, (*VENDOR_ERRORS, Fault)):
                raise fault_of(error) from error
            raise

    async def _set_up(self, connection: aiormq.Connection) -> Lane:
        await connection.connect()
        incoming = cast("Channel", await connection.channel(publisher_confirms=False))
        outgoing = cast("Channel", await connection.channel(publisher_confirms=True))
        lane = Lane(connection, incoming, outgoing)
        incoming.on_consumer_cancel_callbacks.add(lambda _frame: lane.broken.set())
        await self._prepare(lane)
        return lane

    def _part_with(self, connection: aiormq.Connection) -> None:
        """Close in a task of its own: a farewell may take seconds, and must not be cut short when the link closes."""
        farewell = asyncio.get_running_loop().create_task(_close(connection))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)


async def _pause(failures: int, reason: str) -> None:
    """After so many failures before this one."""
    pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)] * (0.5 + random.random() / 2)
    _log.warning("message broker away (%s); next try in %.1f s", reason, pause_s)
    await asyncio.sleep(pause_s)


async def _ended(lane: Lane) -> str:
    """Return when the connection, a channel or a consumer of the lane is gone, and what the broker said of it."""
    loop = asyncio.get_running_loop()
    watched: dict[asyncio.Future[Any], str] = {
        lane.connection.closing: "the connection broke",
        lane.incoming.closing: "the channel of consumers was closed",
        lane.outgoing.closing: "the channel of publishers was closed",
        loop.create_task(lane.broken.wait()): "the broker took a consumer away",
    }
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        ended = next(future for future in watched if future.done())
        error = ended.exception() if not ended.cancelled() else None
        return f"{watched[ended]}: {fault_of(error).text}" if isinstance(error, VENDOR_ERRORS) else watched[ended]
    finally:
        lane.end()
        for future in watched:
            future.cancel()


async def _close(connection: aiormq.Connection) -> None:
    with suppress(*VENDOR_ERRORS, asyncio.TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.close()
