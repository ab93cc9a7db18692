"""Files inside, asked for one bounded piece at a time: read, write, list, describe, watch.

The part of a `session` that has to do with files; nothing here opens a file of the host. What comes back is opaque:
contents are bytes, names are for showing and for asking again. Memory stays flat whatever the size of a file.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from workers.sandbox import wire
from workers.sandbox.conversation import Conversation, check_path
from workers.sandbox.errors import FileRefused, ProtocolBroken, RunnerAbsent, SessionError
from workers.sandbox.watch import Watch, WatchReply

MAX_TRANSFER_BYTES = 1 << 50
MOST_SHORT_ANSWERS = 16
"""Of one file or folder: empty pages of a list, pieces smaller than asked for. Files may vanish or grow meanwhile; more
is somebody who wants our time."""


class Transfers(Conversation):
    async def stream_file(self, path: str, *, max_bytes: int = MAX_TRANSFER_BYTES) -> AsyncIterator[bytes]:
        """The file in pieces of at most 256 KiB, each asked for when the one before is used.

        Raises FileRefused, with EFBIG as soon as there are more than `max_bytes`.
        """
        done, clock, short = 0, _Clock(self._limits.transfer_s), 0
        while True:
            with clock:
                message, content = await self._ask(
                    wire.Data, "read", path, deadline=clock.deadline, path=path, offset=done, size=wire.CHUNK_BYTES
                )
            assert isinstance(message, wire.Data)
            done += len(content)
            if done > max_bytes or message.size > max_bytes:
                raise FileRefused(path, "EFBIG", f"it has more than {max_bytes} bytes")
            if content:
                yield content
            if not content or (done >= message.size and len(content) < wire.CHUNK_BYTES):
                return
            short += len(content) < wire.CHUNK_BYTES
            if short > MOST_SHORT_ANSWERS:
                raise ProtocolBroken("a file in crumbs")

    async def read_file(self, path: str, *, max_bytes: int = 16 << 20) -> bytes:
        """A whole file, as opaque bytes. Relative paths start at the sandbox's home."""
        return b"".join([piece async for piece in self.stream_file(path, max_bytes=max_bytes)])

    async def write_file(self, path: str, content: bytes | AsyncIterable[bytes], *, mode: int = 0o644) -> int:
        """Make or replace a file and the folders on its way; its size. Not atomic: code inside may see a part of it.

        An iterable is asked for the next piece when the one before is written. Raises FileRefused (ENOSPC when the
        sandbox's disk is full); what was written until then stays.
        """
        clock = _Clock(self._limits.transfer_s)
        offset = 0
        async for piece in pieces(content):
            with clock:
                fields = {"path": path, "offset": offset, "mode": mode & 0o7777}
                await self._ask(wire.Ok, "write", path, piece, deadline=clock.deadline, **fields)
            offset += len(piece)
        if not offset:
            await self._ask(wire.Ok, "write", path, path=path, offset=0, mode=mode & 0o7777)
        return offset

    async def list_files(self, path: str = ".", *, most: int = 10_000) -> list[wire.Entry]:
        """Entries of a folder by name, at most `most`. Raises FileRefused."""
        found: list[wire.Entry] = []
        after, clock, empty_pages = "", _Clock(self._limits.transfer_s), 0
        while len(found) < most and empty_pages < MOST_SHORT_ANSWERS:
            with clock:
                message, payload = await self._ask(
                    wire.Entries, "list", path, deadline=clock.deadline, path=path, after=after
                )
            assert isinstance(message, wire.Entries)
            page = wire.decode_entries(payload)
            found += page
            empty_pages += not page
            after = message.next
            if not after:
                return found
        if empty_pages == MOST_SHORT_ANSWERS:
            raise ProtocolBroken("a list of files that does not end")
        return found[:most]

    async def stat(self, path: str) -> wire.Entry:
        """One file; links are not followed. Raises FileRefused."""
        _, payload = await self._ask(wire.Entries, "stat", path, path=path)
        entries = wire.decode_entries(payload)
        if len(entries) != 1:
            raise ProtocolBroken("no description of a file")
        return entries[0]

    @contextlib.asynccontextmanager
    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[Watch]:
        """Changes below a folder, or of a file, from now on, while this is held; iterate over it.

        The kernel inside reports them, so what the *host* puts into a mounted folder is not among them. Raises
        FileRefused (ENOSPC above 256 folders).
        """
        check_path(path)
        reply = WatchReply(self._limits)
        with self._expect(reply) as request:
            await self.send(wire.encode("watch", id=request, path=path, recursive=recursive))
            begun = asyncio.ensure_future(reply.begun.wait())
            waits: set[asyncio.Future[Any]] = {reply.ended, begun}
            try:
                await asyncio.wait(waits, timeout=self._limits.answer_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                begun.cancel()
            if reply.ended.done():
                message, _ = reply.ended.result()
                if isinstance(message, wire.Refused):
                    raise FileRefused(path, message.error, message.message)
                raise ProtocolBroken("an answer to something else than watch")
            if not reply.begun.is_set():
                raise RunnerAbsent(f"the runner did not answer within {self._limits.answer_s:g} s")
            try:
                yield Watch(reply)
            finally:
                with contextlib.suppress(SessionError):  # it is over: then there is nothing to end
                    await self.send(wire.encode("unwatch", id=request))
                    await asyncio.wait([reply.ended], timeout=self._limits.answer_s)


async def pieces(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces that a frame can hold."""
    if isinstance(content, bytes):
        content = _once(content)
    async for part in content:
        for start in range(0, len(part), wire.CHUNK_BYTES):
            yield part[start : start + wire.CHUNK_BYTES]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


class _Clock:
    """Time that the sandbox takes over a series of questions, ours between them not counted."""

    def __init__(self, limit_s: float) -> None:
        self._left_s = limit_s
        self._started = 0.0

    @property
    def deadline(self) -> float:
        return self._started + self._left_s

    def __enter__(self) -> None:
        self._started = asyncio.get_running_loop().time()

    def __exit__(self, *_: object) -> None:
        self._left_s -= asyncio.get_running_loop().time() - self._started
