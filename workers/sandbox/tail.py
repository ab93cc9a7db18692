"""What an execution has written so far, for somebody who watches it while it runs.

Filled by the session's `on_output`, read by whoever asks again and again with how much he has got. Nothing is lost by a
watcher that is slow or absent, and none holds the execution up: what was written is kept to its end, up to MOST_BYTES;
what comes beyond that is told at the end only. It never decides whether anything may run on.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from workers.sandbox.wire import Stream

PIECE_BYTES = 256 * 1024
"""Of each stream, in one answer."""
MOST_BYTES = 4 << 20
"""Of one execution. An output limit may be higher; the whole is in the answer at the end."""
LONGEST_WAIT_S = 1.0


class Heard(msgspec.Struct, frozen=True, kw_only=True, tag="heard"):
    """What was written after what the watcher has got. Bytes of the sandbox's: show, never interpret."""

    stdout: bytes = b""
    stderr: bytes = b""
    running: bool = False
    """False also where nothing is known of it: not begun yet, ended."""


class Tail:
    def __init__(self) -> None:
        self._written: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._news = asyncio.Event()
        self._left_bytes = MOST_BYTES
        self._over = False

    async def take(self, stream: Stream, piece: bytes) -> None:
        """A piece, as the session gives it."""
        kept = piece[: self._left_bytes]
        self._written[stream] += kept
        # Once a piece is cut nothing follows: no watcher shall see a gap.
        self._left_bytes = self._left_bytes - len(kept) if len(kept) == len(piece) else 0
        self._news.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._over = True
        self._news.set()

    async def read(self, stdout_from: int, stderr_from: int, wait_s: float = 0.0) -> Heard:
        """What lies behind these offsets; waits for the first byte, but not for long."""
        if wait_s and not self._has_more(stdout_from, stderr_from) and not self._over:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, LONGEST_WAIT_S)):
                    await self._news.wait()
        return Heard(
            stdout=bytes(self._written["stdout"][stdout_from : stdout_from + PIECE_BYTES]),
            stderr=bytes(self._written["stderr"][stderr_from : stderr_from + PIECE_BYTES]),
            running=not self._over,
        )

    def _has_more(self, stdout_from: int, stderr_from: int) -> bool:
        return len(self._written["stdout"]) > stdout_from or len(self._written["stderr"]) > stderr_from
