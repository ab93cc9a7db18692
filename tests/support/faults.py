"""A TCP proxy that misbehaves on demand: for tests of what happens when the network or a server does.

    async with FaultProxy("127.0.0.1", port) as proxy:
        client = connect(proxy.through(url))
        proxy.stall()      # connections stay open, nothing passes
        proxy.heal()

Faults apply to open connections at once and to new ones until `heal`. Bounded: at most QUEUED_CHUNKS chunks of
CHUNK_BYTES wait in each direction of a connection; then the sender feels it, as with a real slow link.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 16_384
QUEUED_CHUNKS = 64
CONNECT_TIMEOUT_S = 5.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends RST instead of FIN and drops what is unsent."""


class FaultProxy:
    """Relays to one target. Every method below `through` injects or ends a fault, and returns at once."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._delay_s = 0.0
        self._bytes_per_s: float | None = None
        self._left_bytes: int | None = None
        self._answers: tuple[tuple[bytes, ...], bytes] = ((), b"")
        self.port = 0
        self.connections = 0
        """How many were accepted since the start."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        links = tuple(self._links)
        for link in links:
            link.end(reset=True)
        await asyncio.gather(*(link.ended.wait() for link in links))
        await self._server.wait_closed()

    @property
    def open_connections(self) -> int:
        return len(self._links)

    def through(self, url: str) -> str:
        """`url` with its host and port replaced by ours."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """Close every connection and refuse new ones: the server went away in good order."""
        self._refusing = True
        self.drop()

    def drop(self) -> None:
        """Close every connection; new ones pass."""
        for link in tuple(self._links):
            link.end(reset=False)

    def reset(self) -> None:
        """End every connection with RST; new ones pass. The peers see ECONNRESET."""
        for link in tuple(self._links):
            link.end(reset=True)

    def reset_after(self, size_bytes: int) -> None:
        """End a connection with RST once this many more bytes went to the target, over all connections: mid-message."""
        self._left_bytes = size_bytes

    def stall(self) -> None:
        """Let nothing pass in either direction; connections stay open and new ones are accepted."""
        self._passing.clear()

    def delay(self, seconds: float) -> None:
        """Each direction takes this much longer (latency, not bandwidth)."""
        self._delay_s = seconds

    def limit(self, bytes_per_s: float) -> None:
        """At most this bandwidth for each direction of each connection."""
        self._bytes_per_s = bytes_per_s

    def answer(self, beginnings: tuple[bytes, ...], answer: bytes) -> None:
        """What begins so, as `PUT ` does, never reaches the target: it is answered with these bytes and hung up on."""
        self._answers = (beginnings, answer)

    def heal(self) -> None:
        """No more faults. What was stalled passes now; what was cut stays cut."""
        self._answers = ((), b"")
        self._refusing = False
        self._delay_s = 0.0
        self._bytes_per_s = None
        self._left_bytes = None
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            _reset(writer)
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                out_reader, out_writer = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            _reset(writer)
            return
        link = _Link(writer, out_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                link.pumps = (
                    pumps.create_task(self._pump(reader, out_writer, link, to_target=True)),
                    pumps.create_task(self._pump(out_reader, writer, link, to_target=False)),
                )
        finally:
            link.end(reset=False)
            self._links.discard(link)
            link.ended.set()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, *, to_target: bool
    ) -> None:
        """One direction: read now, deliver when it is due."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS)
        deliverer = asyncio.create_task(self._deliver(queue, writer, link, to_target=to_target))
        try:
            while not deliverer.done():
                chunk = await reader.read(CHUNK_BYTES)
                if to_target and chunk.startswith(self._answers[0]):
                    await link.answer(reader, self._answers[1])
                    break
                await queue.put((loop.time() + self._delay_s, chunk))
                if not chunk:
                    break
            if not link.over:
                await deliverer
        except OSError:
            link.end(reset=True)
        finally:
            deliverer.cancel()
            await asyncio.gather(deliverer, return_exceptions=True)

    async def _deliver(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, link: _Link, *, to_target: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(due - loop.time())
            if self._bytes_per_s is not None:
                await asyncio.sleep(len(chunk) / self._bytes_per_s)
            await self._passing.wait()
            if to_target and self._left_bytes is not None:
                chunk, self._left_bytes = chunk[: self._left_bytes], self._left_bytes - len(chunk)
            try:
                if not chunk:
                    writer.write_eof()
                    return
                writer.write(chunk)
                await writer.drain()
            except (OSError, RuntimeError):  # RuntimeError: the transport was closed by a fault
                link.end(reset=True)
                return
            if to_target and self._left_bytes is not None and self._left_bytes <= 0:
                self._left_bytes = None
                link.end(reset=True)
                return


class _Link:
    """The two sockets of one relayed connection and the two tasks that relay between them."""

    def __init__(self, client: asyncio.StreamWriter, target: asyncio.StreamWriter) -> None:
        self._writers = (client, target)
        self.over = False
        self.pumps: tuple[asyncio.Task[None], ...] = ()
        self.ended = asyncio.Event()

    def end(self, *, reset: bool) -> None:
        if self.over:
            return
        self.over = True
        for writer in self._writers:
            if reset:
                _reset(writer)
            else:
                writer.close()
        for pump in self.pumps:
            pump.cancel()  # it may wait for a stall to end

    async def answer(self, reader: asyncio.StreamReader, answer: bytes) -> None:
        """Say this to the client in the target's place; the rest of what it sends is read and dropped."""
        client, _ = self._writers
        client.write(answer)
        client.write_eof()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while await reader.read(CHUNK_BYTES):
                    pass
        self.end(reset=False)


def _reset(writer: asyncio.StreamWriter) -> None:
    handle: socket.socket | None = writer.get_extra_info("socket")
    if handle is not None:
        with contextlib.suppress(OSError):  # already disconnected
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
