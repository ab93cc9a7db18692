"""The one connection out to the host: made, lost, let go of and made again.

Any thread may `send`; only the service's thread connects and receives. While there is no connection, what is sent is
dropped: whoever asked for it is gone. It never interprets a frame.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any

from .frames import PREFIX, Header, decode, encode, lengths

FIRST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.005
"""Between attempts to connect: what a restored sandbox may lose at most before it answers."""


class Link:
    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._up = threading.Event()
        self._sending = threading.Lock()
        # A fork must not keep the host's connection open: no checkpoint is possible while anybody holds it.
        os.register_at_fork(after_in_child=self._forget)

    def connect(self) -> None:
        """Try until the host listens."""
        wait_s = FIRST_WAIT_S
        while True:
            attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                attempt.connect(self._path)
                break
            except OSError:
                attempt.close()
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        with self._sending:
            self._socket = attempt
        self._up.set()

    def wait_until_up(self) -> None:
        self._up.wait()

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        """Blocks while the host does not read: that is the back-pressure of everything inside."""
        frame = encode(kind, fields, payload)
        with self._sending:
            if self._socket is None:
                return
            try:
                self._socket.sendall(frame)
            except OSError:
                self._up.clear()  # the receiving thread notices too, and closes

    def receive(self) -> tuple[Header, bytes] | None:
        """The next frame; None when the connection is gone. Raises FrameInvalid."""
        prefix = self._read(PREFIX.size)
        if prefix is None:
            return None
        header_bytes, payload_bytes = lengths(prefix)
        content = self._read(header_bytes + payload_bytes)
        if content is None:
            return None
        return decode(content[:header_bytes]), content[header_bytes:]

    def close(self) -> None:
        """Let go. A frame that another thread is sending goes out whole."""
        self._up.clear()
        with self._sending:
            connection, self._socket = self._socket, None
            if connection is not None:
                connection.close()

    def abort(self) -> None:
        """Let go of a connection that is broken, also when a sender hangs in it."""
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):  # gone already
                connection.shutdown(socket.SHUT_RDWR)
        self.close()

    def _read(self, size: int) -> bytes | None:
        if self._socket is None:
            return None
        parts = bytearray()
        try:
            while len(parts) < size:
                part = self._socket.recv(min(size - len(parts), 1 << 16))
                if not part:
                    return None
                parts += part
        except OSError:
            return None
        return bytes(parts)

    def _forget(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
