"""The fault proxy does what its tests-to-be rely on: each fault, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.faults import FaultProxy

QUIET_S = 0.15
"""Long enough to tell "nothing comes" from "it comes at once" on a busy machine."""


@asynccontextmanager
async def echo_through_proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


class Caller:
    """A client of the echo server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: FaultProxy) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, said: bytes, timeout_s: float = 5.0) -> bytes:
        self.writer.write(said)
        async with asyncio.timeout(timeout_s):
            return await self.reader.readexactly(len(said))


async def test_without_a_fault_everything_passes_unchanged() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        said = bytes(range(256)) * 4_096
        assert await caller.ask(said) == said
        assert (proxy.connections, proxy.open_connections) == (1, 1)


async def test_end_of_stream_passes_through() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        await caller.ask(b"hello")
        caller.writer.write_eof()
        assert await asyncio.wait_for(caller.reader.read(), 5) == b""


async def test_a_cut_closes_connections_and_refuses_new_ones_until_healed() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        await caller.ask(b"hello")
        proxy.cut()
        assert await asyncio.wait_for(caller.reader.read(), 5) == b""
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await (await Caller.connect(proxy)).ask(b"again")
        proxy.heal()
        assert await (await Caller.connect(proxy)).ask(b"again") == b"again"


async def test_a_drop_lets_new_connections_pass() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        await caller.ask(b"hello")
        proxy.drop()
        assert await asyncio.wait_for(caller.reader.read(), 5) == b""
        assert await (await Caller.connect(proxy)).ask(b"again") == b"again"


async def test_a_reset_is_seen_as_a_reset() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        await caller.ask(b"hello")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(caller.reader.read(), 5)


async def test_a_reset_in_the_middle_of_a_message_lets_the_first_part_through() -> None:
    got = bytearray()

    async def collect(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1_024):
                got.extend(chunk)
        except ConnectionError:
            done.set()

    done = asyncio.Event()
    server = await asyncio.start_server(collect, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        caller = await Caller.connect(proxy)
        proxy.reset_after(3)
        caller.writer.write(b"abcdef")
        await asyncio.wait_for(done.wait(), 5)
        assert bytes(got) in (b"abc", b"")  # a reset may overtake what the receiver had not read yet


async def test_a_stall_holds_everything_and_loses_nothing() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        await caller.ask(b"hello")
        proxy.stall()
        with pytest.raises(TimeoutError):
            await caller.ask(b"later", timeout_s=QUIET_S)
        assert not caller.reader.at_eof()
        proxy.heal()
        assert await asyncio.wait_for(caller.reader.readexactly(5), 5) == b"later"


async def test_a_delay_is_felt_in_both_directions_and_keeps_the_order() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        await caller.ask(b"hello")
        proxy.delay(0.05)
        began = time.monotonic()
        for number in range(10):
            caller.writer.write(bytes([number]))
            await asyncio.sleep(0)
        assert await asyncio.wait_for(caller.reader.readexactly(10), 5) == bytes(range(10))
        assert 0.1 <= time.monotonic() - began < 1.0


async def test_a_limit_bounds_the_bandwidth() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        proxy.limit(200_000)
        began = time.monotonic()
        await caller.ask(b"x" * 40_000)
        assert time.monotonic() - began >= 0.2


async def test_a_slow_receiver_is_felt_by_the_sender() -> None:
    async with echo_through_proxy() as proxy:
        caller = await Caller.connect(proxy)
        proxy.stall()
        caller.writer.write(b"x" * 64 * 1024 * 1024)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.writer.drain(), QUIET_S)
        caller.writer.transport.abort()


async def test_what_begins_as_refused_is_answered_in_the_targets_place_and_all_else_passes() -> None:
    async with echo_through_proxy() as proxy:
        proxy.answer((b"PUT ", b"POST "), b"HTTP/1.1 507 full")
        writing, reading = await Caller.connect(proxy), await Caller.connect(proxy)
        writing.writer.write(b"PUT /key " + b"x" * 100_000)
        async with asyncio.timeout(5):
            assert await writing.reader.read() == b"HTTP/1.1 507 full"
        assert await reading.ask(b"GET /key") == b"GET /key"
        writing.writer.close()
        proxy.heal()
        assert await reading.ask(b"PUT /key") == b"PUT /key"


async def test_a_target_that_is_away_ends_the_connection() -> None:
    async with FaultProxy("127.0.0.1", 9) as proxy:  # the discard port: nobody listens
        caller = await Caller.connect(proxy)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await caller.ask(b"anyone?")


def test_a_url_is_sent_through_with_its_login_and_path_unchanged() -> None:
    async def rewritten() -> tuple[str, int]:
        async with FaultProxy("127.0.0.1", 9) as proxy:
            return proxy.through("amqp://us%40er:p%2Fw@127.0.0.1:5672/vhost?heartbeat=5"), proxy.port

    url, port = asyncio.run(rewritten())
    assert url == f"amqp://us%40er:p%2Fw@127.0.0.1:{port}/vhost?heartbeat=5"
