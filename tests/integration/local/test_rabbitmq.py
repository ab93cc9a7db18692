"""The private RabbitMQ node: real connections, restarts, crashes, users. One node of its own: these tests end it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import aiormq
import pytest

from cluster.local.errors import ServiceFailed, ServiceMissing
from cluster.local.ports import answers
from cluster.local.rabbitmq import BrokerUser, RabbitNode, find_rabbitmq, start_rabbitmq

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    acme = BrokerUser("acme", "s e/c:ret", permissions=("", "", "acme-.*"))
    node = start_rabbitmq(tmp_path_factory.mktemp("own") / "node", (acme,), temporary=True)
    yield node
    node.remove()
    assert not node.folder.exists()
    assert not answers(node.port)


async def put(url: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(queue, durable=True, arguments=QUORUM)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue)


async def take(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        found = await channel.get_queue(queue, ensure=False)
        message = await found.get(timeout=10)
        assert message is not None
        await message.ack()
        return message.body


async def test_confirmed_messages_survive_a_clean_restart(node: RabbitNode) -> None:
    await put(node.admin_url, "stopped", b"one")
    node.stop()
    assert not answers(node.port)
    node.start()
    assert await take(node.admin_url, "stopped") == b"one"


async def test_confirmed_messages_survive_a_crash(node: RabbitNode) -> None:
    await put(node.admin_url, "crashed", b"one")
    # RabbitMQ 3.10 notes a new quorum queue on disk only after some 0.5 s; after an earlier crash it has no leader.
    await asyncio.sleep(1.5)
    assert await take(node.admin_url, "crashed") == b"one"
    await put(node.admin_url, "crashed", b"two")
    node.kill()
    assert not answers(node.port)
    node.start()
    assert await take(node.admin_url, "crashed") == b"two"


async def test_users_of_the_first_start_have_their_rights_and_no_more(node: RabbitNode) -> None:
    url = node.url("acme", "s e/c:ret")
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await channel.declare_queue("acme-made")


async def test_a_user_is_added_changed_and_deleted_while_the_node_runs(node: RabbitNode) -> None:
    url = node.add_user("late", "first")
    await put(url, "late", b"three")
    assert await take(node.add_user("late", "second"), "late") == b"three"
    with pytest.raises(aiormq.exceptions.AMQPConnectionError):
        await aio_pika.connect(url)
    node.delete_user("late")
    with pytest.raises(aiormq.exceptions.AMQPConnectionError):
        await aio_pika.connect(node.url("late", "second"))


async def test_the_broker_can_be_told_to_close_every_connection(node: RabbitNode) -> None:
    connection = await aio_pika.connect(node.admin_url)
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())
    node.close_connections()
    await asyncio.wait_for(closed.wait(), 10)


def test_a_refused_command_is_an_error_and_not_silence(node: RabbitNode) -> None:
    with pytest.raises(ServiceFailed, match="refused a command"):
        node.evaluate("1 = 2.")


def test_the_node_listens_on_loopback_only(node: RabbitNode) -> None:
    mine = {f"{port:04X}" for port in (node.port, node.mapper_port, node.distribution_port)}
    listening = [
        line.split()[1].rsplit(":", 1)
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    addresses = {address for address, port in listening if port in mine}
    # 127.0.0.1 and ::1, as the kernel prints them on a little-endian machine.
    assert "0100007F" in addresses
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}


def test_a_machine_without_rabbitmq_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.local.rabbitmq.SCRIPT_FOLDERS", ("/no/such/folder",))
    with pytest.raises(ServiceMissing, match="make setup"):
        find_rabbitmq()
