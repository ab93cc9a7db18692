"""One conversation with the runner inside a sandbox: code, commands, files, interrupt, release, reseed.

Called by the host, which owns the sandbox and ends it when `usable` turns false: a session gives up, it never kills.
Nothing that comes from inside is trusted: frames are limited and schema-checked (`wire`), output is capped while it
streams (`replies`), every wait has a deadline, and whatever the sandbox does ends in an Execution or a SessionError.
One event loop; one piece of code at a time, commands and files beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from workers.sandbox import wire
from workers.sandbox.errors import (
    FileRefused,
    ProtocolBroken,
    RunnerAbsent,
    RunnerLost,
    SessionBusy,
    SessionError,
    SpecInvalid,
)
from workers.sandbox.replies import Execution, OnOutput, Reply, SessionLimits, execution_of

READ_BYTES = 64 * 1024
FAIRNESS_FRAMES = 64
"""After so many frames everybody else on the loop gets a turn: a flood of tiny frames is always there to read."""
ENTROPY_BYTES = 64
SIGKILL = 9
MAX_PATH_BYTES = 4096
DEFAULT_LIMITS = SessionLimits()


class Session:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: SessionLimits) -> None:
        """Use `open`."""
        self._reader = reader
        self._writer = writer
        self._limits = limits
        # Random, so that what an earlier session left running inside never answers for this one.
        self._last_id = secrets.randbits(40)
        self._pending: dict[int, Reply] = {}
        self._code = 0
        self._interrupted = False
        self._stray_bytes = 0
        self._end: SessionError | None = None
        self._receiving: asyncio.Task[None] | None = None
        self.epoch = secrets.token_hex(16)
        self.python = ""
        """Version of Python inside, as the runner says."""

    @classmethod
    async def open(cls, connection: socket.socket, limits: SessionLimits = DEFAULT_LIMITS) -> Session:
        """Greet the runner on an accepted connection; it has reseeded when this returns.

        Raises RunnerAbsent, RunnerLost, ProtocolBroken; then the connection is closed.
        """
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_BYTES)
        session = cls(reader, writer, limits)
        try:
            async with asyncio.timeout(limits.answer_s):
                await session._greet()
        except TimeoutError as error:
            await session.close()
            raise RunnerAbsent(f"the runner did not greet within {limits.answer_s:g} s") from error
        except BaseException:
            await session.close()
            raise
        session._receiving = asyncio.create_task(session._receive(), name="sandbox session")
        return session

    @property
    def usable(self) -> bool:
        """False once it is released, closed, lost or given up: then only the sandbox's owner can do something."""
        return self._end is None

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    async def run_code(
        self,
        code: str,
        *,
        context: str = "main",
        name: str = "",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Run Python in a namespace that stays. `name`: the file name in tracebacks.

        Ends Succeeded, Failed (an error, a nonzero exit, a runner that died), TimedOut, OutputCapped or Cancelled.
        Raises SessionBusy while other code runs, SessionError when the session is over already, SpecInvalid for code
        over 1 MiB.
        """
        source = code.encode("utf-8", "surrogatepass")
        if len(source) > wire.MAX_PAYLOAD_BYTES:
            raise SpecInvalid("code", f"at most {wire.MAX_PAYLOAD_BYTES} bytes; write it to a file and import that")
        if len(context) > 200 or len(name) > 1000:
            raise SpecInvalid("context", "at most 200 characters, and 1000 for the name")
        if self._code:
            raise SessionBusy("other code runs in this sandbox", hint="wait for it, or interrupt it")
        with self._expect(on_output) as (request, reply):
            self._code, self._interrupted = request, False
            try:
                ask = wire.encode(
                    "run",
                    source,
                    id=request,
                    context=context,
                    name=name,
                    result_bytes=self._limits.result_bytes,
                )
                return await self._conclude(reply, ask, timeout_s, wire.encode("interrupt", id=request))
            finally:
                self._code = 0

    async def run_command(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Run a program inside until it ends; at the deadline or output limit its process group is killed.

        A program that cannot be started ends with code 127, as in a shell. Errors as for `run_code`.
        """
        if not argv:
            raise SpecInvalid("argv", "at least the program")
        with self._expect(on_output) as (request, reply):
            variables = dict(env or {})
            try:
                ask = wire.encode(
                    "command", id=request, argv=list(argv), cwd=cwd or "", env=variables, stdin=bool(stdin)
                )
            except (ValueError, UnicodeError) as error:
                raise SpecInvalid(
                    "argv", f"arguments and environment of at most {wire.MAX_HEADER_BYTES} bytes"
                ) from error
            kill = wire.encode("signal", id=request, number=SIGKILL)
            feeding = asyncio.create_task(self._feed(request, reply, stdin)) if stdin else None
            try:
                return await self._conclude(reply, ask, timeout_s, kill)
            finally:
                if feeding is not None:
                    feeding.cancel()

    async def interrupt(self) -> bool:
        """KeyboardInterrupt in the code that runs; whether any does. Code that ignores it ends at its deadline."""
        if not self._code:
            return False
        self._interrupted = True
        await self._send(wire.encode("interrupt", id=self._code))
        return True

    async def forget(self, context: str) -> None:
        """Drop a namespace. FileRefused where there is none, SessionBusy while code runs."""
        if self._code:
            raise SessionBusy("code runs in this sandbox", hint="wait for it, or interrupt it")
        await self._ask(wire.Ok, "forget", context, context=context)

    async def stream_file(self, path: str, *, max_bytes: int) -> AsyncIterator[bytes]:
        """The file in pieces. Raises FileRefused, with EFBIG as soon as there are more than `max_bytes`."""
        done = 0
        while True:
            message, content = await self._ask(wire.Data, "read", path, path=path, offset=done, size=wire.CHUNK_BYTES)
            done += len(content)
            if done > max_bytes or (isinstance(message, wire.Data) and message.size > max_bytes):
                raise FileRefused(path, "EFBIG", f"it has more than {max_bytes} bytes")
            if not content:
                return
            yield content

    async def read_file(self, path: str, *, max_bytes: int = 16 << 20) -> bytes:
        """A whole file, as opaque bytes. Relative paths start at the sandbox's home."""
        return b"".join([piece async for piece in self.stream_file(path, max_bytes=max_bytes)])

    async def write_file(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Make or replace a file. Not atomic: code inside may see a part of it."""
        for start in range(0, max(1, len(content)), wire.CHUNK_BYTES):
            piece = content[start : start + wire.CHUNK_BYTES]
            await self._ask(wire.Ok, "write", path, piece, path=path, offset=start, mode=mode)

    async def list_files(self, path: str = ".", *, most: int = 10_000) -> list[wire.Entry]:
        """Entries of a folder by name, at most `most`. Raises FileRefused."""
        found: list[wire.Entry] = []
        while len(found) < most:
            after = found[-1].name if found else ""
            message, payload = await self._ask(wire.Entries, "list", path, path=path, after=after)
            page = wire.decode_entries(payload)
            found += page
            if not page or not (isinstance(message, wire.Entries) and message.more):
                break
        return found[:most]

    async def stat(self, path: str) -> wire.Entry:
        """One file; links are not followed. Raises FileRefused."""
        _, payload = await self._ask(wire.Entries, "stat", path, path=path)
        entries = wire.decode_entries(payload)
        if len(entries) != 1:
            raise ProtocolBroken("no description of a file")
        return entries[0]

    async def reseed(self) -> None:
        """New seeds from fresh entropy. A new session after a restore or fork has done it already."""
        await self._ask(wire.Ok, "reseed", "", secrets.token_bytes(ENTROPY_BYTES))

    async def release(self) -> None:
        """The runner closes its connection, so that a checkpoint is possible; it comes back to the next listener.

        Close the listening socket first. Raises SessionBusy while something runs, RunnerAbsent when it does not let go.
        """
        if self.busy:
            raise SessionBusy("something runs in this sandbox", hint="wait for it, or interrupt it")
        await self._send(wire.encode("release"))
        if self._receiving is not None:
            _, late = await asyncio.wait([self._receiving], timeout=self._limits.answer_s)
            if late:
                await self._give_up(RunnerAbsent("the runner did not let go of its connection"))
                raise RunnerAbsent("the runner did not let go of its connection")
        await self.close()

    async def close(self) -> None:
        """End the conversation; what still waits for an answer ends with RunnerLost. Safe to call twice."""
        await self._give_up(RunnerLost("the session is closed"))
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait([self._receiving])

    async def _greet(self) -> None:
        message, _ = await self._frame()
        if not isinstance(message, wire.Hello):
            raise ProtocolBroken("something else than a greeting")
        if message.version != wire.VERSION:
            raise ProtocolBroken(f"version {message.version} of the protocol; this host speaks {wire.VERSION}")
        self.python = message.python
        await self._send(wire.encode("welcome", secrets.token_bytes(ENTROPY_BYTES), epoch=self.epoch))
        while not isinstance(message, wire.Ready):
            message, payload = await self._frame()
            self._count_stray(payload)

    async def _receive(self) -> None:
        end: SessionError = RunnerLost("the runner inside the sandbox is gone", hint="its memory limit may be too low")
        frames = 0
        try:
            while True:
                message, payload = await self._frame()
                reply = self._pending.get(message.id)
                if reply is None:
                    self._count_stray(payload)
                else:
                    await reply.take(message, payload)
                frames += 1
                if frames % FAIRNESS_FRAMES == 0:
                    await asyncio.sleep(0)
        except SessionError as error:
            end = error
        finally:
            await self._give_up(end)

    async def _frame(self) -> tuple[wire.Message, bytes]:
        """Raises RunnerLost at the end of the connection, ProtocolBroken."""
        try:
            header_bytes, payload_bytes = wire.lengths(await self._reader.readexactly(wire.PREFIX.size))
            async with asyncio.timeout(self._limits.frame_s):
                content = await self._reader.readexactly(header_bytes + payload_bytes)
        except (asyncio.IncompleteReadError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise ProtocolBroken(f"a frame that took longer than {self._limits.frame_s:g} s") from error
            hint = "its memory limit may be too low"
            raise RunnerLost("the runner inside the sandbox is gone", hint=hint) from error
        return wire.decode(content[:header_bytes]), content[header_bytes:]

    def _count_stray(self, payload: bytes) -> None:
        """Output of threads that go on after their code, answers that nobody waits for any more."""
        self._stray_bytes += len(payload) + wire.PREFIX.size
        if self._stray_bytes > self._limits.stray_bytes:
            raise ProtocolBroken("too much that nobody asked for")

    @contextlib.contextmanager
    def _expect(self, on_output: OnOutput | None = None) -> Iterator[tuple[int, Reply]]:
        if self._end is not None:
            raise self._end
        self._last_id += 1
        request, reply = self._last_id, Reply(self._limits, on_output)
        self._pending[request] = reply
        try:
            yield request, reply
        finally:
            del self._pending[request]

    async def _ask(
        self, expected: type[wire.Message], kind: str, about: str, payload: bytes = b"", **fields: Any
    ) -> tuple[wire.Message, bytes]:
        """A quick question. Raises FileRefused, RunnerAbsent, RunnerLost, ProtocolBroken."""
        if len(about.encode("utf-8", "replace")) > MAX_PATH_BYTES or "\0" in about:
            raise SpecInvalid("path", f"at most {MAX_PATH_BYTES} bytes, without NUL")
        with self._expect() as (request, reply):
            await self._send(wire.encode(kind, payload, id=request, **fields))
            done, _ = await asyncio.wait([reply.ended], timeout=self._limits.answer_s)
            if not done:
                raise RunnerAbsent(f"the runner did not answer within {self._limits.answer_s:g} s")
            message, content = reply.ended.result()
        if isinstance(message, wire.Refused):
            raise FileRefused(about, message.error, message.message)
        if not isinstance(message, expected):
            raise ProtocolBroken(f"an answer to something else than {kind}")
        return message, content

    async def _conclude(self, reply: Reply, ask: bytes, timeout_s: float | None, stop: bytes) -> Execution:
        """Ask; wait for the end; past the deadline or the cap send `stop`; after the grace give the session up."""
        started = time.monotonic()
        timeout_s = self._limits.wall_s if timeout_s is None else min(timeout_s, self._limits.wall_s)
        timed_out = False
        lost: SessionError | None = None
        overflow = asyncio.create_task(reply.stop.wait())
        try:
            await self._send(ask)
            waits: set[asyncio.Future[Any]] = {reply.ended, overflow}
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not reply.ended.done():
                timed_out = not reply.capped
                await self._send(stop)
                await asyncio.wait([reply.ended], timeout=self._limits.grace_s)
            if not reply.ended.done():
                await self._give_up(RunnerAbsent("the code did not end when it was interrupted"))
            reply.ended.result()
        except SessionError as error:
            lost = error
        except BaseException:
            self._writer.write(stop)  # whoever asked is gone, or failed; what runs inside should not stay
            raise
        finally:
            overflow.cancel()
        wall_s = time.monotonic() - started
        return execution_of(reply, wall_s=wall_s, timed_out=timed_out, interrupted=self._interrupted, lost=lost)

    async def _feed(self, request: int, reply: Reply, stdin: bytes) -> None:
        """One piece at a time: the next only when the command has taken the one before."""
        for start in range(0, len(stdin), wire.CHUNK_BYTES):
            piece, last = stdin[start : start + wire.CHUNK_BYTES], start + wire.CHUNK_BYTES >= len(stdin)
            reply.took.clear()
            with contextlib.suppress(SessionError):  # told to whoever waits for the command itself
                await self._send(wire.encode("stdin", piece, id=request, last=last))
            await reply.took.wait()  # ends with the command, which has a deadline

    async def _send(self, frame: bytes) -> None:
        """Raises RunnerLost when the sandbox does not take it in time."""
        if self._end is not None:
            raise self._end
        try:
            self._writer.write(frame)
            async with asyncio.timeout(self._limits.frame_s):
                await self._writer.drain()
        except OSError as error:  # TimeoutError too
            lost = RunnerLost("the runner inside the sandbox takes nothing any more")
            await self._give_up(lost)
            raise lost from error

    async def _give_up(self, end: SessionError) -> None:
        if self._end is None:
            self._end = end
        for reply in self._pending.values():
            reply.fail(end)
        self._writer.transport.abort()
