"""Frames on a byte stream: a length, a letter that says what it is, a body. Both ends of a worker's stream use it.

Used by `workers.stream` (the worker's end) and `cluster.stream` (the scheduler's). What is written in one turn of the
event loop goes to the socket in one write. Bounded: a frame above the limit ends the connection, and a writer that does
not wait while `is_full` is told so by nobody. It knows no kind of frame and never looks into a body.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

MAX_FRAME_BYTES = 32 * 1024 * 1024
"""A job's envelope is at most 1 MiB, a record 4 MiB."""
_HEAD = struct.Struct(">Ic")
_CREDENTIALS = struct.Struct("3i")


class FrameProtocol(asyncio.Protocol):
    """One connection. `on_frame(kind, body)` hears every frame, `on_end(reason)` once that nothing comes any more."""

    def __init__(self, on_frame: Callable[[bytes, bytes], None], on_end: Callable[[Exception | None], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._unwritten: list[bytes] = []
        self._room = asyncio.Event()
        self._room.set()
        self._ended = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._ended

    @property
    def is_full(self) -> bool:
        """The other end does not read as fast as we write."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Return when the other end has read on, or is gone."""
        await self._room.wait()

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Write one frame soon. Raises ConnectionResetError when the connection has ended."""
        if self._ended:
            raise ConnectionResetError("the stream has ended")
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unwritten += (_HEAD.pack(len(body), kind), body)

    def end(self) -> None:
        """Write what is unwritten, then hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not say that it is one

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        position, filled = 0, len(received)
        try:
            while filled - position >= _HEAD.size:
                size, kind = _HEAD.unpack_from(received, position)
                if size > MAX_FRAME_BYTES:
                    raise ConnectionAbortedError(f"a frame of {size} bytes; at most {MAX_FRAME_BYTES}")
                start = position + _HEAD.size
                if filled - start < size:
                    break
                position = start + size
                self._on_frame(kind, bytes(received[start:position]))
        except Exception as error:  # noqa: BLE001 - whatever it is, what follows cannot be understood any more
            self._abort(error)
        del received[:position]

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop(error)

    def _flush(self) -> None:
        if self._unwritten and self.is_open:
            assert self._transport is not None
            data = b"".join(self._unwritten)
            self._unwritten.clear()
            self._transport.write(data)

    def _abort(self, error: Exception) -> None:
        self._stop(error)
        if self._transport is not None:
            self._transport.abort()

    def _stop(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._unwritten.clear()
            self._room.set()
            self._on_end(error)


def peer_uid(connection: socket.socket) -> int:
    """The user of the process at the other end of a Unix socket, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
