"""Collects what a command writes, while it writes, and never more than its limit.

Used by `runsc` for the pipes of one command. Event-loop callbacks, no threads: a reader that is not read costs nothing.
It never decides what happens to a command that wrote too much: it says so once, by `overflow`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

CHUNK_BYTES = 64 * 1024


class Budget:
    """Bytes that several pipes of one command may take together."""

    def __init__(self, limit_bytes: int, overflow: Callable[[], None] | None = None) -> None:
        self.left_bytes = limit_bytes
        self.exceeded = False
        self._overflow = overflow

    def take(self, wanted: int) -> int:
        """How many of `wanted` bytes may be kept."""
        granted = min(wanted, self.left_bytes)
        self.left_bytes -= granted
        if granted < wanted and not self.exceeded:
            self.exceeded = True
            if self._overflow is not None:
                self._overflow()
        return granted


class Pipe:
    """One pipe from a command to us. `write_end` goes to the command; close it here as soon as it is handed over."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._loop.add_reader(self._read_end, self._on_readable)

    def hand_over(self) -> None:
        """The command has its own copy of the write end now."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    async def ended(self, timeout_s: float) -> bool:
        """Whether every writer has closed the pipe; waits at most `timeout_s` for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        return self._ended.is_set()

    def close(self) -> bytes:
        """Stop listening; what was kept. A second call returns the same."""
        self.hand_over()
        if self._read_end >= 0:
            while self._read():  # what lies in the pipe already
                continue
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1
            self._ended.set()
        return bytes(self._kept)

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Whether there may be more to read. Past the budget bytes are dropped, so that a writer never hangs on us."""
        try:
            chunk = os.read(self._read_end, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._read_end)
            self._ended.set()
            return False
        self._kept += chunk[: self._budget.take(len(chunk))]
        return not self._budget.exceeded
