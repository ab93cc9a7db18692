"""The scheduler's end of a stream to a worker on the same node; `workers.stream` is the other, and names the frames.

Used by `cluster.link`, which knows when to open one. It offers what a worker actor does, `submit` and `collect`, with
the same meaning; what breaks is a ConnectionError, after which the link opens another stream and loses nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

from workers.frames import FrameProtocol, peer_uid
from workers.stream import ATTEMPT, HELLO, NUMBER, PING, RECEIVED, WORK

CONNECT_TIMEOUT_S = 15.0
SILENT_S = 30.0
"""After an unanswered question this long the worker counts as gone; an attempt is an answer as well."""
ACK_EVERY = 64
"""Attempts received are acknowledged with the next work that is sent, or after this many, or when it is quiet."""


class Stream:
    """One connection to one worker."""

    def __init__(self, epoch: str, received: int) -> None:
        self.frames = FrameProtocol(self._on_frame, self._on_end)
        self.epoch = epoch
        """Of the mailbox at the other end."""
        self._letters: list[bytes] = []
        self._number = received
        """Of the last attempt that came."""
        self._handed = received
        """Of the last attempt that was collected: only these may be forgotten at the other end."""
        self._acknowledged = received
        self._asked_at_s: float | None = None
        self._greeted = asyncio.Event()
        self._news = asyncio.Event()
        self._end: Exception | None = None

    @classmethod
    async def open(cls, path: str, epoch: str, received: int) -> Stream:
        """Connect to the socket of a worker of our own user, from which `received` attempts of `epoch` have come.
        Raises OSError."""
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        stream = cls(epoch, received)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.sock_connect(connection, path)
                if peer_uid(connection) != os.geteuid():
                    raise ConnectionRefusedError("the socket of a worker belongs to another user")
                await loop.create_unix_connection(lambda: stream.frames, sock=connection)
                stream.frames.send(HELLO, NUMBER.pack(received) + epoch.encode())
                await stream._greeted.wait()
        except BaseException:
            connection.close()
            stream.close()
            raise
        if stream._end is not None:
            raise stream._end
        return stream

    async def submit(self, letters: Sequence[bytes]) -> None:
        """Send work. Whether the worker took it shows in its attempts, or in the end of the stream."""
        self._acknowledge(self._handed)
        for letter in letters:
            self.frames.send(WORK, letter)
        if self.frames.is_full:
            async with asyncio.timeout(SILENT_S):
                await self.frames.room()

    async def collect(
        self, timeout_s: float, epoch: str, received: int, linger_s: float
    ) -> tuple[str, int, list[bytes]]:
        """See workers.mailbox.Mailbox.collect. Raises ConnectionError, and TimeoutError for a worker that is silent."""
        del epoch, received, linger_s  # known here; and what comes in one turn of the loop comes together anyway
        if self._handed - self._acknowledged >= ACK_EVERY:
            self._acknowledge(self._handed)
        if not self._letters and self._end is None:
            self._news.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                self._ask()
        if not self._letters and self._end is not None:
            raise self._end
        letters, self._letters = self._letters, []
        self._handed = self._number
        return self.epoch, self._number, letters

    def close(self) -> None:
        self.frames.end()

    def _ask(self) -> None:
        """It is quiet: is the worker there? Raises TimeoutError when it did not answer the last time."""
        now_s = asyncio.get_running_loop().time()
        if self._asked_at_s is None:
            self._asked_at_s = now_s
            self._acknowledge(self._handed)
            self.frames.send(PING)
        elif now_s - self._asked_at_s > SILENT_S:
            raise TimeoutError("the worker is silent")

    def _acknowledge(self, received: int) -> None:
        if received > self._acknowledged:
            self._acknowledged = received
            self.frames.send(RECEIVED, NUMBER.pack(received))

    def _on_frame(self, kind: bytes, body: bytes) -> None:
        self._asked_at_s = None
        if kind == ATTEMPT:
            self._number = NUMBER.unpack_from(body)[0]
            self._letters.append(body[NUMBER.size :])
            self._news.set()
        elif kind == HELLO:
            if (epoch := body.decode()) != self.epoch:
                self.epoch, self._number, self._handed, self._acknowledged = epoch, 0, 0, 0
            self._greeted.set()

    def _on_end(self, error: Exception | None) -> None:
        self._end = error if isinstance(error, ConnectionError) else ConnectionResetError("the worker hung up")
        self._greeted.set()
        self._news.set()
