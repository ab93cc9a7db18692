"""A broker as the door suite sees it: the real one and the in-process twin, with the same handles for faults.

Built by the fixtures in tests/unit/queues and tests/integration; nothing outside tests uses it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from typing import Any, Protocol, cast

import aiormq
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from cluster.local.rabbitmq import BrokerUser, RabbitNode
from queues import permissions
from queues.amqp import AmqpDoor
from queues.dead import AmqpDeadLetters, DeadLetters
from queues.door import Delivery, Door
from queues.errors import AccessRefused
from queues.fence import queue_error
from queues.memory import MemoryBroker, MemoryDeadLetters, MemoryDoor, MemoryTransport
from queues.message import Message
from queues.topology import Limits, topology
from queues.translation import message_of
from sandpool.amqp import AmqpTransport
from sandpool.fault import VENDOR_ERRORS, fault_of
from sandpool.transport import Transport

SERVICE = "sandpool"
TENANTS = ("acme", "globex", "acme-2", "ac_me")
PASSWORD = "for-tests-only"
_numbers = count(1)
WORKERS_ARE_UP = """
Host = <<"{host}">>,
Strict = fun(Q) -> rabbit_misc:table_lookup(amqqueue:get_arguments(Q), <<"x-dead-letter-strategy">>) =/= undefined end,
Wanted = lists:sort([amqqueue:get_name(Q) || Q <- lists:filter(Strict, rabbit_amqqueue:list(Host))]),
Serves = fun(Pid) -> try element(2, sys:get_state(Pid, 20000)) catch _:_ -> none end end,
Wait = fun
  (_, 0) -> false;
  (Again, Tries) ->
    Served = [Serves(Pid) || {{_, Pid, _, _}} <- supervisor:which_children(rabbit_fifo_dlx_sup), is_pid(Pid)],
    case Wanted -- Served of
      [] -> true;
      _ -> timer:sleep(20), Again(Again, Tries - 1)
    end
end,
Wait(Wait, 250)."""
"""Each quorum queue with at-least-once dead-lettering has its worker, and that answers: it has started."""


class Broker(Protocol):
    """What the suite needs of a broker, beyond the door itself."""

    def door(self, limits: Limits | None = None) -> Door: ...
    def transport(self, tenant: str) -> Transport: ...
    def dead(self) -> DeadLetters: ...
    async def publish(self, user: str, exchange: str, key: str, message: Message) -> None: ...
    async def take(self, user: str, queue: str) -> Message | None: ...
    async def declare(self, user: str, queue: str, arguments: dict[str, Any]) -> None: ...
    async def bind(self, user: str, queue: str, exchange: str, key: str) -> None: ...
    async def delete(self, queue: str) -> None: ...
    async def waiting(self, queue: str) -> int: ...
    async def break_connections(self) -> None: ...


class TwinBroker:
    """The in-process twin."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(service_user=SERVICE)
        for tenant in TENANTS:
            self._broker.add_tenant(tenant)

    def door(self, limits: Limits | None = None) -> Door:
        if limits is not None:
            self._broker.topology = topology(limits)
        return MemoryDoor(self._broker)

    def transport(self, tenant: str) -> Transport:
        return MemoryTransport(self._broker, tenant)

    def dead(self) -> DeadLetters:
        return MemoryDeadLetters(self._broker)

    async def publish(self, user: str, exchange: str, key: str, message: Message) -> None:
        self._broker.publish(user, exchange, key, message)

    async def take(self, user: str, queue: str) -> Message | None:
        return self._broker.take(user, queue)

    async def declare(self, user: str, queue: str, arguments: dict[str, Any]) -> None:
        self._broker.declare_queue(user, queue, arguments)

    async def bind(self, user: str, queue: str, exchange: str, key: str) -> None:
        self._broker.bind(user, queue, exchange, key)

    async def delete(self, queue: str) -> None:
        self._broker.delete_queue(SERVICE, queue)

    async def waiting(self, queue: str) -> int:
        return self._broker.waiting(queue)

    async def break_connections(self) -> None:
        self._broker.drop_connections()


