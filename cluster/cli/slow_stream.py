"""Lines from a pipe or terminal whose writer may be slow. Called by `batch`, whose reading thread must end on Ctrl-C.

A thread that is blocked in `read` cannot be interrupted and would hold up the end of the process; this one looks every
moment whether it is still wanted.
"""

from __future__ import annotations

import os
import select

_LOOK_AGAIN_S = 0.1
_CHUNK_BYTES = 64 * 1024


class SlowStream:
    """`readline` over a file descriptor, until `stop`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._at_end = False
        self._stopped = False

    def stop(self) -> None:
        """Make `readline` answer as at the end of the stream; called from another thread."""
        self._stopped = True

    def readline(self, limit: int, /) -> bytes:
        """The next line with its line feed; at most `limit` bytes of it; empty at the end."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched, limit) + 1) == 0 and len(self._buffer) < limit:
            searched = len(self._buffer)
            if not self._fill():
                break
        line = bytes(self._buffer[: end or limit])
        del self._buffer[: len(line)]
        return b"" if self._stopped else line

    def _fill(self) -> bool:
        while not self._stopped and not self._at_end:
            if select.select([self._descriptor], [], [], _LOOK_AGAIN_S)[0]:
                chunk = os.read(self._descriptor, _CHUNK_BYTES)
                self._at_end = not chunk
                self._buffer += chunk
                return bool(chunk)
        return False
