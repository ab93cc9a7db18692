"""The client's transport on RabbitMQ: a reply queue of its own, confirmed publishing, a connection that comes back.

Built by `sandpool.client` from an `amqp://tenant:password@host/vhost` URL. Never looks into a body.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from functools import partial
from urllib.parse import unquote, urlsplit

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldValue

from sandpool.errors import BrokerUnavailable, SandpoolError, UsageError
from sandpool.fault import VENDOR_ERRORS, Fault, Kind
from sandpool.link import Lane, Link
from sandpool.transport import Listener, Outgoing
from sandpool.wire import CONTENT_TYPE, REPLY_PREFIX

REPLY_EXPIRY_S = 1800
"""The broker keeps the reply queue this long without its client: outcomes survive a reconnect, not a departure."""
REPLY_MAX_BYTES = 256 * 1024**2
"""Beyond it the oldest replies go: they are copies, the record in the volume stays."""
PREFETCH = 256
ACK_AFTER_S = 0.01
"""Replies are settled in bulk, at most this much later: short enough for 25,000 of them a second."""
RPC_TIMEOUT_S = 15.0


class AmqpTransport:
    """One tenant's connection. Raises UsageError for a URL that names no user."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname or not parts.username:
            raise UsageError(
                "the broker's URL is amqp[s]://tenant:password@host[:port]/vhost, and its user is the tenant"
            )
        self._tenant = unquote(parts.username)
        self._reply_to = f"{REPLY_PREFIX}{self._tenant}.{secrets.token_hex(16)}"
        self._url = url
        self._link: Link | None = None
        self._listener: Listener | None = None
        self._had_gap = False
        self._acks: _Acks | None = None
        self._under_way: set[asyncio.Future[None]] = set()

    @property
    def tenant(self) -> str:
        return self._tenant

    async def open(self, listener: Listener, timeout_s: float) -> None:
        self._listener = listener
        self._had_gap = False
        self._link = Link(self._url, "sandpool client", self._prepare, self._on_down)
        try:
            await self._link.open(timeout_s)
        except Fault as fault:
            raise client_error(fault, self._tenant) from fault

    async def publish(self, message: Outgoing, timeout_s: float) -> asyncio.Future[None]:
        if self._link is None:
            raise BrokerUnavailable("the client is not open")
        try:
            lane = await self._link.lane(timeout_s)
            async with asyncio.timeout(timeout_s):
                await lane.ready()
        except TimeoutError:
            raise BrokerUnavailable(
                f"the broker took no messages for {timeout_s:g} s: it is short of memory or disk"
            ) from None
        except Fault as fault:
            raise client_error(fault, self._tenant) from fault
        properties = Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=2,
            message_id=message.message_id,
            user_id=self._tenant,
            reply_to=self._reply_to,
            correlation_id=message.correlation_id,
            headers=dict(message.headers),
        )
        confirm = asyncio.ensure_future(self._confirm(lane, message, properties))
        self._under_way.add(confirm)
        confirm.add_done_callback(self._under_way.discard)
        return confirm

    async def close(self) -> None:
        link, self._link = self._link, None
        self._listener = None
        if link is None:
            return
        if self._acks is not None:
            self._acks.stop()
        for confirm in self._under_way:
            confirm.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        link.ending = True
        if link.current is not None:
            with suppress(*VENDOR_ERRORS):
                await link.current.outgoing.queue_delete(self._reply_to, timeout=RPC_TIMEOUT_S)
        await link.close()

    async def _prepare(self, lane: Lane) -> None:
        # Classic: replies are transient copies. Durable: 4.x has no transient queue that outlives its connection.
        arguments: dict[str, FieldValue] = {
            "x-queue-type": "classic",
            "x-expires": REPLY_EXPIRY_S * 1000,
            "x-max-length-bytes": REPLY_MAX_BYTES,
        }
        await lane.incoming.queue_declare(self._reply_to, durable=True, arguments=arguments, timeout=RPC_TIMEOUT_S)
        self._acks = _Acks(lane)
        await lane.incoming.basic_qos(prefetch_count=PREFETCH, timeout=RPC_TIMEOUT_S)
        await lane.incoming.basic_consume(self._reply_to, partial(self._on_message, self._acks), timeout=RPC_TIMEOUT_S)
        if self._had_gap and self._listener is not None:
            self._listener.on_gap()

    def _on_down(self) -> None:
        if self._acks is not None:
            self._acks.stop()
        self._had_gap = True

    async def _on_message(self, acks: _Acks, message: DeliveredMessage) -> None:
        if self._listener is None:
            return
        self._listener.on_reply(message.body, message.header.properties.correlation_id or "")
        acks.note(message.delivery_tag or 0)

    async def _confirm(self, lane: Lane, message: Outgoing, properties: Basic.Properties) -> None:
        try:
            await lane.confirm(message.exchange, message.routing_key, message.body, properties)
        except Fault as fault:
            raise client_error(fault, self._tenant) from fault


class _Acks:
    """Settles replies in bulk: by the time of `note` the listener is done with everything up to that tag."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._noted = 0
        self._settled = 0
        self._flusher: asyncio.Task[None] | None = None

    def note(self, delivery_tag: int) -> None:
        self._noted = delivery_tag
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    def stop(self) -> None:
        """Settle nothing more: the lane is gone, or its queue is about to be."""
        if self._flusher is not None:
            self._flusher.cancel()

    async def _flush(self) -> None:
        """Runs while replies come; ends with the first quiet moment."""
        while self._settled < self._noted:
            self._settled = self._noted
            self._lane.ack(self._settled, multiple=True)
            await asyncio.sleep(ACK_AFTER_S)
        self._flusher = None


def client_error(fault: Fault, tenant: str) -> SandpoolError:
    """What a caller sees of a fault."""
    match fault.kind:
        case Kind.AWAY | Kind.REFUSED:
            return BrokerUnavailable(fault.text)
        case Kind.UNROUTABLE:
            return UsageError(
                "no queue takes this kind of job: has a cluster declared its queues, and does it know this kind?"
            )
        case Kind.FORBIDDEN:
            return UsageError(f"the broker refuses user {tenant!r}: {fault.text}")
        case Kind.ABSENT:
            return BrokerUnavailable(
                f"no cluster has declared its queues on this broker yet, or somebody deleted them ({fault.text}): "
                "try again when `sandpool up` says that it is up"
            )
        case Kind.MISMATCH:
            return UsageError(f"the broker and this release do not fit: {fault.text}")
