"""A command that runs inside, while it runs: its input, the size of its terminal, signals, its end.

Made by `session.open_command`, used by whoever serves a person or another program. Every piece of input waits until
the command has taken the one before, so neither side keeps more than one. It never decides how long a command may run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Any

from workers.sandbox import wire
from workers.sandbox.conversation import Conversation
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.replies import Execution, Reply
from workers.sandbox.transfers import pieces

MOST_CELLS = 10_000


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A pseudo-terminal of this size. Raises SpecInvalid for one that no terminal has."""

    rows: int = 24
    columns: int = 80

    def __post_init__(self) -> None:
        if not (0 < self.rows <= MOST_CELLS and 0 < self.columns <= MOST_CELLS):
            raise SpecInvalid("terminal", f"1 to {MOST_CELLS} rows and columns")


class Interaction:
    def __init__(self, conversation: Conversation, request: int, reply: Reply, ending: asyncio.Task[Execution]) -> None:
        self._conversation = conversation
        self._request = request
        self._reply = reply
        self._ending = ending
        self._writing = asyncio.Lock()

    @property
    def ended(self) -> bool:
        return self._reply.ended.done()

    async def write(self, content: bytes) -> bool:
        """Input for the command; returns when it has taken all of it. False: it has ended, or closed its input.

        On a terminal this is what a person types: `\\x03` interrupts, `\\x04` ends the input.
        """
        async for piece in pieces(content):
            if not await self._give(piece, last=False):
                return False
        return not (self.ended or self._reply.deaf)

    async def end_input(self) -> None:
        """The command reads an end of file after what was written."""
        await self._give(b"", last=True)

    async def feed(self, source: bytes | AsyncIterable[bytes]) -> None:
        """Everything of `source`, then the end of the input."""
        async for piece in pieces(source):
            if not await self._give(piece, last=False):
                return
        await self.end_input()

    async def resize(self, terminal: Terminal) -> None:
        """Another size for the terminal; the command gets SIGWINCH. Nothing for a command without one."""
        await self._send("resize", rows=terminal.rows, columns=terminal.columns)

    async def signal(self, number: int) -> None:
        """To the command and everything of its process group."""
        if not 1 <= number <= 64:
            raise SpecInvalid("signal", "1 to 64")
        await self._send("signal", number=number)

    async def wait(self) -> Execution:
        """How it ended. Whoever is cancelled here leaves it running until `open_command` ends."""
        return await asyncio.shield(self._ending)

    async def _give(self, piece: bytes, *, last: bool) -> bool:
        """One piece, behind those of other callers; whether the command is still there to take the next."""
        async with self._writing:
            reply = self._reply
            reply.took.clear()
            if self.ended or reply.deaf:
                return False
            await self._conversation.send(wire.encode("stdin", piece, id=self._request, last=last))
            taken = asyncio.ensure_future(reply.took.wait())
            try:
                waits: set[asyncio.Future[Any]] = {taken, reply.ended}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                taken.cancel()
            return not (self.ended or reply.deaf)

    async def _send(self, kind: str, **fields: Any) -> None:
        if not self.ended:
            await self._conversation.send(wire.encode(kind, id=self._request, **fields))
