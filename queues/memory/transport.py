"""The client's transport on the in-process broker: `sandpool.AsyncClient(MemoryTransport(broker, "acme"))`."""

from __future__ import annotations

import asyncio
import secrets

from queues import errors
from queues.memory.broker import Connection, MemoryBroker
from queues.memory.queue import Consumer, Held
from queues.message import Message
from sandpool.errors import BrokerUnavailable, UsageError
from sandpool.transport import Listener, Outgoing
from sandpool.wire import REPLY_PREFIX

_PREFETCH = 256
_FULL_PAUSE_S = 0.02


class MemoryTransport:
    """One client of one tenant. Opens on the event loop that uses it, which may be another than the scheduler's."""

    def __init__(self, broker: MemoryBroker, tenant: str) -> None:
        self._broker = broker
        self._tenant = tenant
        self._reply_to = f"{REPLY_PREFIX}{tenant}.{secrets.token_hex(16)}"
        self._connection: Connection | None = None
        self._listener: Listener | None = None

    @property
    def tenant(self) -> str:
        return self._tenant

    async def open(self, listener: Listener, timeout_s: float) -> None:  # noqa: ARG002 - nothing here waits
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        try:
            self._broker.declare_topology()
            self._connect(listener)
        except errors.QueueError as error:
            raise BrokerUnavailable(str(error)) from error

    async def publish(self, message: Outgoing, timeout_s: float) -> asyncio.Future[None]:  # noqa: ARG002
        confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._connection is None:
            raise BrokerUnavailable("the client is not open")
        posted = Message(
            body=message.body,
            message_id=message.message_id,
            user_id=self._tenant,
            reply_to=self._reply_to,
            correlation_id=message.correlation_id,
            headers=message.headers,
        )
        try:
            self._broker.publish(self._tenant, message.exchange, message.routing_key, posted)
        except errors.NotConfirmed as error:
            confirm.set_exception(BrokerUnavailable(str(error)))
            await asyncio.sleep(_FULL_PAUSE_S)
        except (errors.Unroutable, errors.AccessRefused) as error:
            confirm.set_exception(UsageError(str(error)))
        else:
            confirm.set_result(None)
        return confirm

    async def close(self) -> None:
        self._listener = None
        if self._connection is not None:
            self._broker.disconnect(self._connection)
            self._connection = None
            self._broker.delete_queue(self._tenant, self._reply_to)

    def _connect(self, listener: Listener) -> None:
        self._connection = self._broker.connect(self._tenant, on_lost=self._on_lost)
        self._broker.declare_queue(self._tenant, self._reply_to, {})
        consumer = Consumer(
            self._loop,
            lambda held: self._on_held(listener, consumer, held),
            on_cancel=self._on_lost,
            prefetch=_PREFETCH,
        )
        self._broker.consume(self._connection, self._reply_to, consumer)

    def _on_held(self, listener: Listener, consumer: Consumer, held: Held) -> None:
        if id(held) in consumer.unsettled:
            self._broker.settle(self._broker.queue(self._reply_to), consumer, held)
            listener.on_reply(held.message.body, held.message.correlation_id)

    def _on_lost(self) -> None:
        self._loop.call_soon_threadsafe(self._again)

    def _again(self) -> None:
        if self._listener is not None:
            self._connect(self._listener)
            self._listener.on_gap()