class RealBroker:
    """A RabbitMQ node; raw channels act as any AMQP client could. Every test gets a virtual host of its own."""

    def __init__(self, node: RabbitNode) -> None:
        self.node = node
        self.urls: dict[str, str] = {}
        self._host = ""

    def open_host(self) -> None:
        """A new virtual host with the users and exactly the permissions that `queues.permissions` gives."""
        rights = {SERVICE: permissions.SERVICE, **{name: permissions.tenant_permissions(name) for name in TENANTS}}
        urls = self.node.add_users(tuple(BrokerUser(name, PASSWORD, (), ("^$", "^$", "^$")) for name in rights))
        self._host = f"test-{next(_numbers)}"
        entries = [{"user": name, "vhost": self._host, **asdict(right)} for name, right in rights.items()]
        self._define({"vhosts": [{"name": self._host}], "permissions": entries})
        self.urls = {name: url + self._host for name, url in zip(rights, urls, strict=True)}

    def add_stranger(self, name: str) -> None:
        """A broker user who may do everything here, under any name."""
        (url,) = self.node.add_users((BrokerUser(name, PASSWORD, (), ("^$", "^$", "^$")),))
        everything = permissions.Permissions(".*", ".*", ".*")
        self._define({"permissions": [{"user": name, "vhost": self._host, **asdict(everything)}]})
        self.urls[name] = url + self._host

    def _define(self, definitions: dict[str, Any]) -> None:
        encoded = base64.b64encode(json.dumps(definitions).encode()).decode()
        self.node.evaluate(f'ok = rabbit_definitions:import_raw(base64:decode(<<"{encoded}">>)).')

    def close_host(self) -> None:
        """Delete the virtual host with all that is in it, once its queues' dead-letter workers have come up.

        Not before: a worker whose queue vanishes while it starts crashes, and RabbitMQ 3.10 forgives one crash: then
        every queue with at-least-once dead-lettering that is declared on the node fails, until the node is restarted.
        A queue that never comes up (killed before it was noted on disk) is left to the node's end.
        """
        if self.node.evaluate(WORKERS_ARE_UP.format(host=self._host)) == "true":
            self.node.evaluate(f'rabbit_vhost:delete(<<"{self._host}">>, <<"tests">>), ok.')

    def door(self, limits: Limits | None = None) -> Door:
        return AmqpDoor(self.urls[SERVICE], limits)

    def transport(self, tenant: str) -> Transport:
        return AmqpTransport(self.urls[tenant])

    def dead(self) -> DeadLetters:
        return AmqpDeadLetters(self.urls[SERVICE])

    async def publish(self, user: str, exchange: str, key: str, message: Message) -> None:
        properties = Basic.Properties(
            delivery_mode=2,
            message_id=message.message_id or None,
            user_id=message.user_id or None,
            reply_to=message.reply_to or None,
            correlation_id=message.correlation_id or None,
            headers=dict(message.headers) or None,
        )

        async def act(channel: AbstractChannel) -> None:
            await channel.basic_publish(
                message.body, exchange=exchange, routing_key=key, properties=properties, mandatory=True, timeout=10
            )

        await self._act(user, act, exchange, key)

    async def take(self, user: str, queue: str) -> Message | None:
        async def act(channel: AbstractChannel) -> Message | None:
            got = await channel.basic_get(queue, no_ack=True, timeout=10)
            if isinstance(got.delivery, Basic.GetEmpty):
                return None
            return message_of(got)

        return cast("Message | None", await self._act(user, act))

    async def declare(self, user: str, queue: str, arguments: dict[str, Any]) -> None:
        await self._act(
            user, lambda channel: channel.queue_declare(queue, durable=True, arguments=arguments, timeout=10)
        )

    async def bind(self, user: str, queue: str, exchange: str, key: str) -> None:
        await self._act(user, lambda channel: channel.queue_bind(queue, exchange, key, timeout=10))

    async def delete(self, queue: str) -> None:
        await self._act(SERVICE, lambda channel: channel.queue_delete(queue, timeout=10))

    async def waiting(self, queue: str) -> int:
        async def act(channel: AbstractChannel) -> int:
            return (await channel.queue_declare(queue, passive=True, timeout=10)).message_count or 0

        return cast("int", await self._act(SERVICE, act))

    async def break_connections(self) -> None:
        await asyncio.to_thread(self.node.close_connections)

    async def _act(self, user: str, act: Callable[[AbstractChannel], Any], exchange: str = "", key: str = "") -> Any:
        connection = aiormq.Connection(self.urls[user])
        try:
            await connection.connect()
            return await act(await connection.channel())
        except VENDOR_ERRORS as error:
            failure = queue_error(fault_of(error), exchange, key)
            # A wrong user_id closes the channel with PRECONDITION_FAILED, which is a refusal all the same.
            raise AccessRefused(str(error)) if "user_id" in str(error) else failure from error
        finally:
            with suppress(*VENDOR_ERRORS):
                await connection.close()


class Inbox:
    """Collects deliveries, as the scheduler's `take` would."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self._news = asyncio.Event()

    def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        self._news.set()

    async def wait_for(self, count: int, timeout_s: float = 20.0) -> list[Delivery]:
        """Return the deliveries once there are `count` of them; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s):
            while len(self.got) < count:
                self._news.clear()
                await self._news.wait()
        return self.got


async def until(holds: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Poll an asynchronous condition until it holds; TimeoutError otherwise."""
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.02)
